"""What torchrun says of this process, in its environment variables; without it there is one process."""

import os


def rank() -> int:
    """Number of this process, 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def restarts() -> int:
    """How often torchrun started this process in the place of one that died (--max-restarts)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def world_size() -> int:
    """How many processes torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))
