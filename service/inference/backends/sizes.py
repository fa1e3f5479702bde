"""Which sizes of batches are computed; a batch between two of them is filled up to the next."""

EVERY_SIZE = 16  # batches up to this size are computed as they are, larger ones are filled up to the next warm size


def sizes(max_batch: int) -> tuple[int, ...]:
    """Each up to EVERY_SIZE, then in steps of half a power of two."""
    found = {*range(1, min(max_batch, EVERY_SIZE) + 1), max_batch}
    step = EVERY_SIZE
    while step < max_batch:
        found |= {size for size in (step * 3 // 2, step * 2) if size < max_batch}
        step *= 2
    return tuple(sorted(found))


def doubled(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, … and ``max_batch``: few, where each of them has a session of its own."""
    return (*(1 << power for power in range((max_batch - 1).bit_length())), max_batch)
