"""Lengths of time for people. Neighbours: train.py says how long it will go on, report/page.py how long it took."""


def words(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is read most easily."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def left(seconds: float, done: int, total: int) -> str:
    """What remains after ``done`` of ``total`` alike steps have taken ``seconds``; empty at the end."""
    return f"about {words(seconds / done * (total - done))} left" if 0 < done < total else ""
