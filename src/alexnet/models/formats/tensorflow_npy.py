"""bvlc_alexnet.npy: Caffe's AlexNet as ports to TensorFlow load it, a pickled dict of NumPy arrays, read safely.

Layout of the port (ethereon/caffe-tensorflow): convolutions HWIO; fully connected layers [inputs, outputs]; fc6 reads
the maps in the order row, column, map, where torch has map, row, column. The network is Caffe's
(network_presets.CAFFE): its input is blue, green, red of 227x227, minus a mean of 104, 117, 124
(kratzert/finetune_alexnet_with_tensorflow).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.architecture.network_presets import CAFFE
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.state_dict import assumed_names, check_state_dict, name_outputs
from alexnet.models.provenance import file_provenance
from alexnet.models.seen import SeenImages

BLUE_GREEN_RED = (104.0, 117.0, 124.0)


class _NotAllowedError(Exception):
    """The pickle names a class or function that a dict of arrays does not need."""


def read_npy(
    path: Path, classes: Sequence[str] | None = None, mean: tuple[float, float, float] | None = None,
) -> Checkpoint:
    """Read Caffe's AlexNet from a dict of layer name -> [weights, biases].

    Args:
        path: the file.
        classes: names of the outputs; default: ImageNet's for 1,000 outputs, else unknown.
        mean: blue, green and red on 0..255; default: `BLUE_GREEN_RED`.

    Raises:
        UserError: the file is truncated, would run code, or holds something else.
    """
    layers = _read_layers(path)
    *_, last = names = [f"conv{n}" for n in range(1, 6)] + ["fc6", "fc7", "fc8"]
    missing = [name for name in names if name not in layers]
    require(not missing, f"{path} has no layer {''.join(missing[:1])}",
            f"it is not Caffe's AlexNet; it has {', '.join(map(str, list(layers)[:10])) or 'none'}")
    arch = replace(CAFFE, classes=max(2, layers[last][1].size))
    blue, green, red = mean or BLUE_GREEN_RED
    arch = replace(arch, input=replace(arch.input, mean=(red, green, blue)))
    with torch.device("meta"):
        expected = AlexNet(arch).state_dict()
    state = {}
    for name in names:
        weights, biases = layers[name]
        prefix = f"{'features' if name.startswith('conv') else 'classifier'}.{name}"
        state[f"{prefix}.bias"] = torch.from_numpy(biases.reshape(-1))
        state[f"{prefix}.weight"] = _to_torch(weights, arch.conv[-1].width if name == "fc6" else None)
    provenance = file_provenance("Caffe", path)
    provenance["assumed"] = [*assumed_names(arch.classes, classes), (
        f"the file does not say what its images were like: crops of {arch.input.crop}x{arch.input.crop} pixels, blue, "
        f"green and red minus {blue:g}, {green:g} and {red:g} are assumed")]
    return Checkpoint(
        arch=arch, weights=check_state_dict({key: state[key] for key in expected}, arch, path), provenance=provenance,
        mean_HWC=torch.tensor([red, green, blue]).reshape(1, 1, 3),
        seen=SeenImages.not_recorded(f"the weights in {path.name}"), **name_outputs(arch.classes, classes))


def _to_torch(weights: NDArray[np.float32], maps: int | None) -> Tensor:
    """Weights in torch's order, OIHW or [outputs, inputs]. maps: number of maps that fc6 reads; None: not fc6."""
    if weights.ndim == 4:
        weights = weights.transpose(3, 2, 0, 1)
    elif weights.ndim == 2 and maps and weights.shape[0] % maps == 0:
        side = round((weights.shape[0] // maps) ** 0.5)
        require(side * side * maps == weights.shape[0], f"fc6 reads {weights.shape[0]} values, which are not {maps} "
                "square maps")
        weights = weights.reshape(side, side, maps, -1).transpose(3, 2, 0, 1).reshape(weights.shape[1], -1)
    elif weights.ndim == 2:
        weights = weights.T
    return torch.from_numpy(np.ascontiguousarray(weights))


# --- The file ---------------------------------------------------------------------------------------------------------


def _read_layers(path: Path) -> Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights and biases by layer name."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else \
                np.lib.format.read_array_header_2_0
            shape, _, dtype = read_header(file)
            content = _Unpickler(file, encoding="latin1").load() if dtype.hasobject else None
    except _NotAllowedError as error:
        raise UserError(f"{path} holds more than arrays ({error}), and reading it could run code",
                        "convert it where you trust it: a dict of layer name -> [weights, biases]") from error
    except Exception as error:  # a damaged pickle leads to any kind of exception
        raise UserError(f"{path} is truncated, or numpy.save did not write it", "download it again") from error
    tree = content.item() if isinstance(content, np.ndarray) and content.size == 1 else content
    if not isinstance(tree, dict) or shape != ():
        raise UserError(f"{path} holds an array and no dict of layers",
                        "give Caffe's AlexNet as ports to TensorFlow load it: bvlc_alexnet.npy")
    layers = {}
    for name, arrays in tree.items():
        pair = [arrays.get("weights"), arrays.get("biases")] if isinstance(arrays, dict) else arrays
        floats = [array.astype(np.float32) for array in (pair if isinstance(pair, list | tuple) else ())
                  if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
        require(len(floats) == 2, f"{path}: layer {name!r} is not a pair of weights and biases",
                "give the layout of bvlc_alexnet.npy, or save the arrays as a state dict with torch.save")
        layers[str(name)] = (floats[0], floats[1])
    return layers


def _new_array(subtype: type, shape: tuple[int, ...], kind: str | bytes) -> NDArray[Any]:
    """What NumPy's pickles begin an array with: always empty, its state follows."""
    if subtype is not np.ndarray or shape != (0,):
        raise _NotAllowedError("an array that is not empty before its state is set")
    return np.ndarray((0,), np.int8)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 2 pickles hold bytes."""
    if encoding != "latin1":
        raise _NotAllowedError(f"text in {encoding[:20]}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _new_array for core in ("core", "_core")}}


class _Unpickler(pickle.Unpickler):
    """Reads dicts, lists, texts and NumPy arrays; every other class or function is refused before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _NotAllowedError(f"{module}.{name}"[:80])
        return _ALLOWED[module, name]
