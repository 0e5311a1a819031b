"""Which images of a set lie nearest to a given one, by the distance of their last hidden layers (§6.1, Figure 4).

`features_of` runs a whole split through a network once and keeps what comes out in the user's cache. `nearest` compares
what is asked about with every image of up to EXACT; of more, faiss chooses candidates that are then compared.

Shapes: N images of the set, Q asked about, D units of the layer, M nearest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from alexnet.data.imagenet_classes import readable
from alexnet.data.sources.detect import cache_folder
from alexnet.inference.predictor import BATCH, Model

if TYPE_CHECKING:
    from alexnet.data.packed import PackedSplit


Features = NDArray[np.float32]

EXACT = 100_000
"""Images up to which every distance is worked out; beyond, faiss looks for candidates."""

BLOCK = 8192
"""Images whose distances are worked out at once: 134 MB of 4,096 features each."""


@dataclass(frozen=True)
class Neighbor:
    """An image of the set, and how far it is."""

    index: int
    """Its place in the split."""
    name: str
    """In its source."""
    label: str
    """Its class."""
    distance: float
    """Euclidean, between the outputs of the layer."""

    def to_json(self) -> dict[str, Any]:
        return {"photo": self.name, "class": self.label, "distance": self.distance, "index": self.index}


def features_of(
    model: Model, split: PackedSplit, layer: str | None = None, *, keep_as: str = "",
    indices: NDArray[np.int64] | None = None, on_progress: Callable[[int, int], object] | None = None,
) -> Features:
    """What a layer gives for the central view of every image of a split: float32 [N, D], a map's values in a row.

    layer: as for `Model.features`, the last hidden layer's outputs unless said. indices: of some of the split's
    images. keep_as: what the images are known by; with it the answer is kept in the cache, by network, layer
    and images, and found there the next time.
    """
    layer = layer or model.feature_layer
    place = cache_folder() / "features" / f"{_fingerprint(model, layer, keep_as)}.npy" if keep_as else None
    if place is not None and place.is_file():
        return np.load(place, mmap_mode="r")
    indices = np.arange(len(split)) if indices is None else indices
    units = model.features(split.read(np.arange(1))[0], layer).flatten(1).shape[1]
    if place is None:
        features_ND: Features = np.empty((len(indices), units), np.float32)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".part")
        features_ND = open_memmap(partial, "w+", np.float32, (len(indices), units))
    for begin in range(0, len(indices), BATCH):
        pixels_NHWC = split.read(indices[begin : begin + BATCH])
        features_ND[begin : begin + BATCH] = model.features(list(pixels_NHWC), layer).flatten(1).cpu().numpy()
        if on_progress:
            on_progress(min(begin + BATCH, len(indices)), len(indices))
    if place is not None:
        features_ND.flush()  # type: ignore[attr-defined]  # a memory map's, whole on disk before it gets its name
        partial.replace(place)
    return features_ND


def _fingerprint(model: Model, layer: str, images: str) -> str:
    """Of everything that decides the features."""
    digest = hashlib.sha256(f"{layer} {images} {model.preprocess.spec}".encode())
    for name, tensor in [*model.network.state_dict().items(), ("mean", model.preprocess.mean_HWC)]:
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()[:32]


def nearest(asked_QD: Features, among_ND: Features, count: int) -> tuple[NDArray[np.int64], Features]:
    """The `count` nearest of each, nearest first: their places [Q, M] and Euclidean distances [Q, M].

    Exact for up to EXACT images. Raises ValueError for more where faiss is not installed.
    """
    count = min(count, len(among_ND))
    if len(among_ND) <= EXACT:
        candidates = [np.arange(begin, min(begin + BLOCK, len(among_ND))) for begin in range(0, len(among_ND), BLOCK)]
        return _best(asked_QD, among_ND, [candidates] * len(asked_QD), count)
    found_QC = _candidates(asked_QD, among_ND, max(256, 20 * count))
    return _best(asked_QD, among_ND, [[row[row >= 0]] for row in found_QC], count)


def _best(
    asked_QD: Features, among_ND: Features, candidates: Sequence[Sequence[NDArray[np.int64]]], count: int,
) -> tuple[NDArray[np.int64], Features]:
    """Of each one's candidates, given in blocks, the nearest."""
    places_QM = np.empty((len(asked_QD), count), np.int64)
    distances_QM = np.empty((len(asked_QD), count), np.float32)
    for row, (asked_D, blocks) in enumerate(zip(asked_QD, candidates, strict=True)):
        # Differences, not |a|^2 - 2ab + |b|^2, which loses the small distances that matter here to rounding.
        distances_N = np.concatenate([np.linalg.norm(among_ND[block] - asked_D, axis=1) for block in blocks])
        places_N = np.concatenate(blocks)
        best = np.lexsort((places_N, distances_N))[:count]  # the earlier image where two are as far
        places_QM[row], distances_QM[row] = places_N[best], distances_N[best]
    return places_QM, distances_QM


def _candidates(asked_QD: Features, among_ND: Features, count: int) -> NDArray[np.int64]:
    """Places of about the nearest, by 128 principal axes in a byte each: 1.28 million images take 164 MB, not 21
    GB."""
    try:
        import faiss
    except ImportError:
        raise ValueError(f"{len(among_ND):,} images are more than the {EXACT:,} that are compared one by one; "
                         "install faiss (pip install 'alexnet[neighbors]'), or name a smaller set") from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    generator = np.random.default_rng(0)
    lists = int(4 * len(among_ND) ** 0.5)
    index = faiss.index_factory(among_ND.shape[1], f"PCA{min(128, among_ND.shape[1])},IVF{lists},SQ8")
    sample = np.sort(generator.choice(len(among_ND), min(len(among_ND), 40 * lists), replace=False))
    index.train(np.ascontiguousarray(among_ND[sample]))
    for begin in range(0, len(among_ND), BLOCK):
        index.add(np.ascontiguousarray(among_ND[begin : begin + BLOCK]))
    # A sixteenth of the lists: more than is usual, for the true distances decide among many candidates in the end.
    faiss.extract_index_ivf(index).nprobe = max(1, lists // 16)
    return index.search(np.ascontiguousarray(asked_QD), min(count, len(among_ND)))[1]


def neighbors(
    asked_QD: Tensor, among_ND: Features, split: PackedSplit, classes: Sequence[str], count: int = 6,
    indices: NDArray[np.int64] | None = None,
) -> list[list[Neighbor]]:
    """The nearest images of a split to each of Q; six in Figure 4.

    asked: as `Model.features` gives it. among: as `features_of` gives it, of all the split or of `indices`.
    """
    if count < 1:
        raise ValueError(f"--count {count} must be at least 1")
    places_QM, distances_QM = nearest(asked_QD.flatten(1).float().cpu().numpy(), among_ND, count)
    if indices is not None:
        places_QM = indices[places_QM]
    return [[Neighbor(int(place), split.names[place], classes[split.labels[place]], float(distance))
             for place, distance in zip(places_M, distances_M, strict=True)]
            for places_M, distances_M in zip(places_QM, distances_QM, strict=True)]


def class_of(photo: Path, classes: Sequence[str]) -> str:
    """The class that an image's folder is called after, by name or WordNet's number; "" where it is none."""
    name = readable(photo.resolve().parent.name)
    return name if name in classes else ""
