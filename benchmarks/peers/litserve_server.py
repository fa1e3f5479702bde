"""LitServe with batching: one worker process, which decodes and infers, behind one server process."""

import signal

import litserve

from benchmarks.classifier import MAX_BATCH, Classifier
from benchmarks.peers import HOST, port
from models.image.preprocess import Pixels


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.classifier = Classifier()

    def decode_request(self, request: litserve.Request) -> Pixels:
        return self.classifier.decode(request["images"].file.read())  # what comes of a multipart request is its form

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        return inputs

    def predict(self, x: list[Pixels]) -> list[dict[str, object]]:
        return self.classifier.infer(x)


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=0.01)
    # fast_queue (ZeroMQ) is what its documentation advises above 100 requests a second.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # LitServe ends its processes on Ctrl-C alone
    server.run(host=HOST, port=port(), log_level="warning", generate_client_file=False)
