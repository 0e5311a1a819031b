"""Features: a layer's output for every image of a data set, written to a .npz or .parquet file batch by batch.

Shapes: N images, D features.
"""

from __future__ import annotations

import json
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.extras import install_line
from alexnet._runtime.ranks import OneProcess, Ranks
from alexnet.data.class_names import printable, valid_utf8
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import UserError, require
from alexnet.inference.classifier import BATCH_SIZE
from alexnet.inference.predictor import Model

Features = NDArray[np.float32]

ENDINGS = (".npz", ".parquet")


@dataclass(frozen=True)
class FeatureFile:
    """What `write_features` wrote."""

    path: Path
    images: int
    features: int
    """Numbers of each image."""
    layer: str
    pooled: bool


class FeatureBatch(NamedTuple):
    """The features of a few images, with what is known about each image."""

    features_nD: Features
    names: list[str]
    labels_n: NDArray[np.int64]
    splits: list[str]


def feature_batches(
    model: Model, split: PackedSplit, layer: str, *, indices: NDArray[np.int64] | None = None, pool: bool = False,
) -> Iterator[Features]:
    """Yield a layer's output for the center crops of images, in batches of at most BATCH_SIZE: float32 [n, D].

    Args:
        model: the model.
        split: the images.
        layer: as for `Model.features`.
        indices: of the images; default: all, in order.
        pool: average each feature map over its rows and columns; default: flatten the maps.
    """
    indices = np.arange(len(split)) if indices is None else indices
    for begin in range(0, len(indices), BATCH_SIZE):
        pixels_NHWC = split.read(indices[begin : begin + BATCH_SIZE])
        yield _flat(model.features(list(pixels_NHWC), layer), pool)


def _flat(outputs: Tensor, pool: bool) -> Features:
    flat_ND: Features = (outputs.mean((2, 3)) if pool else outputs.flatten(1)).float().cpu().numpy()
    return flat_ND


def check_layer(model: Model, layer: str, pool: bool) -> None:
    """Raise UserError for an unknown layer, and for pooling a layer that has no feature maps."""
    network = model.plain_network
    network.named_layer(layer)
    with_maps = network.layer_names()[: len(network.features) + bool(network.arch.average_pool)]
    require(not pool or layer in with_maps,
            f"{layer} has no feature maps to average", "leave out --pool, or choose a layer such as conv5 or pool5")


def output_layer_note(model: Model, layer: str) -> str:
    """Say that a layer's outputs are the scores of the classes, where another network's layer of that name is hidden.

    fc7 is a hidden layer of the paper's network, and the output layer of a network with one hidden layer. "" for any
    other layer.
    """
    arch = model.plain_network.arch
    last = len(arch.conv) + len(arch.dense) + 1
    if layer != f"fc{last}":
        return ""
    hidden = f"its last hidden layer is fc{last - 1}" if arch.dense else "it has no hidden layer"
    return f"{layer} is the output layer of {arch.name}, with a score for each class; {hidden}"


def require_parquet() -> Any:
    """The modules `pyarrow` and `pyarrow.parquet`. Raises UserError if the `parquet` extra is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("writing Parquet needs pyarrow", f"{install_line('parquet')}, or write .npz") from error
    return pyarrow


def write_features(
    path: Path, model: Model, packed: PackedDataset, splits: Sequence[str], *, checkpoint: str, layer: str,
    pool: bool = False, on_progress: Callable[[int, int], object] | None = None, ranks: Ranks | None = None,
) -> FeatureFile:
    """Write the features of all images of some splits. Only a few batches of them are in memory at a time.

    A .npz file holds the arrays `features` float32 [N, D], `names`, `labels` int64 (indices into `classes`), `splits`,
    `classes`, `layer` and `checkpoint`. A .parquet file has the columns `name`, `label`, `class`, `split` and
    `features`, and the rest as its metadata.

    Args:
        path: file to write, .npz or .parquet.
        model, packed, splits: the network, and the images.
        checkpoint: SHA-256 of the weights.
        layer, pool: as for `feature_batches`.
        on_progress: called with the number of images done, and of all.
        ranks: the processes that share the work, each whole batches; rank 0 writes. Default: this one alone.
    """
    ranks = ranks or OneProcess()
    check_layer(model, layer, pool)
    parts = {name: packed.split(name) for name in splits}
    images = sum(map(len, parts.values()))
    require(images > 0, f"{packed.source} has no images in {' and '.join(splits)}", "choose another split")
    example = next(split for split in parts.values() if len(split))
    units = next(feature_batches(model, example, layer, indices=np.zeros(1, np.int64), pool=pool)).shape[1]
    about = {"layer": f"{layer}, pooled" if pool else layer, "checkpoint": checkpoint}

    bounds = [(name, begin, min(begin + BATCH_SIZE, len(split)))
              for name, split in parts.items() for begin in range(0, len(split), BATCH_SIZE)]
    own = (next(feature_batches(model, parts[name], layer, indices=np.arange(begin, end), pool=pool))
           for name, begin, end in bounds[ranks.rank :: ranks.size])
    in_order = ranks.in_order(own, len(bounds))

    def batches() -> Iterator[FeatureBatch]:
        done = 0
        for (name, begin, end), features_nD in zip(bounds, in_order, strict=True):
            split = parts[name]
            yield FeatureBatch(features_nD, [valid_utf8(each) for each in split.names[begin:end]],
                               split.labels[begin:end], [name] * (end - begin))
            done += end - begin
            if on_progress:
                on_progress(done, images)

    written = FeatureFile(path, images, units, layer, pool)
    if ranks.rank:
        deque(in_order, maxlen=0)
        return written
    classes = [printable(name) for name in packed.classes]
    write = _write_parquet if path.suffix == ".parquet" else _write_npz
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: write(temporary, batches(), (images, units), classes, about))
    return written


def _write_npz(
    path: Path, batches: Iterator[FeatureBatch], shape: tuple[int, int], classes: Sequence[str],
    about: dict[str, str],
) -> None:
    names, labels, splits = list[str](), [np.empty(0, np.int64)], list[str]()
    with zipfile.ZipFile(path, "w") as archive:

        def member(name: str) -> IO[bytes]:
            return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)

        with member("features") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for batch in batches:
                file.write(batch.features_nD.astype("<f4").tobytes())
                names += batch.names
                labels.append(batch.labels_n)
                splits += batch.splits
        arrays = {"names": names, "labels": np.concatenate(labels), "splits": splits, "classes": classes, **about}
        for name, values in arrays.items():
            with member(name) as file:
                np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)


def _write_parquet(
    path: Path, batches: Iterator[FeatureBatch], shape: tuple[int, int], classes: Sequence[str],
    about: dict[str, str],
) -> None:
    arrow = require_parquet()
    schema = arrow.schema(
        [("name", arrow.string()), ("label", arrow.int64()), ("class", arrow.string()), ("split", arrow.string()),
         ("features", arrow.list_(arrow.float32(), shape[1]))],
        metadata={**about, "classes": json.dumps(classes)})
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for batch in batches:
            rows = arrow.FixedSizeListArray.from_arrays(arrow.array(batch.features_nD.ravel()), shape[1])
            writer.write_table(arrow.table(
                [batch.names, batch.labels_n, [classes[label] for label in batch.labels_n], batch.splits, rows],
                schema=schema))
