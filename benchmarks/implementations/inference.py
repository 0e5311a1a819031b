"""Inference with torchvision's layout: eager PyTorch, ONNX Runtime, OpenVINO, and ours.

Ours is `--fast`: fully connected layers in int8, convolutions in bf16 on a CPU with bf16 instructions, else in fp32.
The tuned peers have bf16 weights on such a CPU, else fp32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from implementations import Implementation, Work
from implementations.common import batch, fast_dtype, keep_pages
from implementations.training_step import plain_network


def peer_inference(count: int, times: int, views: int = 1, tuned: bool = False, compiled: bool = False) -> Work:
    """Eager fp32 forward passes of torchvision's network, one for each view.

    Tuned: weights in `fast_dtype`, channels_last.
    Compiled: by torch.compile with frozen weights, as the documentation of Inductor advises for a CPU.
    """
    os.environ["TORCHINDUCTOR_FREEZING"] = "1" if compiled else "0"
    import torch

    network, pixels = plain_network("torchvision").eval(), batch(224, 2, count)[0]
    if tuned:
        network = network.to(fast_dtype(), memory_format=torch.channels_last)
        pixels = pixels.to(fast_dtype(), memory_format=torch.channels_last)

    forward = torch.compile(network) if compiled else network

    def work() -> None:
        with torch.no_grad() if compiled else torch.inference_mode():
            for _ in range(times * views):
                forward(pixels)

    return work, count * times


def ours_inference(count: int, times: int) -> Work:
    keep_pages()
    import torch

    from alexnet.architecture.network_presets import arch
    from alexnet.models.alexnet import AlexNet
    from alexnet.models.quantized import FastNetwork

    network = FastNetwork(AlexNet(arch("torchvision")).eval())
    pixels = batch(224, 2, count)[0]

    def work() -> None:
        with torch.inference_mode():
            for _ in range(times):
                network(pixels)

    return work, count * times


def ours_ten_views(count: int) -> Work:
    """Ten-view evaluation of uint8 images, whose forward passes are the ten of the peer."""
    keep_pages()
    import torch

    from alexnet.architecture.network_presets import arch
    from alexnet.data.preprocessing import Preprocess
    from alexnet.inference.evaluate import probabilities
    from alexnet.models.alexnet import AlexNet
    from alexnet.models.quantized import FastNetwork

    layout = arch("torchvision")
    member = (FastNetwork(AlexNet(layout).eval()), Preprocess(layout.input, torch.zeros(1, 1, 3)))
    pixels = torch.randint(0, 256, (count, 256, 256, 3), dtype=torch.uint8)

    def work() -> None:
        with torch.inference_mode():
            probabilities([member], pixels, 10)

    return work, count


def peer_onnx(count: int, times: int) -> Work:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported(), providers=["CPUExecutionProvider"])
    pixels = batch(224, 2, count)[0].numpy()
    name = session.get_inputs()[0].name

    def work() -> None:
        for _ in range(times):
            session.run(None, {name: pixels})

    return work, count * times


def peer_openvino(count: int, times: int) -> Work:
    """In bf16 on processors that support it, as is OpenVINO's default."""
    import openvino
    import torch

    core, hint = openvino.Core(), "bf16" if fast_dtype() == torch.bfloat16 else "f32"
    compiled = core.compile_model(core.read_model(exported()), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    request, pixels = compiled.create_infer_request(), batch(224, 2, count)[0].numpy()

    def work() -> None:
        for _ in range(times):
            request.infer([pixels])

    return work, count * times


def exported() -> str:
    """The path of our network with torchvision's layout, exported to ONNX."""
    import tempfile
    import warnings

    import torch

    file = Path(tempfile.mkdtemp()) / "alexnet.onnx"
    dynamic = {"pixels": {0: torch.export.Dim("batch")}}
    from alexnet.architecture.network_presets import arch
    from alexnet.models.alexnet import AlexNet

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = AlexNet(arch("torchvision")).eval()

        def forward(self, pixels: Any) -> Any:
            return self.network(pixels)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Named(), (batch(224, 2, 2)[0],), str(file), dynamo=True, dynamic_shapes=dynamic,
                          verbose=False, external_data=False)
    return str(file)


IMPLEMENTATIONS: dict[str, Implementation] = {
    "peer-predict-1": lambda folder: peer_inference(1, 30),
    "tuned-predict-1": lambda folder: peer_inference(1, 30, tuned=True),
    "compiled-predict-1": lambda folder: peer_inference(1, 30, tuned=True, compiled=True),
    "onnx-predict-1": lambda folder: peer_onnx(1, 30),
    "openvino-predict-1": lambda folder: peer_openvino(1, 30),
    "ours-predict-1": lambda folder: ours_inference(1, 30),
    "peer-predict-64": lambda folder: peer_inference(64, 1),
    "tuned-predict-64": lambda folder: peer_inference(64, 1, tuned=True),
    "compiled-predict-64": lambda folder: peer_inference(64, 1, tuned=True, compiled=True),
    "onnx-predict-64": lambda folder: peer_onnx(64, 1),
    "openvino-predict-64": lambda folder: peer_openvino(64, 1),
    "ours-predict-64": lambda folder: ours_inference(64, 1),
    "peer-ten-views": lambda folder: peer_inference(12, 1, views=10),
    "tuned-ten-views": lambda folder: peer_inference(12, 1, views=10, tuned=True),
    "compiled-ten-views": lambda folder: peer_inference(12, 1, views=10, tuned=True, compiled=True),
    "ours-ten-views": lambda folder: ours_ten_views(12),
}
