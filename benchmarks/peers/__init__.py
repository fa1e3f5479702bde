"""The servers that Hubel is compared with, each as its own documentation builds it, around the same Classifier."""

import os

HOST = "127.0.0.1"


def port() -> int:
    """Where to listen, as the benchmark says."""
    return int(os.environ["BENCH_PORT"])
