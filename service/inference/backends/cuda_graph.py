"""A session whose work for batches of one size is recorded once, as a CUDA graph, and from then on only started.

That saves the processor's time to start each of some hundred kernels. A recorded graph reads and writes where it did when it
was recorded: the GPU's memory for pixels and results is taken once, and pixels are put into it in place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from models.image.preprocess import Pixels

OPTIONS = {"enable_cuda_graph": "1"}  # of the provider
GRAPH = "gpu_graph_id"  # of a run: which recorded graph it starts; another number for each
NONE = "-1"  # neither recorded nor a recorded one
PREPARING = 2  # runs before the one that is recorded, in which nothing may take memory of the GPU any more


class GraphSession:
    """``session``: an InferenceSession, opened with OPTIONS. For one thread: ONNX Runtime records anew for each that runs it.

    shape: of the pixels, (size, height, width, 3). outputs: the shapes of the graph's outputs, without the batch. Those that
    are a vector for each image are bound; where another is asked for, the graph is not used. graph: its number.

    Raises:
        ONNX Runtime's own errors: it cannot be recorded.
    """

    def __init__(self, session: Any, shape: Sequence[int], outputs: Mapping[str, Sequence[int]], graph: str = "0") -> None:
        self.session = session
        bound = {name: rows for name, rows in outputs.items() if len(rows) <= 1}
        self.images = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.uint8, "cuda", 0)
        self.values = {
            name: onnxruntime.OrtValue.ortvalue_from_shape_and_type([shape[0], *rows], np.float32, "cuda", 0)
            for name, rows in bound.items()
        }
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input("images", self.images)
        for name, value in self.values.items():
            self.binding.bind_ortvalue_output(name, value)
        self.once, self.unrecorded = _options(graph), _options(NONE)
        self.images.update_inplace(np.zeros(shape, np.uint8))
        for options in (*[self.unrecorded] * PREPARING, self.once):
            session.run_with_iobinding(self.binding, options)

    def run(self, output_names: Sequence[str], input_feed: dict[str, Pixels], /) -> list[Any]:
        """Arrays of the outputs named; the pixels are contiguous and have the session's shape."""
        if not set(output_names) <= self.values.keys():
            return list(self.session.run(list(output_names), input_feed, self.unrecorded))
        self.images.update_inplace(input_feed["images"])
        self.session.run_with_iobinding(self.binding, self.once)
        return [self.values[name].numpy() for name in output_names]


def _options(graph: str) -> Any:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH, graph)
    return options
