"""Ray Serve with dynamic request batching: one replica behind its HTTP proxy, on a Ray of its own."""

import contextlib
import signal

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.classifier import MAX_BATCH, Classifier
from benchmarks.peers import HOST, port
from models.image.preprocess import Pixels


# The default of 5 would never fill a batch; this lets the next ones gather while one runs.
@serve.deployment(num_replicas=1, max_ongoing_requests=4 * MAX_BATCH, logging_config={"enable_access_log": False})
class Peer:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.01)
    async def infer(self, images: list[Pixels]) -> list[dict[str, object]]:
        return self.classifier.infer(images)

    async def __call__(self, request: Request) -> dict[str, object]:
        return await self.infer(self.classifier.decode(await request.body()))


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then end all of Ray's processes."""
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray Serve ends on Ctrl-C alone
    serve.start(http_options={"host": HOST, "port": port()}, logging_config={"enable_access_log": False})
    with contextlib.suppress(KeyboardInterrupt):
        serve.run(Peer.bind(), blocking=True)


if __name__ == "__main__":
    main()
