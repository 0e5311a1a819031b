"""The pretrained network in the package: where its files are, their format number, and how to read them. No torch.

The folder `weights/` holds NAME.json and the tensors, NAME.safetensors. NAME.json is everything but the tensors:
network, classes, calibration, training, measured errors, license note and checksum. `formats.packaged_weights` writes
both and makes a checkpoint of them; benchmarks/pretrained.py makes them of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from alexnet.errors import UserError, require
from alexnet.models.checkpoint_files import damage_of
from alexnet.models.checkpoint_json import ErrorsJson

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("weights")

PRETRAINED = "pretrained"
"""What commands call the packaged network, besides its own name."""

PACKAGED_FORMAT = 3
"""Of weights/*.json."""

LICENSE = "trained on images of ImageNet: for research and education, not commercial"

Storage = Literal["fp16", "int8"]
"""Of the weights of convolutions and fully connected layers: half precision, or a byte with a scale for each output."""

SCALE, SEEN, MEAN = ".scale", "seen.", "preprocess.mean"
"""Names in the file of the tensors: the end of a scale's, the beginning of those of `SeenImages`, and the mean's."""


class Measured(TypedDict, total=False):
    """Errors on one set of images, as benchmarks/pretrained.py measured them on the stored weights."""

    data: str
    """The images, in words."""
    images: int
    look_alikes: int
    """How many of them look like a training image."""
    left_out: int
    """Further images, which look like a training image; absent if the errors are of all images."""
    views: int
    top1_error: float
    """A fraction, like all errors here."""
    top1_interval: list[float]
    """95% confidence interval (Wilson): lower and upper end."""
    top5_error: float
    top5_interval: list[float]
    loss: float
    ece: float
    """Expected calibration error, on images that did not fit the temperature."""
    ece_images: int
    sure_images: int
    """How many images have a likeliest class of at least `inference.confidence.SURE_FROM`."""
    sure_error: float
    """The top-1 error on these."""


class TrainingRecord(TypedDict):
    """How the network was trained: enough to train it again."""

    data: str
    images: int
    command: str
    package_command: str
    """The command that made the files of the run."""
    changed_since: list[str]
    """What the package has done otherwise since the training, a clause each, so that the same command gives other
    weights; empty for a network of the present version."""
    seed: int
    epochs: int
    batch_size: int
    software: dict[str, str]
    device: str


class ProbedImage(TypedDict):
    """What the network predicts for one image, to check an installation."""

    image: str
    """A pattern of `serving.samples.generated_patterns`, or a photograph of the package."""
    classes: list[tuple[str, float]]
    """The five likeliest classes with their probabilities, one view, float32 on a CPU."""


class PackagedJson(TypedDict):
    """NAME.json, without the SHA-256 of itself that the file also has."""

    format: int
    name: str
    network: dict[str, Any]
    """`formats.checkpoint_metadata.network_json`: network, classes, recipe, errors, provenance, calibration."""
    state: dict[str, Any]
    """`Checkpoint.training`: the state at the end of training."""
    wnids: list[str]
    """WordNet IDs of the classes, in their order; "" for a class that ImageNet does not have."""
    trained_on_unknown: list[str]
    look_alikes_recognized: bool
    """Whether the file has the perceptual hashes of the training images."""
    training: TrainingRecord
    measured: list[Measured]
    probe: list[ProbedImage]
    storage_errors: dict[str, ErrorsJson]
    """Errors of the weights in fp32, fp16 and int8 on the validation images, one view, before calibration."""
    license: str
    parameters: int
    storage: Storage
    file: str
    bytes: int
    file_sha256: str


def default_weights() -> Path:
    """The JSON file of the packaged network, a path that `open_weights` takes.

    Raises:
        UserError: this installation has none.
    """
    files = sorted(FOLDER.glob("*.json"))
    require(bool(files), "no checkpoint was named, and this installation has no pretrained network",
            "name a run's folder, a checkpoint, a file of weights, or torchvision")
    return files[0]


def packaged_path(name: str) -> Path | None:
    """The JSON file that a name means: `pretrained`, or the network's own name; None for any other name."""
    files = sorted(FOLDER.glob("*.json"))
    return next((file for file in files if name in (PRETRAINED, file.stem)), None)


def is_packaged_json(path: Path) -> bool:
    """Whether a file is the JSON file of a packaged network: its name ends in .json, and the tensors are beside it."""
    return path.suffix == ".json" and path.is_file() and path.with_suffix(".safetensors").is_file()


def shown_name(path_or_name: str | Path) -> str:
    """The packaged network's name for the path of its JSON file; anything else unchanged."""
    path = Path(path_or_name)
    return path.stem if path.parent == FOLDER and is_packaged_json(path) else str(path_or_name)


def read_packaged_json(path: Path) -> PackagedJson:
    """Read and verify NAME.json of a packaged network.

    Raises:
        UserError: it is damaged, or of another version's format.
    """
    try:
        tree = json.loads(path.read_bytes())
        digest, version = tree.pop("sha256"), int(tree["format"])
        if hashlib.sha256(_canonical(tree)).hexdigest() != digest:
            raise ValueError("the checksum differs")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error})", "install the package again") from error
    require(version == PACKAGED_FORMAT,
            f"{path} has format {version}, and this version of alexnet reads format {PACKAGED_FORMAT}",
            "install the package again")
    stored: PackagedJson = tree
    return stored


def read_arrays(path: Path) -> tuple[PackagedJson, dict[str, NDArray[Any]]]:
    """What NAME.json says of a packaged network, and the tensors beside it, verified.

    Args:
        path: of NAME.json.

    Raises:
        UserError: a file is missing or damaged; the error names it.
    """
    import safetensors.numpy  # NumPy and safetensors: `alexnet list` does without

    stored = read_packaged_json(path)
    file = path.with_name(stored["file"])
    require(file.is_file(), f"{file} is missing", "install the package again")
    data = file.read_bytes()
    require(hashlib.sha256(data).hexdigest() == stored["file_sha256"],
            f"{file} is damaged: {damage_of(data, stored['bytes'])}", "install the package again")
    return stored, safetensors.numpy.load(data)


def dequantize_arrays(stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The float32 weights of what `packaged_weights.quantize` made.

    Raises:
        KeyError: an int8 tensor has no scale.
    """
    weights = {}
    for key, array in stored.items():
        if key.endswith(SCALE):
            continue
        if array.dtype == "int8":
            scale = stored[key + SCALE].reshape(-1, *[1] * (array.ndim - 1))
            array = array.astype("float32") * scale
        weights[key] = array.astype("float32") if array.dtype.kind == "f" else array
    return weights


def packaged_json_bytes(stored: PackagedJson) -> bytes:
    """The content of NAME.json, with its checksum."""
    return _canonical({**stored, "sha256": hashlib.sha256(_canonical({**stored})).hexdigest()})


def _canonical(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, indent=1).encode() + b"\n"
