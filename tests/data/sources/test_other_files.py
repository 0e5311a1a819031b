"""A file that is no data set is called by what it is, with what to do; only archives are to be downloaded again."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.sources.detect import open_dataset


@pytest.mark.parametrize(("name", "data", "problem"), [
    ("labels.csv", b"id,label\n1,cat\n", r"labels\.csv is a table, not images; name the folder .* with --labels"),
    ("images.h5", b"\x89HDF\r\n\x1a\n", r"images\.h5 is an HDF5 file.*; save its images as files"),
    ("meta.mat", b"MATLAB 5.0 MAT-file", r"meta\.mat is a MATLAB file; save its images as files"),
    ("net.onnx", b"\x08\x07\x12\x07pytorch", r"net\.onnx is a network \(ONNX\), not images; name the data instead"),
    ("net.pth", b"PK\x03\x04", r"net\.pth is a file of weights, not images; name the data instead"),
    ("data.pkl", b"\x80\x04N.", r"data\.pkl is a pickle, which may run code"),
    ("film.mp4", b"\0\0\0\x18ftypmp42", r"film\.mp4 is a video; save its frames"),
    ("photos.zip", b"<!DOCTYPE html><html>", r"photos\.zip is a web page: the download has saved a message"),
    ("photos.zip", b"garbage", r"photos\.zip is damaged: it ends in \.zip and begins with 'garbage'; download"),
    ("photos.tar.gz", b"garbage", r"photos\.tar\.gz is damaged"),
    ("photos.zip", b"", r"photos\.zip is empty; copy or download it again"),
    ("train-images.gz", gzip.compress(b"\0\0\x08\x03", mtime=0),
     r"is one compressed file and no archive; name the folder"),
    ("data", b"\x89HDF\r\n\x1a\n", r"data is an HDF5 file"),
    ("data.xyz", b"garbage", r"data\.xyz is not an image, nor an archive of images \(it begins with 'garbage'\)")])
def test_a_file_is_called_what_it_is(tmp_path: Path, name: str, data: bytes, problem: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=problem) as error:
        open_dataset(tmp_path / name)
    assert ("download the archive again" in str(error.value)) == (name.endswith((".zip", ".gz")) and data == b"garbage")


def test_numpy_files_are_named(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8)))
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 8, 8)))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=rf"{name} is a file of NumPy arrays, which has no names of classes"):
            open_dataset(tmp_path / name)
