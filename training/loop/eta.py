"""How long a run will still take."""

import time


class Pace:
    """Seconds an epoch, since this process began to train, times the epochs that are left."""

    def __init__(self, epoch: int, epochs: int) -> None:
        self.began, self.first, self.epochs = time.monotonic(), epoch, epochs

    def left(self, done: float) -> str:
        """The time left, such as "about 12 min left"; ``done`` counts epochs, whole ones and a part of one."""
        if done <= self.first:
            return ""
        seconds = (time.monotonic() - self.began) / (done - self.first) * (self.epochs - done)
        return f"about {spoken(seconds)} left"


def spoken(seconds: float) -> str:
    """A duration as people say it: seconds below two minutes, minutes below two hours, then hours and minutes."""
    minutes = round(seconds / 60)
    if seconds < 119.5:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
