"""Hugging Face layout: write and read a folder with config.json, model.safetensors and a model card (README.md)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from alexnet.errors import UserError, reason_of, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.checkpoint_metadata import check_mean, checkpoint_of_json, license_metadata, network_json
from alexnet.models.formats.model_card import CARD, LIBRARY, model_card
from alexnet.models.formats.recognize import CONFIG, MEAN, WEIGHTS
from alexnet.models.formats.state_dict import check_state_dict
from alexnet.models.formats.training_checkpoint import parse_safetensors
from alexnet.models.seen import TENSORS, SeenImages


class DamagedConfigError(UserError):
    """A config.json does not describe a network of this package."""


def write_huggingface(saved: Checkpoint, folder: Path) -> None:
    """Write a folder that can be uploaded to the hub: config, weights, mean image or color, and model card.

    A model that is in the folder is replaced.

    Raises:
        UserError: the folder holds something else.
    """
    require(not folder.exists() or (folder.is_dir() and ((folder / WEIGHTS).is_file() or not any(folder.iterdir()))),
            f"{folder} holds something else", "name a new folder")
    # File names need not be UTF-8.
    files = huggingface_files(saved, Path(os.path.realpath(folder)).name)
    folder.mkdir(parents=True, exist_ok=True)
    temporaries = {folder / f"{name}.new": name for name in files}
    try:
        for path, name in temporaries.items():
            path.write_bytes(files[name])
        for path, name in temporaries.items():
            path.replace(folder / name)
    finally:
        for path in temporaries:
            path.unlink(missing_ok=True)


def huggingface_files(saved: Checkpoint, title: str, address: str = "") -> dict[str, bytes]:
    """The files of a folder in this layout, by name; the config last: its checksums make the others valid.

    Args:
        title: of the model card.
        address: what `alexnet.load` takes; default: the title, as the name of the folder.
    """
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in saved.weights.items()}
    license_ = license_metadata(saved)
    files = {WEIGHTS: safetensors.torch.save(weights, {"format": "pt", **license_}),
             MEAN: safetensors.torch.save({"mean_HWC": saved.mean_HWC.cpu().contiguous(), **saved.seen.to_tensors()})}
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    config = network_json(saved)
    config |= {
        "model_type": "alexnet", "architectures": ["AlexNet"], "library_name": LIBRARY,
        "id2label": dict(enumerate(config.pop("classes"))), "trained_on_unknown": list(saved.seen.unknown), **license_,
        "sha256": checksums}
    card = model_card(saved, title, address, checksums).encode(errors="backslashreplace")
    return files | {CARD: card, CONFIG: json.dumps(config, indent=1).encode()}


def parse_config(data: bytes, where: object) -> tuple[Checkpoint, dict[str, str]]:
    """The checkpoint that a config.json describes, without tensors, and the SHA-256 of each file with tensors.

    Args:
        where: the file, for the error.

    Raises:
        DamagedConfigError: it does not describe a network of this package.
    """
    try:
        config = json.loads(data)
        names, unknown = config["id2label"], tuple(map(str, config["trained_on_unknown"]))
        config["classes"] = [names[str(index)] for index in range(len(names))]
        return (checkpoint_of_json(config, SeenImages(unknown=unknown)),
                {name: str(config["sha256"][name]) for name in (WEIGHTS, MEAN)})
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedConfigError(f"{where} does not describe a network of this package ({reason_of(error)})",
                                 "download it again, or name a network that alexnet export wrote") from error


def read_huggingface(folder: Path) -> Checkpoint:
    """Read a folder that `write_huggingface` wrote.

    Raises:
        UserError: a file is missing, damaged, or not from this package; the error names it.
    """
    for name in (CONFIG, WEIGHTS, MEAN):
        require((folder / name).is_file(), f"{folder} has no {name}",
                "it is not a model that alexnet exported, or its download is incomplete; if it holds torchvision's "
                f"alexnet, name its {WEIGHTS}")
    tensors = {name: (folder / name).read_bytes() for name in (WEIGHTS, MEAN)}
    saved, checksums = parse_config((folder / CONFIG).read_bytes(), folder / CONFIG)
    damaged = [name for name, data in tensors.items() if hashlib.sha256(data).hexdigest() != checksums[name]]
    require(not damaged, f"{folder / ''.join(damaged[:1])} is damaged: its checksum is not the one in {CONFIG}",
            "download it again")
    weights, beside = (parse_safetensors(tensors[name], folder / name) for name in (WEIGHTS, MEAN))
    mean_HWC = beside.get("mean_HWC", torch.empty(0))
    check_mean(mean_HWC, saved.arch.input.side, folder / MEAN)
    require(set(TENSORS) <= beside.keys(), f"{folder / MEAN} does not say which images the network was "
            "trained on", "export it again with this version of alexnet")
    return replace(saved, weights=check_state_dict(weights, saved.arch, folder / WEIGHTS), mean_HWC=mean_HWC,
                   seen=SeenImages.from_tensors(beside, saved.seen.unknown))
