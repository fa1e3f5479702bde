"""Every system that is measured: how it is started and how it is asked. Each has its own environment."""

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One row of the table.

    group: dependency group of pyproject.toml that its environment, .venv-bench/<group>, is made of; "" stands for the
    environment that serves Hubel itself (.venv-serve).
    distribution: the Python package whose installed version is printed with the title; "" for Hubel.
    command: arguments after the interpreter. The server listens on 127.0.0.1 at the port that the environment variable
    BENCH_PORT names, and ends with all its processes on SIGTERM.
    path: where one image is posted. Any 200 answer is JSON with one "label" and one "probability", at any depth.
    content: how one image is sent: "raw", the body; "multipart", a form with one file, in the field ``field``.
    many: whether ``path`` takes several images in one multipart request.
    environment: variables that it needs besides.
    """

    name: str
    title: str
    group: str
    distribution: str
    command: tuple[str, ...]
    path: str
    content: str = "raw"
    field: str = "images"
    many: bool = False
    environment: tuple[tuple[str, str], ...] = ()


HUBEL = System("hubel", "Hubel", "", "", ("-m", "service"), "/v1/classify", many=True)
SYSTEMS: tuple[System, ...] = (
    HUBEL,
    System(
        "litserve",
        "LitServe",
        "bench-litserve",
        "litserve",
        ("-m", "benchmarks.peers.litserve_server"),
        "/predict",
        content="multipart",
    ),
    System("mosec", "mosec", "bench-mosec", "mosec", ("-m", "benchmarks.peers.mosec_server"), "/inference"),
    System(
        "ray",
        "Ray Serve",
        "bench-ray",
        "ray",
        ("-m", "benchmarks.peers.ray_server"),
        "/",
        # No telemetry; and its own ports on 127.0.0.1, too, as on a Mac (but for one of the replica's, which is fixed).
        environment=(("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")),
    ),
    System(
        "fastapi",
        "FastAPI and ONNX Runtime",
        "bench-fastapi",
        "fastapi",
        ("-m", "benchmarks.peers.fastapi_server"),
        "/classify",
        content="multipart",
        field="file",
    ),
    System(
        "bentoml",
        "BentoML",
        "bench-bentoml",
        "bentoml",
        ("-m", "benchmarks.peers.bentoml_server"),
        "/classify",
        content="multipart",
    ),
)
