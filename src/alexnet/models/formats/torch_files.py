"""Read what torch.save wrote without executing anything: tensors, dicts, and stand-ins for harmless classes.

Training scripts save their options (`argparse.Namespace`), paths and NumPy numbers beside the weights. torch reads such
a file only after these classes are allowed. Here a `StandIn` takes the place of each of them, so that no code but
torch's own runs. Any other class or function in a file is refused.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from alexnet.errors import UserError


class StandIn:
    """Takes the place of a harmless class or function in a file, and keeps the attributes that the file gives it."""

    def __init__(self, *arguments: object) -> None:
        """Accept and ignore the arguments that the file calls the class with."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


_HARMLESS = (
    "argparse.Namespace", "types.SimpleNamespace", "_codecs.encode",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in (
        "Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"datetime.{name}" for name in ("date", "datetime", "timedelta")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray",
    *(f"numpy.dtypes.{kind}DType" for kind in (
        "Float16", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt64", "Bool", "Str")),
)
"""Classes and functions that training scripts save beside their weights."""


def read_torch_file(path: Path) -> object:
    """Read a file that torch.save wrote, in the zip or in the old format.

    Raises:
        UserError: the file is truncated, is something else, compressed, or needs code to be executed.
    """
    members = _zip_members(path)
    if any(Path(member.filename).name == "constants.pkl" for member in members):  # TorchScript; torch knows it by this
        raise _holds_code(path)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):  # torch would decompress to any size
        raise UserError(f"{path} is compressed, as torch.save writes no file: its size in memory is unknown",
                        "load it in a program of yours and save it again: torch.save(network.state_dict(), FILE)")
    with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(
            [(StandIn, name) for name in _HARMLESS]):
        warnings.simplefilter("ignore")  # about deprecated containers; a reader cannot change the file
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds for files that are truncated or something else
            if _needs_code(file, str(error)):
                raise _holds_code(path) from error
            raise UserError(f"{path} is truncated, or torch.save did not write it", "download it again") from error


def _holds_code(path: Path) -> UserError:
    return UserError(f"{path} holds more than tensors, and reading it could run code",
                     "save the state dict alone: torch.save(network.state_dict(), FILE)")


def _zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """The members of a zip file; none of a file in the old format, and none of one that torch has to refuse."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _needs_code(file: BinaryIO, message: str) -> bool:
    """Whether torch refused a file because it would call functions, and not because it is truncated or no pickle.

    torch has one exception for all of these, so its message is searched, and the file is looked at as well.
    """
    at_end = not file.read(1)  # a file that ends within a class's name seems to ask for another class
    is_zip = zipfile.is_zipfile(file)
    file.seek(0)
    is_pickle = is_zip or file.read(1) == b"\x80"  # in other files any byte is an unknown operand
    return (is_zip or not at_end) and any(
        word in message for word in ("GLOBAL", "TorchScript", *["operand"] * is_pickle))
