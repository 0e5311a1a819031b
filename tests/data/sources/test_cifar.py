"""CIFAR-10 and CIFAR-100, binary and Python version, become the same images; damaged and hostile files are refused."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from alexnet._runtime.cache import cache_folder
from alexnet.data.sources import cifar
from alexnet.data.sources.detect import open_dataset
from alexnet.data.sources.pickles import read_pickled_dict
from download_server import serving
from image_files import names, per_class, tar_of, trees

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


def python_files(records: int = 20) -> dict[str, bytes]:
    """The same images as `cifar_files`, pickled as Python 2 did: text is bytes, and the labels are a list."""
    blue = np.tile(np.arange(32, dtype=np.uint8), 32)
    planes = np.stack([np.concatenate([np.full(1024, i, np.uint8), np.full(1024, 100, np.uint8), blue])
                       for i in range(records)])
    batch = pickle.dumps({b"data": planes, b"labels": [i % 10 for i in range(records)], b"batch_label": b"x"}, 2)
    folder = "cifar-10-batches-py/"
    return {f"{folder}batches.meta": pickle.dumps({b"label_names": [name.encode() for name in CIFAR_CLASSES]}, 2),
            **{f"{folder}data_batch_{number}": batch for number in range(1, 6)}, f"{folder}test_batch": batch}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_the_python_version_and_unpacked_folders_have_the_same_images_as_the_binary_archive(
    cifar_archive: Path, tmp_path: Path,
):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(tar_of(python_files(), "w:gz"))
    expected = open_dataset(cifar_archive)
    for source in (archive, write(tmp_path / "binary", cifar_files()), write(tmp_path / "python", python_files()),
                   tmp_path / "python" / "cifar-10-batches-py"):
        dataset = open_dataset(source)
        assert (dataset.name, dataset.classes) == ("cifar10", expected.classes)
        for split in ("train", "val"):
            assert names(dataset, split) == names(expected, split)
            for ours, theirs in zip(dataset.splits[split], expected.splits[split], strict=True):
                assert ours.label == theirs.label
                assert np.array_equal(ours.pixels(), theirs.pixels())


def cifar100_files() -> dict[str, bytes]:
    """The binary version: a coarse label, a fine label, three planes."""
    record = bytes([7, 42]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1024
    return {"fine_label_names.txt": "\n".join(f"fine{number:02}" for number in range(100)).encode(),
            "coarse_label_names.txt": b"a\nb\n", "train.bin": record, "test.bin": record}


@pytest.mark.parametrize("version", ["binary", "python"])
def test_cifar100_has_the_fine_labels(tmp_path: Path, version: str):
    if version == "binary":
        files = cifar100_files()
    else:
        fine = [f"fine{number:02}" for number in range(100)]
        row = np.concatenate([np.full(1024, value, np.uint8) for value in (1, 2, 3)])[None]
        batch = pickle.dumps({"data": row, "fine_labels": [42], "coarse_labels": [7]})
        files = {"meta": pickle.dumps({"fine_label_names": fine}), "train": batch, "test": batch}
    dataset = open_dataset(write(tmp_path / "cifar-100", files))
    assert (dataset.name, len(dataset.classes)) == ("cifar100", 100)
    assert dataset.notes[0].endswith("100 classes (its fine labels; the 20 coarse ones are not used)")
    image = dataset.splits["val"][0]
    assert (dataset.classes[image.label], image.pixels()[31, 0].tolist()) == ("fine42", [1, 2, 3])


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, protocol: int):
    files = python_files()
    hostile = {"data": Hostile(tmp_path / "made"), "labels": []}
    files["cifar-10-batches-py/data_batch_3"] = pickle.dumps(hostile, protocol)
    with pytest.raises(ValueError, match=r"data_batch_3 in .* is refused: it is a pickle that asks for \w+\.open"):
        open_dataset(write(tmp_path / "hostile", files))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("payload", [
    b"cos\nsystem\n(S'touch made'\ntR.", b"cnumpy.core.multiarray\n_reconstruct\n}(S'x'\nK\x01ub.",
    b"cnumpy\nndarray\n(K\x01tR.", b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    b"garbage", b""])
def test_a_pickle_of_anything_but_plain_values_and_integers_is_refused(payload: bytes):
    with pytest.raises(ValueError, match=r"^batch (is refused|cannot be read as a pickle)"):
        read_pickled_dict(payload, "batch")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("array", [np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([3, -1]),
                                   np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
                                   np.array([1, 2], ">i4")])
def test_arrays_of_integers_are_read_as_numpy_reads_them(array: np.ndarray, protocol: int):
    found = read_pickled_dict(pickle.dumps({"data": array}, protocol), "batch")["data"]
    assert np.array_equal(found, array)


def test_the_matlab_version_is_refused_with_the_right_archive(tmp_path: Path):
    path = tmp_path / "cifar-10-matlab.tar.gz"
    path.write_bytes(tar_of({"cifar-10-batches-mat/batches.meta.mat": b"MATLAB"}, "w:gz"))
    with pytest.raises(ValueError, match=r"MATLAB version.*take the binary or the Python version"):
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


@pytest.mark.parametrize(("name", "file"), [
    ("cifar10", "cifar-10-binary.tar.gz"), ("cifar100", "cifar-100-binary.tar.gz")])
def test_a_name_downloads_once_into_the_users_cache(name: str, file: str, tmp_path: Path, monkeypatch):
    archive = tar_of(cifar_files() if name == "cifar10" else cifar100_files(), "w:gz")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serving(archive, monkeypatch) as server:
        monkeypatch.setattr(cifar, "ADDRESS", f"{server.url}/")
        monkeypatch.setitem(cifar.ARCHIVES, name, (file, hashlib.md5(archive).hexdigest()))
        assert [open_dataset(name).name for _ in range(2)] == [name] * 2
        assert len(server.asked) == 1
    assert (cache_folder() / file).is_file()
    assert cache_folder() == tmp_path / "alexnet"


def test_class_folders_beside_cifar_are_refused_and_chosen_by_the_option(tmp_path: Path):
    root = trees(tmp_path / "pets", ("cat", "dog"), 4)
    write(root, python_files())
    with pytest.raises(ValueError, match=r"also cifar-10-batches-py/batches\.meta, which holds other images and "
                       rf"labels; add --labels folders .*, or name {root}/cifar-10-batches-py for the others"):
        open_dataset(root)
    assert open_dataset(root, labels="folders").classes == ("cat", "dog")
