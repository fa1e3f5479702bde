"""What the client of a service raises."""


class ServiceError(Exception):
    """A service does not give what it was asked for; ``str()`` names its address and the reason."""
