"""Nearest neighbors: the images of a set whose features are nearest to those of given images (§6.1, Figure 4).

`split_features` computes the features of a whole split, and can cache them. `nearest` compares queries with every image
of sets of up to EXACT images; in larger sets, faiss first selects candidates.

Shapes: N images of the reference set, Q queries, D features, M neighbors, C candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.extras import install_line
from alexnet._runtime.local_files import is_writable
from alexnet._runtime.locks import file_lock
from alexnet.data.imagenet_classes import readable
from alexnet.data.packed import PackedSplit
from alexnet.data.perceptual_hash import DISTANCE, is_blank, perceptual_hash
from alexnet.errors import UserError, require
from alexnet.inference.features import Features, feature_batches
from alexnet.inference.predictor import Model

EXACT = 100_000
"""Largest reference set in which every distance is computed; in larger ones, faiss selects candidates."""

BLOCK = 8192
"""Images whose distances are computed at once: 134 MB for 4,096 features each."""

Likeness = Literal["", "same", "near_duplicate"]
"""Whether an image is the query itself, or looks like it (data/perceptual_hash.py)."""

LIKENESS_TEXT = {"": "", "same": "the same image", "near_duplicate": "near duplicate"}

NeighborJson = TypedDict("NeighborJson", {
    "image": str, "class": str, "distance": float, "index": int, "likeness": Likeness})


class Query(NamedTuple):
    """An image whose neighbors are searched, as `likeness` compares it with them."""

    pixels_HWC: NDArray[np.uint8]
    """As `Model.pixels` gives it."""
    content: int | None = None
    """`content_hash` of its file."""


@dataclass(frozen=True)
class Neighbor:
    """An image of the reference set, and its distance from a query."""

    index: int
    """In the split."""
    name: str
    """In the source of the images."""
    label: str
    """Its class."""
    distance: float
    """Euclidean distance between the features."""
    likeness: Likeness = ""

    @property
    def note(self) -> str:
        """What stands beside it: that it is the query itself or a near duplicate, else ""."""
        return LIKENESS_TEXT[self.likeness]

    def to_json(self) -> NeighborJson:
        """`image` (its name), `class`, `distance`, `index` and `likeness`."""
        return {"image": self.name, "class": self.label, "distance": self.distance, "index": self.index,
                "likeness": self.likeness}


def split_features(
    model: Model, split: PackedSplit, layer: str | None = None, *, cache_key: str = "",
    indices: NDArray[np.int64] | None = None, on_progress: Callable[[int, int], object] | None = None,
) -> Features:
    """Compute a layer's output for the center crop of every image of a split: float32 [N, D], maps flattened.

    Args:
        model: the model.
        split: the images.
        layer: as for `Model.features`.
        cache_key: identifies the images; with it the features are kept in the cache, by network, layer and images, and
            read from there next time, unless the cache is read-only. Default: no cache.
        indices: compute those of some images; default: of all.
        on_progress: called with the number of images done, and of all.
    """
    layer = layer or model.feature_layer
    file = cache_folder() / "features" / f"{_fingerprint(model, layer, cache_key)}.npy" if cache_key else None
    if file is not None and file.is_file():
        return np.load(file, mmap_mode="r")
    if file is not None and not is_writable(file.parent):  # a container with a read-only root
        file = None
    indices = np.arange(len(split)) if indices is None else indices
    shape = len(indices), model.features(split.read_one(0), layer).flatten(1).shape[1]

    def fill(features_ND: Features) -> None:
        done = 0
        for features_nD in feature_batches(model, split, layer, indices=indices):
            features_ND[done : done + len(features_nD)] = features_nD
            done += len(features_nD)
            if on_progress:
                on_progress(done, len(indices))

    def write(path: Path) -> None:  # as a memory map: the features may be larger than the memory
        features_ND = open_memmap(path, "w+", np.float32, shape)
        fill(features_ND)
        features_ND.flush()

    if file is not None:
        with file_lock(file.with_suffix(".lock")):
            if not file.is_file():  # another process may have computed them meanwhile
                replace_file(file, write)
        return np.load(file, mmap_mode="r")
    features_ND: Features = np.empty(shape, np.float32)
    fill(features_ND)
    return features_ND


def _fingerprint(model: Model, layer: str, images: str) -> str:
    """A hash of everything that decides the features."""
    digest = hashlib.sha256(f"{layer} {images} {model.preprocess.spec}".encode())
    for name, tensor in [*model.network.state_dict().items(), ("mean", model.preprocess.mean_HWC)]:
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()[:32]


def nearest(queries_QD: Features, reference_ND: Features, count: int) -> tuple[NDArray[np.int64], Features]:
    """Find the `count` nearest of each query: their rows [Q, M], nearest first, and Euclidean distances [Q, M].

    Raises:
        UserError: there are more than EXACT images, and faiss is not installed.
    """
    total = len(reference_ND)
    count = min(count, total)
    if total <= EXACT:
        blocks = [np.arange(begin, min(begin + BLOCK, total)) for begin in range(0, total, BLOCK)]
        return _nearest_of(queries_QD, reference_ND, [blocks] * len(queries_QD), count)
    candidates_QC = _candidates(queries_QD, reference_ND, max(256, 20 * count))
    return _nearest_of(queries_QD, reference_ND, [[row[row >= 0]] for row in candidates_QC], count)


def _nearest_of(
    queries_QD: Features, reference_ND: Features, candidates: Sequence[Sequence[NDArray[np.int64]]], count: int,
) -> tuple[NDArray[np.int64], Features]:
    """The nearest of each query's candidates, which are given in blocks of rows."""
    rows_QM = np.empty((len(queries_QD), count), np.int64)
    distances_QM = np.empty((len(queries_QD), count), np.float32)
    for number, (query_D, blocks) in enumerate(zip(queries_QD, candidates, strict=True)):
        # Differences, because rounding in |a|^2 - 2ab + |b|^2 would lose the small distances.
        distances_C = np.concatenate([np.linalg.norm(reference_ND[block] - query_D, axis=1) for block in blocks])
        rows_C = np.concatenate(blocks)
        best = np.lexsort((rows_C, distances_C))[:count]  # the first image of those at the same distance
        rows_QM[number], distances_QM[number] = rows_C[best], distances_C[best]
    return rows_QM, distances_QM


def _candidates(queries_QD: Features, reference_ND: Features, count: int) -> NDArray[np.int64]:
    """Rows of about the nearest images, from 128 principal components of one byte each.

    They take 164 MB for 1.28 million images, whose features take 21 GB.
    """
    total, units = reference_ND.shape
    try:
        import faiss
    except ImportError:
        raise UserError(f"exact search is limited to {EXACT:,} images, and there are {total:,}",
                        f"install faiss ({install_line('neighbors')}), or give a smaller reference set") from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    generator = np.random.default_rng(0)
    lists = int(4 * total**0.5)
    index = faiss.index_factory(units, f"PCA{min(128, units)},IVF{lists},SQ8")
    sample = np.sort(generator.choice(total, min(total, 40 * lists), replace=False))
    index.train(np.ascontiguousarray(reference_ND[sample]))
    for begin in range(0, total, BLOCK):
        index.add(np.ascontiguousarray(reference_ND[begin : begin + BLOCK]))
    # A sixteenth of the lists, more than usual: the exact distances then decide among many candidates.
    faiss.extract_index_ivf(index).nprobe = max(1, lists // 16)
    return index.search(np.ascontiguousarray(queries_QD), min(count, total))[1]


def likeness(query: Query, split: PackedSplit, index: int) -> Likeness:
    """Whether an image of a split has the query's file, pixels or perceptual hash, or nearly the same hash.

    A small distance between features does not tell: a network may give many images the same features.
    """
    if query.content is not None and query.content == int(split.content_hashes[index]):
        return "same"
    if np.array_equal(query.pixels_HWC, split.read_one(index)):
        return "same"
    hashes_22 = np.stack([perceptual_hash(query.pixels_HWC), split.perceptual_hashes[index]])
    if is_blank(hashes_22).any():
        return ""
    bits = int(np.bitwise_count(hashes_22[0] ^ hashes_22[1]).sum())
    return "near_duplicate" if 0 < bits <= DISTANCE else "" if bits else "same"


def find_neighbors(
    queries_QD: Tensor, reference_ND: Features, split: PackedSplit, classes: Sequence[str], count: int = 6,
    indices: NDArray[np.int64] | None = None, *, queries: Sequence[Query],
) -> list[list[Neighbor]]:
    """Find the nearest images of a split to each query, nearest first.

    Args:
        queries_QD: features, as `Model.features` gives them.
        reference_ND: features of the split's images, as `split_features` gives them.
        split: the reference set.
        classes: its classes.
        count: neighbors of each query; Figure 4 has six.
        indices: the images that `reference_ND` is of; default: all.
        queries: the images that `queries_QD` is of, to recognize them in the reference set.
    """
    require(count >= 1, f"--count {count} must be at least 1")
    rows_QM, distances_QM = nearest(queries_QD.flatten(1).float().cpu().numpy(), reference_ND, count)
    indices_QM = rows_QM if indices is None else indices[rows_QM]
    return [[Neighbor(int(index), split.names[index], classes[split.labels[index]], float(distance),
                      likeness(query, split, int(index)))
             for index, distance in zip(indices_M, distances_M, strict=True)]
            for query, indices_M, distances_M in zip(queries, indices_QM, distances_QM, strict=True)]


def class_of_folder(image: Path, classes: Sequence[str]) -> str:
    """The class that an image's folder is named after, by name or WordNet number; "" if it is none of `classes`."""
    name = readable(image.resolve().parent.name)
    return name if name in classes else ""
