"""What a file is that is no data set by itself (a table, .npy, .h5, .onnx, weights), and what to do instead."""

from __future__ import annotations

from pathlib import Path

from alexnet.errors import UserError, quoted_bytes

_IMAGES = "name a folder or archive with a folder of images for each class"
_EXPORT = f"save its images as files, and {_IMAGES}"
_NETWORK = "name the data instead: to measure a network, alexnet evaluate CHECKPOINT DATA"
_TABLE = "name the folder or archive of its images, and the table with --labels"

KINDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".csv", ".tsv", ".jsonl"), ("a table, not images", _TABLE)),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), ("a spreadsheet, not images", f"save it as CSV; {_TABLE}")),
    **dict.fromkeys((".npy", ".npz"), ("a file of NumPy arrays, which has no names of classes", _EXPORT)),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), ("an HDF5 file, of data or weights of Keras", _EXPORT)),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), ("a pickle, which may run code when it is read", _EXPORT)),
    **dict.fromkeys((".tfrecord", ".tfrecords", ".rec", ".mdb", ".lmdb", ".beton", ".arrow", ".feather"),
                    ("a data set of another program", _EXPORT)),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".caffemodel", ".pt2", ".tflite", ".pb"),
                    ("a file of weights, not images", _NETWORK)),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm"),
                    ("a video", f"save its frames as images, and {_IMAGES}")),
    ".mat": ("a MATLAB file", _EXPORT),
    ".onnx": ("a network (ONNX), not images", _NETWORK),
    ".json": ("a JSON file, not images", _TABLE.replace("the table", "a CSV table of file_name and label")),
    ".txt": ("a text file, not images", _TABLE),
    ".pdf": ("a PDF document", f"save its pictures as images, and {_IMAGES}"),
}
"""For each ending what the file is, and what to do."""

_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")

_MAGIC = {b"\x93NUMPY": ".npy", b"\x89HDF\r\n": ".h5", b"MATLAB": ".mat", b"%PDF": ".pdf"}
"""First bytes of a file without a known ending -> the ending that belongs to them."""


def explain_file(path: Path) -> UserError:
    """The error for a file that is no archive and no image."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return UserError(f"{path} is empty", "copy or download it again")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return UserError(f"{path} is a web page: the download has saved a message of the server",
                         "open it in a browser, and download the data again")
    ending = path.suffix.lower()
    if ending not in KINDS:
        ending = next((known for magic, known in _MAGIC.items() if head.startswith(magic)), ending)
    if ending in KINDS:
        return UserError(f"{path} is {KINDS[ending][0]}", KINDS[ending][1])
    if ending == ".gz" and head.startswith(b"\x1f\x8b"):
        return UserError(f"{path} is one compressed file and no archive", "name the folder that it is in, if it is one "
                         "of MNIST's files; else decompress it")
    if ending in _ARCHIVES:
        return UserError(f"{path} is damaged: it ends in {ending} and begins with {quoted_bytes(head[:8])}",
                         "download the archive again, and compare its size or checksum with the publisher's")
    return UserError(f"{path} is not an image, nor an archive of images (it begins with {quoted_bytes(head[:8])})",
                     _IMAGES)
