"""CIFAR-10's binary archive becomes images; other archives and damaged ones are refused by name."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from alexnet._runtime.cache import cache_folder
from alexnet.data.sources import cifar10
from alexnet.data.sources.detect import open_dataset
from download_server import serving
from image_files import names, per_class, tar_of

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_files(records: int = 20) -> dict[str, bytes]:
    """The archive's files with few records: label i % 10, red plane i, green 100, blue a ramp across the columns."""
    blue = np.tile(np.arange(32, dtype=np.uint8), 32)
    batch = b"".join(bytes([i % 10]) + bytes([i]) * 1024 + bytes([100]) * 1024 + blue.tobytes() for i in range(records))
    folder = "cifar-10-batches-bin/"
    return {f"{folder}batches.meta.txt": "\n".join([*CIFAR_CLASSES, "", ""]).encode(),
            f"{folder}readme.html": b"<html>",
            **{f"{folder}data_batch_{number}.bin": batch for number in range(1, 6)}, f"{folder}test_batch.bin": batch}


@pytest.fixture
def cifar_archive(tmp_path: Path) -> Path:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(tar_of(cifar_files(), "w:gz"))
    return path


def test_cifar_planes_become_pixels(cifar_archive: Path):
    dataset = open_dataset(cifar_archive)
    assert dataset.classes == tuple(CIFAR_CLASSES)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([10] * 10, [2] * 10)
    image = dataset.splits["val"][13]
    pixels = image.pixels()
    assert (image.label, pixels.shape, pixels[5, 9].tolist()) == (3, (32, 32, 3), [13, 100, 9])
    assert len(set(names(dataset, "train") + names(dataset, "val"))) == 120


def test_the_cifar_fingerprint_depends_on_the_pixels_alone(cifar_archive: Path):
    before = open_dataset(cifar_archive).fingerprint()
    os.utime(cifar_archive, (0, 0))
    assert open_dataset(cifar_archive).fingerprint() == before
    cifar_archive.write_bytes(tar_of(cifar_files(30), "w:gz"))
    assert open_dataset(cifar_archive).fingerprint() != before


def test_the_pickle_version_is_refused_with_the_right_archive(tmp_path: Path):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(tar_of({"cifar-10-batches-py/data_batch_1": b"pickle"}, "w:gz"))
    with pytest.raises(ValueError, match=r"pickles.*take cifar-10-binary\.tar\.gz"):
        open_dataset(path)


@pytest.mark.parametrize("harm", ["cut off", "no archive", "another archive", "a batch missing", "half a record",
                                  "an eleventh class", "bytes changed"])
def test_damaged_cifar_archive_is_named(cifar_archive: Path, harm: str):
    files = cifar_files()
    if harm == "a batch missing":
        del files["cifar-10-batches-bin/data_batch_3.bin"]
    elif harm == "half a record":
        files["cifar-10-batches-bin/test_batch.bin"] += b"half"
    elif harm == "an eleventh class":
        files["cifar-10-batches-bin/test_batch.bin"] = bytes([10]) + files["cifar-10-batches-bin/test_batch.bin"][1:]
    whole = tar_of({"a.txt": b"a"} if harm == "another archive" else files, "w:gz")
    cifar_archive.write_bytes(whole[: len(whole) // 2] if harm == "cut off" else whole)
    if harm == "bytes changed":
        middle = len(whole) // 2
        cifar_archive.write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    if harm == "no archive":
        cifar_archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz"):
        open_dataset(cifar_archive)


def test_the_name_cifar10_downloads_once_into_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tar_of(cifar_files(), "w:gz")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serving(archive, monkeypatch) as server:
        monkeypatch.setattr(cifar10, "ADDRESS", server.url)
        monkeypatch.setattr(cifar10, "MD5", hashlib.md5(archive).hexdigest())
        assert [open_dataset("cifar10").name for _ in range(2)] == ["cifar10"] * 2
        assert len(server.asked) == 1
    assert (cache_folder() / "cifar-10-binary.tar.gz").is_file()
    assert cache_folder() == tmp_path / "alexnet"
