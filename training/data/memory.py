"""How much memory this process may use: the machine's, or less where a container or another control group allows less."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

OWN_GROUPS = Path("/proc/self/cgroup")  # a line for each hierarchy: number, controllers, path; version 2 names no controller
GROUPS = Path("/sys/fs/cgroup")


def limit() -> int:
    """In bytes."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits_of_groups()])


def _limits_of_groups() -> Iterator[int]:
    """Of the groups that this process is in and of those above them, as far as they are seen from here: in a container, the
    root is often its own."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # another system than Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (GROUPS / "memory", "memory.limit_in_bytes") if controllers else (GROUPS, "memory.max")
        group = PurePosixPath(path)
        for above in (group, *group.parents):
            with suppress(OSError, ValueError):  # not seen from here, or "max"
                yield int((root / above.relative_to("/") / name).read_text())
