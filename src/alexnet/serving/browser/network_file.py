"""The ONNX file of the page: stored uint8 images in, and out come the logits and the output of every layer.

Weights are stored in fp16 where that changes no probability by more than `FP16_TOLERANCE`; the arithmetic is float32.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import onnx as onnx_files
from alexnet.models.formats.parity import example_input
from alexnet.serving.samples import generated_patterns

FP16_TOLERANCE = 5e-4
"""The largest change of a probability that fp16 weights may cause: half of what the page promises."""

_LARGE = 1000
"""Tensors with fewer numbers stay in float32: biases and statistics are a thousandth of the file."""


@dataclass(frozen=True)
class NetworkFile:
    """An ONNX file, and how its weights are stored."""

    data: bytes
    precision: str
    """Of the stored weights: `fp16` or `fp32`."""
    difference: float
    """The largest difference of a probability from the network's, by onnxruntime on this machine's CPU."""
    images: int
    """The test images, noise and generated patterns, on which the difference was measured."""


class Walk(nn.Module):
    """Preprocessing and network, whose outputs are the logits, then `names`: the view, every layer, every convolution's
    weights and biases."""

    def __init__(self, saved: Checkpoint) -> None:
        super().__init__()
        self.preprocess: nn.Module = saved.preprocess()
        self.network: AlexNet = saved.network()
        self.layers = [name for name in self.network.layer_names() if not name.startswith("dropout")]

    @property
    def names(self) -> list[str]:
        """The outputs after the logits."""
        return ["view", *self.layers, *(f"{name}.{part}" for name, _ in self._convolutions()
                                        for part in ("weight", "bias"))]

    def _convolutions(self) -> list[tuple[str, nn.Conv2d]]:
        return [(name, layer) for name, layer in self.network.weight_layers() if isinstance(layer, nn.Conv2d)]

    def forward(self, pixels_NHWC: Tensor) -> tuple[Tensor, ...]:
        network, value = self.network, self.preprocess(pixels_NHWC)
        outputs = [value]
        for name in self.layers:
            layer = network.named_layer(name)
            value = layer(value.flatten(1) if isinstance(layer, nn.Linear) else value)
            outputs.append(value)
        weights = [parameter.clone() for _, layer in self._convolutions() for parameter in layer.parameters()]
        return value / network.temperature, *outputs, *weights


def make_network_file(saved: Checkpoint) -> NetworkFile:
    """Export the network with all of its layers' outputs, and compare it with the network.

    Raises:
        UserError: a package of the `export` extra is missing, or the file computes other probabilities.
    """
    walk = Walk(saved).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_files.write_program(
            walk, example_input(saved, 2, from_pixels=True), ["pixels"], ["logits", *walk.names], path,
            onnx_files.readable_metadata(saved, from_pixels=True))
        whole = path.read_bytes()
        path.write_bytes(half := _with_fp16_weights(whole))
        images_NHWC = _test_images(saved)
        difference = _difference(walk, path, images_NHWC)
        if difference <= FP16_TOLERANCE:
            return NetworkFile(half, "fp16", difference, len(images_NHWC))
        path.write_bytes(whole)
        difference = _difference(walk, path, images_NHWC)
    if not difference <= FP16_TOLERANCE:
        raise UserError(f"the file of the page gives other probabilities than the network, by {difference:.1e}",
                        "nothing was written; this is a fault of alexnet or of onnxruntime")
    return NetworkFile(whole, "fp32", difference, len(images_NHWC))


def _with_fp16_weights(data: bytes) -> bytes:
    """The same model with its large float32 tensors stored in fp16, each followed by a cast."""
    import onnx

    model = onnx.load_model_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > _LARGE:
            name = tensor.name
            with np.errstate(over="ignore"):  # an infinity fails the comparison
                tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data_out: bytes = model.SerializeToString()
    return data_out


def _test_images(saved: Checkpoint) -> Tensor:
    """Noise and generated patterns: uint8 [N, side, side, 3]."""
    patterns = torch.from_numpy(np.stack([*generated_patterns(saved.arch.input.side).values()]))
    return torch.cat([example_input(saved, 7, from_pixels=True), patterns])


def _difference(walk: Walk, path: Path, pixels_NHWC: Tensor) -> float:
    """The largest difference of a probability between the network and its file on these images."""
    run = onnx_files.read(path, "logits")
    with torch.inference_mode():
        expected_NK = walk(pixels_NHWC)[0].softmax(1)
    got_NK = torch.from_numpy(run(pixels_NHWC)).softmax(1)
    return float((expected_NK - got_NK).abs().max().nan_to_num(torch.inf))
