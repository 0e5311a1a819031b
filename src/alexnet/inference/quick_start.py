"""Predict a few images without torch, in NumPy or onnxruntime: importing torch takes longer than the networks do.

`load_quickly` gives the `Classifier` of the packaged network, of a run or checkpoint folder (in NumPy) or of an ONNX
file that `alexnet export` wrote (in onnxruntime); None for everything else, which `predictor.load` opens with torch.
Both give the same probabilities to rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from alexnet._runtime.cpu_threads import usable_cores
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.data.numpy_preprocessing import center_views
from alexnet.errors import UserError
from alexnet.inference.classifier import Classifier
from alexnet.models import packaged
from alexnet.models.checkpoint_files import read_checkpoint_json, read_verified
from alexnet.models.numpy_network import NumpyNetwork, softmax
from alexnet.models.seen import SeenImages, seen_by_packaged
from alexnet.models.stored_network import (
    METADATA_KEY,
    QUANTIZED_KEY,
    StoredNetwork,
    find_json,
    is_mean,
    parse_mean,
    read_stored_network,
)

MOST_MULTIPLY_ADDS = 50e9
"""Of all images together, up to which NumPy is used: 206 images by the packaged network, 69 by the paper's. On one core
both engines would take the same time at about 670 and 115 images (computed); with more cores, at fewer. So the limit is
lower (docs/performance.md)."""

_BATCH_SIZE = 8
"""Images in a forward pass: conv1's and conv2's patches of more do not stay in the processor's cache."""

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From stored images, uint8 [N, side, side, 3], to logits [N, K], divided by the temperature."""


Arrays = Mapping[str, NDArray[Any]]
"""The state dict of a network, and its mean under `packaged.MEAN`."""


class QuickModel(Classifier):
    """A network that NumPy or onnxruntime runs, for one view of each image."""

    def __init__(self, stored: StoredNetwork, seen: SeenImages, logits: Logits, most_images: float) -> None:
        self.classes, self.notes, self.seen = stored.classes, stored.notes, seen
        self.most_images = most_images
        """Up to how many images it is faster than importing torch."""
        self._stored, self._logits = stored, logits

    @property
    def side(self) -> int:
        return self._stored.arch.input.side

    @property
    def is_calibrated(self) -> bool:
        return _temperature(self._stored) != 1.0

    @property
    def has_ten_view_temperature(self) -> bool:
        return "ten_views" in self._stored.calibration

    def probabilities(self, pixels_NHWC: NDArray[np.uint8], views: int = 1) -> NDArray[np.float32]:
        assert views == 1, "ten views need torch"
        batches = [pixels_NHWC[first:first + _BATCH_SIZE] for first in range(0, len(pixels_NHWC), _BATCH_SIZE)]
        none = np.empty((0, len(self.classes)), np.float32)
        with np.errstate(all="ignore"):  # a diverged network gives "not a number" without a warning in torch, too
            return np.concatenate([none, *(softmax(self._logits(batch_NHWC)) for batch_NHWC in batches)])


def load_quickly(path_or_name: str) -> QuickModel | None:
    """The network, if it can be run without torch; else None.

    Whatever is missing, damaged or unknown gives None too: `predictor.load` has the error or the warning.

    Args:
        path_or_name: as for `predictor.load`.
    """
    path = Path(path_or_name)
    try:
        if path.suffix == ".onnx" and path.is_file():
            return _onnx_model(path)
        if (json_file := find_json(path_or_name)) is None:
            return None
        return _numpy_model(read_stored_network(json_file), *_read(json_file))
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ImportError,
            SafetensorError):
        return None


def _read(path: Path) -> tuple[Arrays, SeenImages]:
    """The arrays of the packaged network or of a checkpoint, and its training images."""
    if packaged.is_packaged_json(path):
        tree, arrays = packaged.read_arrays(path)
        return packaged.dequantize_arrays(arrays), seen_by_packaged(tree, arrays)
    checkpoint = read_checkpoint_json(path)
    arrays, hashes = (safetensors.numpy.load(read_verified(path.parent, checkpoint["files"][kind]))
                      for kind in ("weights", "seen"))
    return arrays, SeenImages.from_arrays(hashes, tuple(checkpoint["trained_on_unknown"]))


def _numpy_model(stored: StoredNetwork, arrays: Arrays, seen: SeenImages) -> QuickModel:
    arch, mean_HWC = stored.arch, arrays[packaged.MEAN]
    _require_mean(mean_HWC, arch)
    network = NumpyNetwork(arch, arrays, _temperature(stored))
    return QuickModel(stored, seen, lambda pixels_NHWC: network(center_views(pixels_NHWC, arch.input, mean_HWC)),
                      MOST_MULTIPLY_ADDS / explain(arch).multiply_adds)


def _onnx_model(path: Path) -> QuickModel | None:
    """The network in an ONNX file that `alexnet export` wrote, with the temperature in its graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()  # by default the cores of the machine, whatever a container's quota
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime has an exception of its own for each kind of damage
        return None
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata or QUANTIZED_KEY in metadata:
        return None
    tree = json.loads(metadata[METADATA_KEY])
    stored, mean_HWC = StoredNetwork.from_export(tree), parse_mean(tree["mean"])
    _require_mean(mean_HWC, stored.arch)
    (entry,) = session.get_inputs()

    def logits(pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs = pixels_NHWC if entry.name == "pixels" else center_views(pixels_NHWC, stored.arch.input, mean_HWC)
        logits_NK: NDArray[np.float32] = session.run(["logits"], {entry.name: inputs})[0]
        return logits_NK

    return QuickModel(stored, SeenImages.from_text(tree["seen"]), logits, math.inf)


def _temperature(stored: StoredNetwork) -> float:
    return stored.calibration.get("temperature", 1.0)


def _require_mean(mean_HWC: NDArray[Any], arch: Arch) -> None:
    """Raise ValueError for a mean that is not of the network's images."""
    if not is_mean(mean_HWC, arch.input.side):
        raise ValueError(f"the mean is {mean_HWC.dtype} {mean_HWC.shape}")
