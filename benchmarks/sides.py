"""One side of a comparison in a process of its own: peers as their documentation has them, peers tuned, and ours.

    python benchmarks/sides.py NAME FOLDER

builds the side called NAME, says so in a line of JSON, then does its work once for each line it reads and answers with
the seconds that took. `bench.py` starts these and asks them in turn, so that two sides share the machine's every mood
but neither an allocator nor a pool of threads. FOLDER holds what `bench.py` prepared: images/ (class folders),
small/ (the same at 256 pixels, as JPEG files), raw/ and jpeg/ (the same packed).

A side is a function of that folder that returns its work, a function without arguments, and how many images it
covers. `peer_...` and `tuned_...` use nothing of ours; `ours_...` uses nothing of theirs.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = tuple[Callable[[], object], int]
BATCH = 128


# --- Networks and steps -----------------------------------------------------------------------------------------------


def plain_network(name: str) -> Any:
    """The layout of a preset in torch's own layers, as a tutorial would write it."""
    from torch import nn

    def conv(number: int, *shape: int, groups: int = 1, norm: bool = False, pool: bool = False) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Conv2d(*shape, groups=groups), nn.ReLU(inplace=True)]
        layers += [nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)] if norm else []
        return layers + ([nn.MaxPool2d(3, 2)] if pool else [])

    if name == "torchvision":
        return torchvision().models.alexnet(num_classes=1000)
    if name == "paper":
        features = [*conv(1, 3, 96, 11, 4, 2, norm=True, pool=True),
                    *conv(2, 96, 256, 5, 1, 2, groups=2, norm=True, pool=True),
                    *conv(3, 256, 384, 3, 1, 1), *conv(4, 384, 384, 3, 1, 1, groups=2),
                    *conv(5, 384, 256, 3, 1, 1, groups=2, pool=True)]
        return nn.Sequential(*features, nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(),
                             nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 1000))
    from alexnet.architecture.presets import arch

    layout = arch(name)
    lrn = layout.lrn
    norm = nn.LocalResponseNorm(lrn.n, lrn.alpha * (1 if lrn.divide_by_n else lrn.n), lrn.beta, lrn.k)
    follows = {"act": nn.ReLU(), "norm": norm,
               "pool": nn.MaxPool2d(layout.pool_kernel, layout.pool_stride, ceil_mode=layout.pool_rounding == "ceil")}
    layers: list[nn.Module] = []
    maps = 3
    for number, one in enumerate(layout.conv, 1):
        layers += [nn.Conv2d(maps, one.width, one.kernel, one.stride, one.padding),
                   *(follows[step] for step in layout.steps(number))]
        maps = one.width
    network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(layout.classes))
    network(batch(layout.input.crop, 2, 2)[0])  # which tells the last layer its size
    return network


def torchvision() -> Any:
    """Its Python module; the operators that only its CUDA build has are declared first (tests/peers.py)."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import peers

    return peers.torchvision()


def crop_of(name: str) -> int:
    from alexnet.architecture.presets import arch

    return arch(name).input.crop


def peer_step(name: str, tuned: bool = False, times: int = 1, bf16: bool = True) -> Work:
    """Eager fp32. Tuned: channels_last, bf16 by autocast and the fused SGD, as torch's performance guide has it."""
    import torch
    import torch.nn.functional as F

    network = plain_network(name).train()
    layout = torch.channels_last if tuned else torch.contiguous_format
    network = network.to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=tuned or None)
    views, labels = batch(crop_of(name), 10 if name == "cifar" else 1000)
    views = views.contiguous(memory_format=layout)

    def step() -> None:
        for _ in range(times):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=tuned and bf16):
                loss = F.cross_entropy(network(views).float(), labels)
            loss.backward()
            optimizer.step()

    return step, BATCH * times


def ours_step(name: str, precision: str, times: int = 1) -> Work:
    as_train_does()
    import torch

    from alexnet._runtime.devices import choose_precision
    from alexnet.architecture.presets import arch, default_recipe
    from alexnet.models.alexnet import AlexNet
    from alexnet.training.optimizer import SGD
    from alexnet.training.precision import MixedPrecision
    from alexnet.training.step import train_step

    layout = arch(name)
    arithmetic = MixedPrecision(choose_precision(precision, "cpu"), torch.device("cpu"))
    network = AlexNet(layout).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = SGD(network, default_recipe(layout))
    views, labels = batch(layout.input.crop, layout.classes)
    views = views.to(arithmetic.dtype_of_views, memory_format=torch.channels_last)

    def step() -> None:
        for _ in range(times):
            train_step(network, optimizer, views, labels, 0.01, arithmetic)

    return step, BATCH * times


def batch(crop: int, classes: int, count: int = BATCH) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    return (torch.randn(count, 3, crop, crop, generator=generator),
            torch.randint(0, classes, (count,), generator=generator))


# --- Limits -----------------------------------------------------------------------------------------------------------


def limit(dtype_name: str) -> Work:
    """The best the processor's matrix product does in this run: a 3x3 convolution of AlexNet's own shape, in GFLOP."""
    import torch
    import torch.nn.functional as F

    dtype = getattr(torch, dtype_name)
    maps = torch.randn(BATCH, 256, 13, 13).to(dtype, memory_format=torch.channels_last)
    kernels = torch.randn(384, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        F.conv2d(maps, kernels, padding=1)

    def work() -> None:
        with torch.no_grad():
            for _ in range(4):
                F.conv2d(maps, kernels, padding=1)

    return work, 4 * 2 * BATCH * 13 * 13 * 384 * 256 * 9 // 10**6  # MFLOP


# --- Response normalization -------------------------------------------------------------------------------------------


def norm_pass(operation: Callable[[Any], Any], layout: str = "contiguous_format", dtype: str = "float32") -> Work:
    """conv1's maps of the paper, batch 128, forward and backward."""
    import torch

    maps = torch.randn(BATCH, 96, 55, 55).to(getattr(torch, dtype), memory_format=getattr(torch, layout))
    maps.requires_grad_()
    above = torch.randn_like(maps)

    def work() -> None:
        operation(maps).backward(above)
        maps.grad = None

    return work, BATCH


def peer_norm(keep: bool) -> Work:
    import torch.nn.functional as F

    if keep:
        keep_pages()
    return norm_pass(lambda maps: F.local_response_norm(maps, 5, 1e-4, 0.75, 2.0))


def ours_norm(dtype: str) -> Work:
    keep_pages()
    from alexnet.architecture.spec import LRN
    from alexnet.models.response_norm import ResponseNorm

    return norm_pass(ResponseNorm(LRN(divide_by_n=True), 96, towers=1), "channels_last", dtype)


def keep_pages() -> None:
    from alexnet._runtime.allocator import set_allocator

    set_allocator()


def as_train_does() -> None:
    """What `alexnet train` sets before it loads torch."""
    from alexnet._runtime.cpu_threads import limit_openmp_spinning

    keep_pages()
    limit_openmp_spinning()


# --- Images ------------------------------------------------------------------------------------------------------


def encoded(folder: Path, count: int = 100) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "images").rglob("*.JPEG"))[:count]]


def peer_packing(folder: Path) -> Work:
    """What most loaders do: Pillow decodes, rescales the shorter side to 256, crops the center. One core."""
    import numpy as np
    from PIL import Image

    images = encoded(folder)

    def one(data: bytes) -> Any:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        width, height = image.size
        shorter = min(width, height)
        image = image.resize((256 * width // shorter, 256 * height // shorter), Image.Resampling.BILINEAR)
        left, top = (image.width - 256) // 2, (image.height - 256) // 2
        return np.asarray(image.crop((left, top, left + 256, top + 256)))

    return lambda: [one(data) for data in images], len(images)


def ours_packing(folder: Path) -> Work:
    keep_pages()
    from alexnet.data.images import decode, square

    images = encoded(folder)
    return lambda: [square(decode(data, "jpeg"), 256) for data in images], len(images)


def pipeline(crop: str, tuned: bool) -> Any:
    """torchvision's reference transforms. Tuned: its second version, on uint8 tensors, as its documentation advises."""
    import torch

    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    vision = torchvision()
    if tuned:
        from torchvision.transforms import v2

        return v2.Compose([v2.PILToTensor(), getattr(v2, crop)(224), v2.RandomHorizontalFlip(),
                           v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, deviation)])
    transforms = vision.transforms
    return transforms.Compose([getattr(transforms, crop)(224), transforms.RandomHorizontalFlip(),
                               transforms.ToTensor(), transforms.Normalize(mean, deviation)])


def peer_loader(folder: Path, workers: int = 2, tuned: bool = False) -> Work:
    """torchvision's reference input pipeline on images that are already small: its decoder is Pillow's."""
    import torch
    from torch.utils.data import DataLoader

    vision = torchvision()
    dataset = vision.datasets.ImageFolder(folder / "small", pipeline("RandomCrop", tuned))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    torch.set_num_threads(1)
    return lambda: [sum(len(labels) for _, labels in loader) for _ in range(3)], 3 * len(dataset)


def peer_webdataset(folder: Path) -> Work:
    """WebDataset's own reader of our shards, Pillow its decoder, two workers, the same augmentation."""
    import torch
    import webdataset
    from torch.utils.data import DataLoader

    shards = sorted(str(path) for path in (folder / "jpeg").glob("train-*.tar"))
    dataset = webdataset.WebDataset(shards, shardshuffle=False).shuffle(200).decode("pil").to_tuple(
        "jpg", "cls").map_tuple(pipeline("RandomCrop", tuned=False), int).batched(BATCH)
    loader = DataLoader(dataset, None, num_workers=min(2, len(shards)), persistent_workers=True)
    torch.set_num_threads(1)
    count = sum(len(labels) for _, labels in loader)
    return lambda: sum(len(labels) for _, labels in loader), count


def ours_loader(folder: Path, codec: str, dtype: str = "float32", passes: int = 1) -> Work:
    """Shards to float batches, with crops, mirrors and color noise besides."""
    as_train_does()
    import torch

    from alexnet.architecture.presets import arch, recipe
    from alexnet.data.augmentation import lighting_basis
    from alexnet.data.loader import batches
    from alexnet.data.packed import open_packed
    from alexnet.data.preprocessing import Preprocess

    packed = open_packed(folder / codec)
    split, way = packed.split("train"), recipe("paper")
    preprocess = Preprocess.from_data(arch("paper").input, packed.mean_HWC)
    lighting = lighting_basis(packed.rgb_covariance, way.lighting_scale)

    def work() -> int:
        seen = 0
        for epoch in range(passes):
            for one in batches(split, BATCH, shuffle=(0, epoch)):
                seen += len(preprocess.training_views(one.pixels, one.indices, way, 0, epoch, lighting,
                                                      getattr(torch, dtype)))
        return seen

    return work, len(split) * passes


def peer_end_to_end(folder: Path, tuned: bool = False) -> Work:
    """torchvision's reference: images from files, RandomResizedCrop, flip, its AlexNet, SGD; two workers.

    Tuned: the second version of its transforms, and the step as in `peer_step`.
    """
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader

    vision = torchvision()
    dataset = vision.datasets.ImageFolder(folder / "images", pipeline("RandomResizedCrop", tuned))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    layout = torch.channels_last if tuned else torch.contiguous_format
    network = vision.models.alexnet(num_classes=1000).train().to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=tuned or None)

    def work() -> None:
        for views, labels in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
                loss = F.cross_entropy(network(views.contiguous(memory_format=layout)).float(), labels)
            loss.backward()
            optimizer.step()

    return work, len(dataset)


def ours_end_to_end(folder: Path) -> Work:
    """`Trainer.train_epoch` on the packed images, without its evaluation; torchvision's layout and recipe."""
    as_train_does()
    import tempfile
    from dataclasses import replace

    from alexnet.architecture.presets import arch, recipe
    from alexnet.data.packed import open_packed
    from alexnet.training.build import build
    from alexnet.training.spec import RunSpec

    packed = open_packed(folder / "raw")
    run = build(RunSpec(packed, replace(arch("torchvision")),
        replace(recipe("torchvision"), batch_size=BATCH, epochs=10**6), Path(tempfile.mkdtemp()),
        precision="auto"))

    def work() -> None:
        run.train_epoch()
        run.state.epoch += 1

    return work, len(run.training)


# --- Answers ----------------------------------------------------------------------------------------------------------


def peer_answers(count: int, times: int, views: int = 1, tuned: bool = False) -> Work:
    """Eager fp32 forwards of torchvision's network, one for each view. Tuned: weights in bf16, channels_last."""
    import torch

    network, pixels = plain_network("torchvision").eval(), batch(224, 2, count)[0]
    if tuned:
        network = network.to(torch.bfloat16, memory_format=torch.channels_last)
        pixels = pixels.to(torch.bfloat16, memory_format=torch.channels_last)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(times * views):
                network(pixels)

    return work, count * times


def ours_answers(count: int, times: int) -> Work:
    keep_pages()
    import torch

    from alexnet.architecture.presets import arch
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
    """`evaluate.probabilities` with ten views, from uint8 images on: what the peer's ten forwards answer."""
    keep_pages()
    import torch

    from alexnet.architecture.presets import arch
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
    """In bf16, which it chooses by itself where the processor has it."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(exported()), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    request, pixels = compiled.create_infer_request(), batch(224, 2, count)[0].numpy()

    def work() -> None:
        for _ in range(times):
            request.infer([pixels])

    return work, count * times


def exported() -> str:
    import tempfile
    import warnings

    import torch

    file = Path(tempfile.mkdtemp()) / "alexnet.onnx"
    dynamic = {"pixels": {0: torch.export.Dim("batch")}}
    from alexnet.architecture.presets import arch
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


SIDES: dict[str, Callable[[Path], Work]] = {
    "limit-bf16": lambda folder: limit("bfloat16"),
    "limit-fp32": lambda folder: limit("float32"),
    "peer-step-paper": lambda folder: peer_step("paper"),
    "tuned-step-paper": lambda folder: peer_step("paper", tuned=True),
    "ours-step-paper": lambda folder: ours_step("paper", "auto"),
    "peer-step-torchvision": lambda folder: peer_step("torchvision"),
    "tuned-step-torchvision": lambda folder: peer_step("torchvision", tuned=True),
    "ours-step-torchvision": lambda folder: ours_step("torchvision", "auto"),
    "tuned-step-torchvision-fp32": lambda folder: peer_step("torchvision", tuned=True, bf16=False),
    "ours-step-torchvision-fp32": lambda folder: ours_step("torchvision", "fp32"),
    "peer-step-cifar": lambda folder: peer_step("cifar", times=10),
    "tuned-step-cifar": lambda folder: peer_step("cifar", tuned=True, times=10),
    "ours-step-cifar": lambda folder: ours_step("cifar", "auto", times=10),
    "peer-norm": lambda folder: peer_norm(keep=False),
    "tuned-norm": lambda folder: peer_norm(keep=True),
    "ours-norm": lambda folder: ours_norm("float32"),
    "ours-norm-bf16": lambda folder: ours_norm("bfloat16"),
    "peer-packing": peer_packing,
    "ours-packing": ours_packing,
    "peer-loader": peer_loader,
    "tuned-loader": lambda folder: peer_loader(folder, tuned=True),
    "peer-webdataset": peer_webdataset,
    "ours-loader-raw": lambda folder: ours_loader(folder, "raw", passes=4),
    "ours-loader-raw-bf16": lambda folder: ours_loader(folder, "raw", "bfloat16", passes=4),
    "ours-loader-jpeg": lambda folder: ours_loader(folder, "jpeg"),
    "peer-end-to-end": peer_end_to_end,
    "tuned-end-to-end": lambda folder: peer_end_to_end(folder, tuned=True),
    "ours-end-to-end": ours_end_to_end,
    "peer-answer-1": lambda folder: peer_answers(1, 30),
    "tuned-answer-1": lambda folder: peer_answers(1, 30, tuned=True),
    "onnx-answer-1": lambda folder: peer_onnx(1, 30),
    "openvino-answer-1": lambda folder: peer_openvino(1, 30),
    "ours-answer-1": lambda folder: ours_answers(1, 30),
    "peer-answer-64": lambda folder: peer_answers(64, 1),
    "tuned-answer-64": lambda folder: peer_answers(64, 1, tuned=True),
    "onnx-answer-64": lambda folder: peer_onnx(64, 1),
    "openvino-answer-64": lambda folder: peer_openvino(64, 1),
    "ours-answer-64": lambda folder: ours_answers(64, 1),
    "peer-ten-views": lambda folder: peer_answers(12, 1, views=10),
    "tuned-ten-views": lambda folder: peer_answers(12, 1, views=10, tuned=True),
    "ours-ten-views": lambda folder: ours_ten_views(12),
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    work, images = SIDES[name](folder)
    work()  # the first time pays for memory, code and caches
    print(json.dumps({"images": images}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds,
                          "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)


if __name__ == "__main__":
    main()
