"""model.onnx -> the same network with 8-bit activations and 7-bit weights: static quantization, QDQ format.

A processor without VNNI adds pairs of products in 16 bits, where those of 8-bit weights overflow and those of 7-bit ones do not.
Ranges of the activations are taken on training images that models.image.preprocess decoded, never on those that the accuracy is
measured on.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

BATCH = 16
OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"]


class Images(CalibrationDataReader):
    """pixels: (n, height, width, 3) uint8, given out in batches."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.begins = iter(range(0, len(pixels), BATCH))
        self.pixels = pixels

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:  # type: ignore[override]
        begin = next(self.begins, None)
        return None if begin is None else {"images": self.pixels[begin : begin + BATCH]}


def quantize(source: Path, target: Path, pixels: NDArray[np.uint8]) -> None:
    """Write ``target``, the graph of ``source`` in int8: one scale a channel for weights, one a tensor for activations.

    pixels: (n, height, width, 3) uint8, calibration images.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it warns of every bias
        try:
            quantize_static(
                prepared,
                target,
                Images(pixels),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            logging.getLogger().setLevel(level)
