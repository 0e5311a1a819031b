"""All weights that have a name: the pretrained network of the package, and torchvision's and Caffe's to download.

Each entry has address, checksum, published errors and license note (`alexnet list weights`). No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexnet.data.imagenet_classes import CLASSES
from alexnet.models import packaged

TORCHVISION_ADDRESS = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class KnownWeights:
    """Weights that have a name."""

    name: str
    arch: str
    """The preset network, or what its run calls it."""
    classes: int
    side: int
    """Of the stored images, in pixels."""
    crop: int
    """Of the network's input, in pixels."""
    parameters: int
    top1_error: float | None
    """A fraction, with one central view."""
    top5_error: float | None
    measured_on: str
    """The images, and by whom it was measured."""
    license: str
    provenance: str
    """Who trained it, on what, and where that is written."""
    address: str
    """URL; "in the package" for ours."""
    checksum: str
    """`sha256:` or `sha1:` and hexadecimal digits; of an owner who published only the first digits, these."""
    megabytes: float
    """Of the file, in millions of bytes."""
    use: str
    """How to use them: a command, and what to download before it if the command does not."""
    alias: str = ""
    """A second name that commands take; empty if there is none."""
    checksum_is_prefix: bool = False
    """Whether `checksum` has only the first digits."""


_ILSVRC = "50,000 validation images of ILSVRC-2012, published by"
_IMAGENET_TERMS = "trained on images of ImageNet, whose terms are research and education, not commercial"
_TORCHVISION_TERMS = f"torchvision states none for the weights (BSD 3-Clause is its code's); {_IMAGENET_TERMS}"
_CAFFE_TERMS = f"unrestricted, by its owner; {_IMAGENET_TERMS}"

TORCHVISION = KnownWeights(
    "torchvision", "torchvision", 1000, 256, 224, 61_100_840, 0.43478, 0.20934,  # accuracy 56.522% and 79.066%
    f"{_ILSVRC} torchvision (AlexNet_Weights.IMAGENET1K_V1)", _TORCHVISION_TERMS,
    "torchvision, IMAGENET1K_V1 since 0.10", f"{TORCHVISION_ADDRESS}alexnet-owt-7be5be79.pth",
    "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02", 244.4,
    "alexnet predict torchvision IMAGE", alias="alexnet-owt-7be5be79")

TORCHVISION_2017 = KnownWeights(
    "alexnet-owt-4df8aa71", "torchvision", 1000, 256, 224, 61_100_840, 0.4345, 0.2091,
    f"{_ILSVRC} torchvision (documentation of 0.1.12)", TORCHVISION.license, "torchvision until 0.9",
    f"{TORCHVISION_ADDRESS}alexnet-owt-4df8aa71.pth", "sha256:4df8aa71", 244.4,
    "alexnet predict alexnet-owt-4df8aa71 IMAGE", checksum_is_prefix=True)

_CAFFE = "http://dl.caffe.berkeleyvision.org/"


def _use_caffe(name: str) -> str:
    """The commands for one of BVLC's networks, which this package does not download."""
    return (f"download {_CAFFE}{name}.caffemodel; then alexnet import {name}.caffemodel OUT --mean 104,117,123; then "
            "alexnet predict OUT IMAGE")



CAFFE = KnownWeights(
    "bvlc_alexnet", "caffe", 1000, 256, 227, 60_965_224, 0.429, 0.198,  # accuracy 57.1% and 80.2%
    f"{_ILSVRC} BVLC/caffe (models/bvlc_alexnet/readme.md)", _CAFFE_TERMS,
    "BVLC/caffe, trained by Evan Shelhamer", f"{_CAFFE}bvlc_alexnet.caffemodel",
    "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377", 243.9,
    _use_caffe("bvlc_alexnet"))

CAFFENET = KnownWeights(
    "bvlc_reference_caffenet", "caffenet", 1000, 256, 227, 60_965_224, 0.426, 0.196,  # accuracy 57.4% and 80.4%
    f"{_ILSVRC} BVLC/caffe (models/bvlc_reference_caffenet/readme.md)", _CAFFE_TERMS,
    "BVLC/caffe, trained by Jeff Donahue", f"{_CAFFE}bvlc_reference_caffenet.caffemodel",
    "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46", 243.9,
    _use_caffe("bvlc_reference_caffenet"))

OTHERS = (TORCHVISION, TORCHVISION_2017, CAFFE, CAFFENET)

OFFICIAL = tuple(known.address.removeprefix(TORCHVISION_ADDRESS) for known in (TORCHVISION, TORCHVISION_2017))
"""torchvision's two files. Each name ends in the first eight digits of the file's SHA-256."""


def official_name(name: str) -> str | None:
    """torchvision's file that a name means: `torchvision`, or one of `OFFICIAL` with or without its ending; else None.
    """
    if name == "torchvision":
        return OFFICIAL[0]
    return next((file for file in OFFICIAL if name in (file, file.removesuffix(".pth"))), None)


def command_names() -> list[str]:
    """The names that commands take in place of a checkpoint: ours, `torchvision`, and torchvision's two files."""
    ours = [path.stem for path in sorted(packaged.FOLDER.glob("*.json"))]
    return [*([packaged.PRETRAINED] if ours else []), *ours, "torchvision", *OFFICIAL]


def packaged_weights() -> list[KnownWeights]:
    """The pretrained networks in this installation: one, or none."""
    return [_entry(packaged.read_packaged_json(path)) for path in sorted(packaged.FOLDER.glob("*.json"))]


def _entry(tree: packaged.PackagedJson) -> KnownWeights:
    network, training = tree["network"], tree["training"]
    spec, errors = network["arch"]["input"], network["errors"]
    return KnownWeights(
        tree["name"], network["arch"]["name"], len(network["classes"]), spec["side"], spec["crop"], tree["parameters"],
        errors.get("top1_error"), errors.get("top5_error"),
        f"{errors['images']:,} validation images of {training['data']}, measured here" if errors else "",
        tree["license"], f"trained by this package on {training['images']:,} images of {training['data']}, "
        f"{training['epochs']} epoch{'s' * (training['epochs'] != 1)}, seed {training['seed']}: {training['command']}",
        "in the package", f"sha256:{tree['file_sha256']}", round(tree["bytes"] / 1e6, 1), "alexnet predict IMAGE",
        alias=packaged.PRETRAINED)


def known_weights() -> list[KnownWeights]:
    """All of them, ours first."""
    return [*packaged_weights(), *OTHERS]


def named(name: str) -> KnownWeights | None:
    """The weights that a name means: `pretrained`, a name in the list, or that of torchvision's file; else None."""
    if path := packaged.packaged_path(name):
        return _entry(packaged.read_packaged_json(path))
    stem = name.removesuffix(".pth")
    return next((known for known in OTHERS if stem == known.name or f"/{stem}." in known.address), None)


def class_names(known: KnownWeights) -> tuple[list[str], list[packaged.Measured]]:
    """The classes of known weights in their order, and what was measured here; nothing is downloaded."""
    if path := packaged.packaged_path(known.name):
        tree = packaged.read_packaged_json(path)
        return [str(name) for name in tree["network"]["classes"]], tree["measured"]
    return list(CLASSES), []
