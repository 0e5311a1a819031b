"""torch.export programs (.pt2): written for any batch size, run without this package, and read back as a checkpoint."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.errors import UserError
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.checkpoint_metadata import license_metadata, own_weights, restore, to_text
from alexnet.models.formats.parity import Runner, example_input, exporter_silenced
from alexnet.models.stored_network import METADATA_KEY

_DTYPES = {5: torch.int64, 7: torch.float32}
"""The types of our tensors by their numbers in torch's format (torch/_export/serde/schema.py, ScalarType)."""


def write(network: nn.Module, saved: Checkpoint, path: Path, *, from_pixels: bool) -> None:
    """Write a program with extra files: classes.json, alexnet.json (the metadata) and, with a note, license.txt."""
    with exporter_silenced():
        # Two images, because the exporters make a constant of a batch of one.
        program = torch.export.export(
            network, (example_input(saved, 2, from_pixels),), dynamic_shapes=({0: torch.export.Dim("images")},))
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={
                "classes.json": json.dumps(saved.classes), f"{METADATA_KEY}.json": to_text(saved),
                **{f"{key}.txt": note for key, note in license_metadata(saved).items()}})


def read_torch_export(path: Path) -> Checkpoint:
    """Read the checkpoint in a program that `write` wrote: numbers and JSON in a zip file; nothing is executed.

    Raises:
        UserError: the file is damaged, of another program, or of another version of torch's format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError  # torch compresses nothing, so a file that does is a decompression bomb
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            text = archive.read(members[f"extra/{METADATA_KEY}.json"]).decode()
            entries = json.loads(archive.read(members["data/weights/model_weights_config.json"]))["config"]
            state = {str(name): _tensor(entry, archive.read(members[f"data/weights/{entry['path_name']}"]))
                     for name, entry in entries.items() if not entry["use_pickle"]}
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, or not a program that alexnet export wrote with a version of torch like "
                        "this one", "export it again") from error
    return restore(text, own_weights(state), path)


def _tensor(entry: dict[str, Any], data: bytes) -> Tensor:
    """A tensor of the archive. Raises KeyError for another type, and ValueError for one that is not stored in order."""
    meta = entry["tensor_meta"]
    sizes, strides = ([number["as_int"] for number in meta[name]] for name in ("sizes", "strides"))
    tensor = torch.frombuffer(bytearray(data), dtype=_DTYPES[meta["dtype"]]).reshape(sizes)
    if list(tensor.stride()) != strides or meta["storage_offset"]["as_int"]:
        raise ValueError("a tensor is not stored in order")
    return tensor


def read(path: Path) -> Runner:
    """Load a program."""
    with exporter_silenced(), path.open("rb") as file:
        module = torch.export.load(file).module()

    def run(inputs: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return module(inputs).numpy()

    return run
