"""A limit of the GPU's memory, shared out among the sessions of a version: each has an arena of its own."""

from collections.abc import Sequence

MB = 1_000_000
WEIGHTS = 2  # times the graph's file: its weights, and for a moment a copy in another order


def shares(limit: int, sizes: Sequence[int], graph: int) -> dict[int, int]:
    """Bytes for the session of each size: the weights, and of the rest by how many images it computes; all 0 without a limit.

    limit, graph: bytes of all, and of the graph's file.

    Raises:
        ValueError: the weights alone need more.
    """
    if not limit:
        return dict.fromkeys(sizes, 0)
    weights = WEIGHTS * graph
    rest = limit - weights * len(sizes)
    if rest < len(sizes):
        least = weights * len(sizes) // MB + 1
        raise ValueError(
            f"the weights, once for each of {len(sizes)} batch sizes, need more than {least}; lower HUBEL_MAX_BATCH too"
        )
    return {size: weights + rest * size // sum(sizes) for size in sizes}
