"""A checkpoint -> the files that other runtimes load: ONNX and torch.export, each checked against the network it is of.

What is written takes any number of images at once. `export` also leads to the formats of weights.py.
Shapes: N images, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.atomic_files import replace_file
from alexnet.architecture.overrides import to_json
from alexnet.errors import did_you_mean, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import write_hub
from alexnet.models.formats.torchvision import write_torchvision

Format = Literal["onnx", "torch-export", "torchvision", "safetensors"]
FORMATS: tuple[str, ...] = get_args(Format)

#: Numbers of images at which a written file is asked for the same answers as the network.
BATCHES = (1, 2, 7)
TOLERANCE = 1e-4
"""The largest difference of a logit that passes, as a share of the largest logit."""


class FromPixels(nn.Module):
    """Preprocessing and network in one: uint8 images [N, side, side, 3], RGB, to logits NK of the central view."""

    def __init__(self, saved: Checkpoint) -> None:
        super().__init__()
        self.network = saved.network()
        self.preprocess = saved.preprocess()
        spec = self.preprocess.spec
        start = (spec.side - spec.crop) // 2
        self.rows = slice(start, start + spec.crop)
        mean_HWC = self.preprocess.mean_HWC.expand(spec.side, spec.side, 3)[self.rows, self.rows]
        self.register_buffer("mean_HWC", mean_HWC.clone())
        self.register_buffer("scale_C", self.preprocess.scale_C)
        self.mean_HWC: Tensor
        self.scale_C: Tensor

    def forward(self, pixels_NHWC: Tensor) -> Tensor:
        views_NHWC = (pixels_NHWC[:, self.rows, self.rows].float() - self.mean_HWC) / self.scale_C
        views_NHWC = views_NHWC.flip(-1) if self.preprocess.spec.channels == "BGR" else views_NHWC
        return self.network(views_NHWC.permute(0, 3, 1, 2))


def export(saved: Checkpoint, dest: Path, to: str, *, from_pixels: bool = False) -> str:
    """Write `saved` in that format, and return a sentence on what was written and how it was checked.

    from_pixels: of ONNX and torch.export, one that takes stored uint8 images and preprocesses them itself;
    else it takes float views NCHW, as `Preprocess` makes them.
    Raises ValueError for an unknown format, a network that the format cannot hold, or a file that answers otherwise
    than the network; then nothing is left at `dest`, or what was there.
    """
    require(to in FORMATS, f"there is no format {to!r}; {did_you_mean(to, FORMATS)}")
    require(not from_pixels or to in ("onnx", "torch-export"),
          f"{to} holds weights and no preprocessing; leave out --from-pixels, or choose onnx or torch-export")
    require(to == "safetensors" or not dest.is_dir(), f"{dest} is a folder; name a file to write")
    if to == "torchvision":
        write_torchvision(saved, dest)
        return (f"{dest}: a state dict under torchvision's keys; its input wants {_input_in_words(saved)}; it holds no "
                "names of classes, which alexnet import takes from --classes FILE")
    if to == "safetensors":
        write_hub(saved, dest)
        return f"{dest}: config, weights, mean image and model card, in the Hugging Face hub's layout"
    network = (FromPixels(saved) if from_pixels else saved.network()).eval()
    write, read = (_write_onnx, _read_onnx) if to == "onnx" else (_write_program, _read_program)
    worst = 0.0

    def write_and_check(path: Path) -> None:
        nonlocal worst
        write(network, saved, path)
        worst = parity(network, read(path), saved)

    replace_file(dest, write_and_check)
    takes = "uint8 images [N, side, side, 3]" if from_pixels else f"views NCHW, {_input_in_words(saved)}"
    return (f"{dest}: takes {takes}; at batches of {', '.join(map(str, BATCHES))} it differs from the network by "
            f"{worst:.1e} of the largest logit at most, with the same top-1")


def _input_in_words(saved: Checkpoint) -> str:
    spec = saved.arch.input
    mean = {"pixel": "the mean image", "channel": "the mean color"}.get(str(spec.mean), f"{spec.mean}")
    scale = "" if spec.scale == (1.0, 1.0, 1.0) else f", divided by {spec.scale}"
    return f"{spec.channels}, {spec.crop}x{spec.crop}, 0..255 less {mean}{scale}"


def parity(network: nn.Module, answer: Callable[[Tensor], NDArray[np.float32]], saved: Checkpoint) -> float:
    """The largest difference from the network's logits, as a share of the largest, over the `BATCHES` of random pixels.

    Raises ValueError above the `TOLERANCE`, or where an image gets another class.
    """
    spec, worst = saved.arch.input, 0.0
    generator = torch.Generator().manual_seed(0)
    for count in BATCHES:
        inputs = torch.randint(0, 256, (count, spec.side, spec.side, 3), dtype=torch.uint8, generator=generator)
        if not isinstance(network, FromPixels):
            inputs = saved.preprocess()(inputs).contiguous()
        with torch.inference_mode():
            expected_NK = network(inputs).numpy()
        require(bool(np.isfinite(expected_NK).all()), "the network's own answers are not finite, so its training had "
              "diverged, or its numbers are too large; export an earlier checkpoint")
        got_NK = answer(inputs)
        require(got_NK.shape == expected_NK.shape, f"what was written answers {count} images with {got_NK.shape}, "
              f"and the network with {expected_NK.shape}; this is a fault of ours or of the runtime")
        largest = max(np.abs(expected_NK).max(), np.finfo(np.float32).tiny)
        difference = float(np.abs(got_NK - expected_NK).max() / largest)
        # The class that it names must be the network's own, or one that ties with it within the tolerance.
        named_N = np.take_along_axis(expected_NK, got_NK.argmax(1)[:, None], 1)[:, 0]
        require(difference <= TOLERANCE and bool((named_N >= expected_NK.max(1) - TOLERANCE * largest).all()),
              f"what was written differs from the network by {difference:.1e} of the largest logit, and {TOLERANCE:g} "
              "is allowed; it is thrown away, and this is a fault of ours or of the runtime")
        worst = max(worst, difference)
    return worst


def _example(network: nn.Module, saved: Checkpoint) -> Tensor:
    """An input of two images: the exporters take one or none for a constant."""
    spec = saved.arch.input
    if isinstance(network, FromPixels):
        return torch.zeros(2, spec.side, spec.side, 3, dtype=torch.uint8)
    return torch.zeros(2, 3, spec.crop, spec.crop)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks on packages that are absent and functions that it deprecates in itself."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


# --- ONNX -------------------------------------------------------------------------------------------------------------


def _write_onnx(network: nn.Module, saved: Checkpoint, path: Path) -> None:
    try:
        import onnxruntime  # noqa: F401  # it checks what is written
        import onnxscript  # noqa: F401  # torch's exporter is written in it
    except ImportError as error:
        raise ValueError(f"ONNX needs {error.name}; pip install 'alexnet[export]'") from error
    with _quietly():
        program = torch.onnx.export(
            network, (_example(network, saved),), dynamo=True, dynamic_shapes=({0: torch.export.Dim("images")},),
            input_names=["pixels" if isinstance(network, FromPixels) else "views"], output_names=["logits"],
            verbose=False)
        assert program is not None
        program.model.metadata_props.update({
            "classes": json.dumps(saved.classes), "arch": json.dumps(to_json(saved.arch)),
            "provenance": json.dumps(saved.provenance), "input": _input_in_words(saved)})
        program.save(str(path))


def _read_onnx(path: Path) -> Callable[[Tensor], NDArray[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: inputs.numpy()})[0]


# --- torch.export -----------------------------------------------------------------------------------------------------


def _write_program(network: nn.Module, saved: Checkpoint, path: Path) -> None:
    with _quietly():
        program = torch.export.export(
            network, (_example(network, saved),), dynamic_shapes=({0: torch.export.Dim("images")},))
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={"classes.json": json.dumps(saved.classes)})


def _read_program(path: Path) -> Callable[[Tensor], NDArray[np.float32]]:
    with _quietly(), path.open("rb") as file:
        module = torch.export.load(file).module()

    def answer(inputs: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return module(inputs).numpy()

    return answer
