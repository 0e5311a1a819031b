"""OpenVINO files (.xml and .bin): converted from our ONNX file, with the same metadata, and run by OpenVINO."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.extras import install_line
from alexnet.errors import UserError
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import onnx
from alexnet.models.formats.parity import Runner, check_parity, example_input

METADATA = "alexnet"
"""Path in the model's rt_info: under it stand the entries that the ONNX file has as metadata."""


def write_openvino(network: nn.Module, saved: Checkpoint, path: Path, *, from_pixels: bool) -> float:
    """Write PATH.xml and PATH.bin for any batch size, run them, and compare the logits with the network's.

    Args:
        path: the .xml file. The weights, in float32, become the .bin file beside it.

    Returns:
        The largest difference between logits, as a fraction of the largest logit.

    Raises:
        UserError: OpenVINO or a package of the `export` extra is missing, or the files compute other logits. The
            files that are there already are then unchanged.
    """
    openvino = _openvino()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        onnx.write_program(network, example_input(saved, 2, from_pixels), [onnx.input_name(from_pixels)], ["logits"],
                           Path(folder) / "net.onnx", metadata={})
        model = openvino.Core().read_model(Path(folder) / "net.onnx")
        for key, text in onnx.readable_metadata(saved, from_pixels=from_pixels).items():
            model.set_rt_info(text, [METADATA, key])
        new = Path(folder) / path.name
        openvino.save_model(model, new, compress_to_fp16=False)
        difference = check_parity(network, read(new), saved, from_pixels=from_pixels)
        for file in (new.with_suffix(".bin"), new):
            replace_file(path.with_name(file.name), lambda place, file=file: file.rename(place))  # type: ignore[misc]
    return difference


def read(path: Path) -> Runner:
    """Load a file into OpenVINO, on the CPU, in float32: by default it computes in bf16 where the processor can."""
    openvino = _openvino()
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: compiled(inputs.numpy())[0]


def _openvino() -> Any:
    """The package openvino. UserError: it is not installed."""
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise UserError("OpenVINO files need openvino", install_line("openvino")) from error
