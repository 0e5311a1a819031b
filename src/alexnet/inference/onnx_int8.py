"""`alexnet export --int8`: quantize a network to int8 for onnxruntime, calibrated on images, and measure what changes.

onnxruntime.quantization does the work. Convolutions and fully connected layers compute in 8 bits; everything else stays
in float32, response normalization too, whose squares have too large a range.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.extras import install_line
from alexnet.data.packed import PackedSplit
from alexnet.errors import UserError, require
from alexnet.inference.held_apart import HeldApart, held_apart
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import onnx as onnx_files
from alexnet.models.formats.parity import example_input, exporter_silenced
from alexnet.models.stored_network import QUANTIZED_KEY

CALIBRATION_IMAGES = 256
"""Images whose activations set the range of 8 bits of each layer. They are taken evenly from those given."""

MEASURED_IMAGES = 1000
"""Images on which the answers are compared, at most."""

_BATCH_SIZE = 32

Step = Callable[[int, int], object]
"""Called with the images done and of all."""


@dataclass(frozen=True)
class Int8Result:
    """What `export_int8` wrote, and how its answers differ from the network's."""

    path: Path
    bytes: int
    float_bytes: int
    """Of the same network as an ONNX file in float32."""
    calibrated_on: int
    """Images of `calibration` that set the ranges: training images, or where the data have none, half of the others."""
    images: int
    """Images of `measured` that both networks classified."""
    apart: HeldApart
    """What of `measured` was left out, as it has something in common with the images that set the ranges."""
    agreement: float
    """Fraction of them with the same top-1 class."""
    top1_error: float
    """Of the int8 file on them."""
    float_top1_error: float
    """Of the network in float32 on them."""


def export_int8(
    saved: Checkpoint, path: Path, calibration: PackedSplit, measured: PackedSplit, label_map: Tensor, *,
    from_pixels: bool = False, on_progress: Step | None = None,
) -> Int8Result:
    """Write an int8 ONNX file and compare its answers with the network's.

    Args:
        saved: the network.
        path: the file to write.
        calibration: images of the kind that the network will see, at the side of its stored images.
        measured: other images, on which the answers are compared, without the copies, siblings and near duplicates of
            the images that set the ranges.
        label_map: from the classes of `measured` to the network's: int64.
        from_pixels: as for `export`.
        on_progress: called while the answers are compared.

    Raises:
        UserError: there are no images, or a package of the `export` extra is missing. `path` is then unchanged.
    """
    require(len(calibration) > 0 and len(measured) > 0, "int8 needs images to calibrate on and others to measure on",
            "give a data set with training and validation images")
    network = nn.Sequential(saved.preprocess(), saved.network()) if from_pixels else saved.network()
    calibrating = calibration.sample(CALIBRATION_IMAGES)
    apart = held_apart(calibration.subset(np.sort(calibrating)), measured)
    require(bool(apart.kept_M.any()), f"all {len(measured):,} other images are in a group with calibration images, "
            "or copies of them", "give images of other groups")
    measured = measured if apart.kept_M.all() else measured.subset(np.flatnonzero(apart.kept_M))
    found: dict[str, Any] = {}

    def write(temporary: Path) -> None:
        with tempfile.TemporaryDirectory(dir=temporary.parent) as folder:
            whole = Path(folder) / "float32.onnx"
            onnx_files.write_program(
                network.eval(), example_input(saved, 2, from_pixels), [onnx_files.input_name(from_pixels)],
                ["logits"], whole, onnx_files.readable_metadata(saved, from_pixels=from_pixels))
            found["float_bytes"] = whole.stat().st_size
            _quantize(whole, temporary, _inputs(saved, calibration, calibrating, from_pixels))
        found.update(_compare(saved, temporary, measured, label_map, from_pixels, on_progress))

    replace_file(path, write)
    return Int8Result(path, path.stat().st_size, calibrated_on=len(calibrating), apart=apart, **found)


def _inputs(
    saved: Checkpoint, split: PackedSplit, indices: NDArray[np.int64], from_pixels: bool,
) -> Iterator[NDArray[Any]]:
    """The network's input for these images of a split, in batches."""
    preprocess = saved.preprocess()
    for first in range(0, len(indices), _BATCH_SIZE):
        pixels_NHWC = torch.from_numpy(split.read(indices[first:first + _BATCH_SIZE]))
        yield (pixels_NHWC if from_pixels else preprocess(pixels_NHWC).contiguous()).numpy()


def _quantize(whole: Path, path: Path, inputs: Iterator[NDArray[Any]]) -> None:
    """Quantize an ONNX file, with the range of each layer's activations on these inputs."""
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise UserError(f"int8 needs {error.name}", install_line("export")) from error
    fused = whole.with_name("fused.onnx")
    with exporter_silenced():
        quant_pre_process(str(whole), str(fused), skip_symbolic_shape=True)  # fuses batch normalization
        model = onnx.load(fused)
        (entry,) = model.graph.input
        # An 8-bit sum of products saturates on processors without VNNI, unless the weights have 7 bits.
        quantize_static(
            model, str(path), _Reader(entry.name, inputs), quant_format=QuantFormat.QDQ, per_channel=True,
            reduce_range=True, op_types_to_quantize=["Conv", "Gemm", "MatMul"], nodes_to_exclude=_band_sums(model))
    quantized = onnx.load(path)
    onnx.helper.set_model_props(quantized, {
        **{entry.key: entry.value for entry in quantized.metadata_props if not entry.key.startswith("onnx.")},
        QUANTIZED_KEY: "int8: convolutions and fully connected layers, weights and activations"})
    onnx.save(quantized, path)


class _Reader:
    """What onnxruntime calls a CalibrationDataReader."""

    def __init__(self, name: str, inputs: Iterator[NDArray[Any]]) -> None:
        self.name, self.inputs = name, inputs

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self.inputs, None)
        return None if batch is None else {self.name: batch}


def _band_sums(model: Any) -> list[str]:
    """The names of response normalization's sums over neighboring maps, which are 1x1 convolutions of squares."""
    squares = {output for node in model.graph.node if node.op_type in ("Mul", "Pow") for output in node.output}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[0] in squares]


def _compare(
    saved: Checkpoint, path: Path, split: PackedSplit, label_map: Tensor, from_pixels: bool, on_progress: Step | None,
) -> dict[str, Any]:
    """The fields of `Int8Result` that compare the answers."""
    network = nn.Sequential(saved.preprocess(), saved.network()) if from_pixels else saved.network()
    run, indices = onnx_files.read(path), split.sample(MEASURED_IMAGES)
    expected, got = [], []
    for batch in _inputs(saved, split, indices, from_pixels):
        inputs = torch.from_numpy(batch)
        with torch.inference_mode():
            expected.append(network(inputs).argmax(1).numpy())
        got.append(run(inputs).argmax(1))
        if on_progress:
            on_progress(sum(map(len, got)), len(indices))
    ours_N, theirs_N = np.concatenate(expected), np.concatenate(got)
    truth_N = label_map[torch.from_numpy(split.labels[indices])].numpy()
    return {"images": len(indices), "agreement": float((ours_N == theirs_N).mean()),
            "top1_error": float((theirs_N != truth_N).mean()), "float_top1_error": float((ours_N != truth_N).mean())}
