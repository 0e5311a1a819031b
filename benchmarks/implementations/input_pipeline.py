"""From image files to batches, and on to a trained step: packing, loaders, whole epochs."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from implementations import BATCH, Implementation, Work
from implementations.common import fast_dtype, keep_pages, prepare_process, torchvision


def encoded(folder: Path, count: int = 100) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "images").rglob("*.JPEG"))[:count]]


def peer_packing(folder: Path) -> Work:
    """Pillow decodes, resizes the shorter side to 256, and crops the center, as most loaders do. One core."""
    import numpy as np
    from PIL import Image

    images = encoded(folder)

    def center_square(data: bytes) -> Any:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        width, height = image.size
        shorter = min(width, height)
        image = image.resize((256 * width // shorter, 256 * height // shorter), Image.Resampling.BILINEAR)
        left, top = (image.width - 256) // 2, (image.height - 256) // 2
        return np.asarray(image.crop((left, top, left + 256, top + 256)))

    return lambda: [center_square(data) for data in images], len(images)


def ours_packing(folder: Path) -> Work:
    keep_pages()
    from alexnet.data.images import decode
    from alexnet.data.square import square

    images = encoded(folder)
    return lambda: [square(decode(data, "jpeg"), 256) for data in images], len(images)


def pipeline(crop: str, tuned: bool) -> Any:
    """torchvision's reference transforms; tuned: transforms.v2 on uint8 tensors, as its documentation advises."""
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
    """torchvision's reference input pipeline on images of 256 pixels, decoded by Pillow."""
    import torch
    from torch.utils.data import DataLoader

    vision = torchvision()
    dataset = vision.datasets.ImageFolder(folder / "small", pipeline("RandomCrop", tuned))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    torch.set_num_threads(1)
    return lambda: [sum(len(labels) for _, labels in loader) for _ in range(3)], 3 * len(dataset)


def peer_webdataset(folder: Path) -> Work:
    """Our shards read by the webdataset package: two workers, decoded by Pillow, the same augmentation."""
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
    """Packed shards to float batches with random crops, mirroring and color noise."""
    prepare_process()
    import torch

    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.recipe_presets import recipe
    from alexnet.data.augmentation import lighting_basis
    from alexnet.data.loader import batches
    from alexnet.data.packed import open_packed
    from alexnet.data.preprocessing import Preprocess

    packed = open_packed(folder / codec)
    split, paper = packed.split("train"), recipe("paper")
    preprocess = Preprocess.from_data(arch("paper").input, packed.mean_HWC)
    lighting = lighting_basis(packed.rgb_covariance, paper.lighting_scale)

    def work() -> int:
        seen = 0
        for epoch in range(passes):
            for loaded in batches(split, BATCH, shuffle=(0, epoch)):
                seen += len(preprocess.training_views(loaded.pixels, loaded.indices, paper, 0, epoch, lighting,
                                                      getattr(torch, dtype)))
        return seen

    return work, len(split) * passes


def peer_end_to_end(folder: Path, tuned: bool = False) -> Work:
    """torchvision's reference: image files, RandomResizedCrop, flip, its AlexNet, SGD; two workers.

    Tuned: transforms.v2, and the step as in `training_step.peer_step`.
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
            with torch.autocast("cpu", torch.bfloat16, enabled=tuned and fast_dtype() == torch.bfloat16):
                loss = F.cross_entropy(network(views.contiguous(memory_format=layout)).float(), labels)
            loss.backward()
            optimizer.step()

    return work, len(dataset)


def ours_end_to_end(folder: Path) -> Work:
    """An epoch of our trainer on packed images, without the evaluation; torchvision's layout and recipe."""
    prepare_process()
    import tempfile
    from dataclasses import replace

    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.recipe_presets import recipe
    from alexnet.data.packed import open_packed
    from alexnet.training.build import build
    from alexnet.training.spec import RunSpec

    packed = open_packed(folder / "raw")
    endless = replace(recipe("torchvision"), batch_size=BATCH, epochs=10**6)
    run = build(RunSpec(packed, arch("torchvision"), endless, Path(tempfile.mkdtemp()), precision="auto",
                        save_minutes=math.inf))

    def work() -> None:
        run.train_epoch()
        run.state.next_epoch()

    return work, len(run.training)


IMPLEMENTATIONS: dict[str, Implementation] = {
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
}
