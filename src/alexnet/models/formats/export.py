"""Export a checkpoint to ONNX, OpenVINO, torch.export, torchvision's state dict or a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from alexnet._runtime.atomic_files import replace_file, require_text_name
from alexnet.errors import did_you_mean, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import onnx, torch_export
from alexnet.models.formats.huggingface import write_huggingface
from alexnet.models.formats.input_metadata import describe_input
from alexnet.models.formats.openvino import write_openvino
from alexnet.models.formats.parity import BATCH_SIZES, check_parity
from alexnet.models.formats.torchvision import write_torchvision
from alexnet.models.provenance import license_note

Format = Literal["onnx", "openvino", "torch-export", "torchvision", "safetensors"]
FORMATS: tuple[str, ...] = get_args(Format)


@dataclass(frozen=True)
class ExportResult:
    """What `export` wrote."""

    path: Path
    format: Format
    input: str
    """What the exported network takes, in words."""
    difference: float | None
    """Largest difference from the network's logits, as a fraction of the largest logit; None for weights alone."""
    uncalibrated: str
    """A clause on the temperature that weights alone do not apply; empty if there is none."""
    carries: str
    """What comes back with the weights at an import, in words."""
    license: str
    """The license note of the weights, which the file carries; empty if none is recorded."""
    mean: str = "mean"
    """"mean image" or "mean color", where it is a file of its own."""

    def describe(self) -> str:
        """In sentences: what was written, what it takes, how it was checked; what it carries; the license note."""
        sizes = ", ".join(map(str, BATCH_SIZES))
        if self.format == "torchvision":
            written = f"a state dict under torchvision's keys; its network takes {self.input}"
        elif self.format == "safetensors":
            written = (f"config, weights, {self.mean} and model card, in the Hugging Face hub's layout"
                       f"{self.uncalibrated}")
        else:
            written = (f"takes {self.input}; at batches of {sizes} it differs from the network by "
                       f"{self.difference:.1e} of the largest logit at most, with the same top-1 class")
        license_ = f" License note of the weights, which it also carries: {self.license}." if self.license else ""
        return f"{self.path}: {written}. It carries {self.carries}.{license_}"


def export(saved: Checkpoint, path: Path, to: str, *, from_pixels: bool = False) -> ExportResult:
    """Write a checkpoint in another format; ONNX, OpenVINO and torch.export are run and compared with the network.

    Args:
        saved: the checkpoint.
        path: the file to write; for safetensors, the folder.
        to: one of `FORMATS`.
        from_pixels: let the exported network take stored uint8 images and preprocess them (not torchvision and
            safetensors, which are weights alone); default: it takes float views NCHW, as `Preprocess` gives them.

    Raises:
        UserError: the format is unknown or cannot hold the network, or the written file computes other logits. `path`
            is then unchanged.
    """
    require(to in FORMATS, f"there is no format {to!r}", did_you_mean(to, FORMATS))
    require(not from_pixels or to not in ("torchvision", "safetensors"), f"{to} holds weights and no preprocessing",
            "leave out --from-pixels, or export to FILE.onnx, FILE.xml or FILE.pt2")
    require(to != "openvino" or path.suffix == ".xml", f"an OpenVINO file ends in .xml, and {path} does not",
            "write to FILE.xml; the weights become FILE.bin")
    require_text_name(path)
    require(to == "safetensors" or not path.is_dir(), f"{path} is a folder", "name a file to write")
    views = f"views NCHW, {describe_input(saved)}"
    carried = _carried(saved, to), license_note(saved.provenance)
    if to == "torchvision":
        write_torchvision(saved, path)
        return ExportResult(path, "torchvision", views, None, "", *carried)
    if to == "safetensors":
        write_huggingface(saved, path)
        uncalibrated = ("; other programs must divide its logits by the temperature for calibrated probabilities"
                        if saved.calibration else "")
        mean = f"mean {'image' if saved.arch.input.mean == 'pixel' else 'color'}"
        return ExportResult(path, "safetensors", views, None, uncalibrated, *carried, mean=mean)
    network: nn.Module = saved.network()
    if from_pixels:
        network = nn.Sequential(saved.preprocess(), network)
    network.eval()
    takes = "uint8 images [N, side, side, 3]" if from_pixels else views
    if to == "openvino":
        difference = write_openvino(network, saved, path, from_pixels=from_pixels)
        return ExportResult(path, "openvino", takes, difference, "", *carried)
    module = onnx if to == "onnx" else torch_export
    difference = 0.0

    def write_and_check(temporary: Path) -> None:
        nonlocal difference
        module.write(network, saved, temporary, from_pixels=from_pixels)
        difference = check_parity(network, module.read(temporary), saved, from_pixels=from_pixels)

    replace_file(path, write_and_check)
    return ExportResult(path, "onnx" if to == "onnx" else "torch-export", takes, difference, "", *carried)


def _carried(saved: Checkpoint, to: str) -> str:
    """What a format holds beside the weights."""
    names = "the class names" if saved.class_names_known else "no class names, because they are unknown"
    images = len(saved.seen.trained)
    trained = f"content and perceptual hashes of {images:,} training images" if images and to != "openvino" else (
        "no hashes of training images")
    if saved.seen.unknown and to != "openvino":
        trained += f" (those of {', '.join(saved.seen.unknown)} are not recorded)"
    temperature = ""
    if saved.calibration:
        folded = " (the weights and biases of the last layer are divided by it)" if to == "torchvision" else ""
        if to == "torchvision" and "ten_views" in saved.calibration:
            folded += " but not that of ten views"
        temperature = f"the temperature {saved.calibration['temperature']:.3f}{folded}, "
    return f"the input's size and mean, {names}, {temperature}and {trained}"
