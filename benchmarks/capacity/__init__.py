"""How many machines a load needs: what one request costs is measured, the queues are simulated, and a page says the rest."""
