"""`alexnet.features`: a layer's output for all images of a data set as arrays, for scikit-learn and other software."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from alexnet._runtime.arguments import optional_text
from alexnet._runtime.notes import say, silent
from alexnet.api.opening import open_data
from alexnet.errors import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import device as Device

    from alexnet.inference.predictor import Model


@dataclass(frozen=True, eq=False)
class LabeledFeatures:
    """Features of images and their classes: `features, labels = alexnet.features(...)`.

    The others are not among the two that are unpacked, so that scikit-learn takes these as they are.
    """

    features: NDArray[np.float32]
    """[N, D]: a row for each image, in the order of the data."""
    labels: NDArray[np.int64]
    """[N]: class numbers, which are indices into `classes`."""
    names: tuple[str, ...]
    """[N]: the images' names in the data, in the same order, as `alexnet features` writes them."""
    splits: tuple[str, ...]
    """[N]: the split of each image."""
    classes: tuple[str, ...]
    """Names of the classes of the data, which need not be those of the network."""
    layer: str
    """Whose outputs these are."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """The features, and then the labels."""
        return iter((self.features, self.labels))


def features(
    data: str | PathLike[str], *, model: str | PathLike[str] | Model | None = None, split: str | None = None,
    layer: str | None = None, pool: bool = False, labels: str | PathLike[str] | None = None,
    group: str | PathLike[str] | None = None, device: str | Device = "auto", progress: bool = True,
) -> LabeledFeatures:
    """Compute a layer's output for the center crop of every image, without training anything.

    The arrays are held in memory. `alexnet features` writes a file batch by batch.

    Args:
        data: A folder or archive of images, a packed folder, `cifar10`, `cifar100`, `embedded`, or the URL of a
            packed folder.
        model: A loaded model, a run folder, a checkpoint or a name of weights, as for `alexnet.load`. Default: the
            pretrained network in the package.
        split: A split such as `train` or `val`. Default: all of them, one after the other.
        layer: A layer's name, such as `conv5`, `fc6` or `relu7`. Default: the activations of the last hidden layer.
        pool: Average each feature map over its rows and columns, instead of flattening the maps.
        labels, group: As for `alexnet.train`. A network that was trained with `group` needs the same here, or `val` has
            other images.
        device: `auto`, `cpu`, `cuda` or `cuda:1`. A loaded model stays on its device.
        progress: Print notes and a progress bar on standard error.

    Raises:
        UserError: The data has no such split, or the network no such layer.
    """
    import numpy as np

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.data.class_names import printable, valid_utf8
    from alexnet.inference.features import check_layer, feature_batches, output_layer_note
    from alexnet.inference.predictor import Model, load

    split, layer = optional_text("split", split), optional_text("layer", layer)
    loaded = model if isinstance(model, Model) else load(model, choose_device(device))
    layer = layer or loaded.feature_layer
    check_layer(loaded, layer, pool)
    if progress and (line := output_layer_note(loaded, layer)):
        say(f"note: {line}")
    packed = open_data(data, loaded.preprocess.spec.side, note=say if progress else silent, progress=progress,
                       labels=labels, group=group, division=split is not None, splits=(split,) if split else ())
    splits = (split,) if split else packed.splits
    images = packed.split(*splits)
    require(len(images) > 0, f"{packed.source} has no images in {split}", "choose another split")
    batches = []
    with Bar(f"features of {layer}", "images") if progress else nullcontext() as bar:
        for batch in feature_batches(loaded, images, layer, pool=pool):
            batches.append(batch)
            if bar:
                bar(sum(map(len, batches)), len(images))
    return LabeledFeatures(
        np.concatenate(batches), np.array(images.labels), tuple(map(valid_utf8, images.names)),
        tuple(name for name in splits for _ in range(len(packed.split(name)))), tuple(map(printable, packed.classes)),
        layer)
