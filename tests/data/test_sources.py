"""Claims about where images come from: folders, archives, a download and the embedded patches."""

import hashlib
import io
import os
import random
import tarfile
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet._runtime import download
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.download import fetch
from alexnet.data.dataset import Dataset
from alexnet.data.images import BadImage
from alexnet.data.sources import cifar10, embedded
from alexnet.data.sources.detect import NAMES, open_dataset


def jpeg(color: int = 128, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (12, 10), (color,) * len(Image.new(mode, (1, 1)).getbands())).save(file, kind)
    return file.getvalue()


def plant(root: Path, *files: str) -> Path:
    """Images of those names under `root`; a trailing slash makes an empty folder."""
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(jpeg(number % 256))
    return root


def trees(root: Path, classes: tuple[str, ...] = ("ash", "birch", "cedar"), count: int = 20, under: str = "") -> Path:
    return plant(root, *(f"{under}{name}/{number:03}.jpg" for name in classes for number in range(count)))


def names(dataset: Dataset, split: str) -> list[str]:
    return [photo.name for photo in dataset.splits.get(split, ())]


def per_class(dataset: Dataset, split: str) -> list[int]:
    counts = Counter(photo.label for photo in dataset.splits.get(split, ()))
    return [counts[label] for label in range(len(dataset.classes))]


def said(dataset: Dataset) -> str:
    return "\n".join(dataset.notes)


# --- Class folders ----------------------------------------------------------------------------------------------------


def test_class_folders_become_sorted_classes_with_readable_images(tmp_path: Path):
    dataset = open_dataset(trees(trees(tmp_path, under="train/"), count=4, under="val/"))
    assert dataset.classes == ("ash", "birch", "cedar")
    assert per_class(dataset, "train") == [20] * 3
    assert per_class(dataset, "val") == [4] * 3
    photo = dataset.splits["train"][21]
    assert (photo.name, photo.label) == ("train/birch/001.jpg", 1)
    assert photo.pixels().shape == (10, 12, 3)
    assert dataset.source == str(tmp_path.resolve())
    assert dataset.held_out == 0
    assert dataset.notes == ()


def test_names_are_unique_within_a_data_set(tmp_path: Path):
    dataset = open_dataset(trees(trees(tmp_path, under="train/"), under="val/"))
    global_indices = names(dataset, "train") + names(dataset, "val")
    assert len(set(global_indices)) == len(global_indices)


@pytest.mark.parametrize("there", [
    ("val",), ("valid",), ("validation",), ("test",), ("test", "val"), ("test", "valid")])
def test_first_validation_folder_is_taken_and_others_are_told(tmp_path: Path, there: tuple[str, ...]):
    trees(tmp_path, under="train/")
    for split in there:
        trees(tmp_path, count=3, under=f"{split}/")
    dataset = open_dataset(tmp_path)
    assert {name.split("/")[0] for name in names(dataset, "val")} == {there[-1]}
    assert ("test/ is not used" in said(dataset)) == (len(there) == 2)


def test_share_of_each_class_is_held_out_where_there_is_no_split(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path), held_out=0.2)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([16] * 3, [4] * 3)
    assert not set(names(dataset, "train")) & set(names(dataset, "val"))
    assert dataset.held_out == 0.2
    assert "20% of each class was held out (12 images" in said(dataset)


def test_train_folder_alone_is_split_too(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path, under="train/"))
    assert per_class(dataset, "val") == [2] * 3


def test_held_out_images_stay_the_same_when_classes_are_added(tmp_path: Path):
    before = set(names(open_dataset(trees(tmp_path)), "val"))
    after = set(names(open_dataset(trees(tmp_path, ("alder", "zelkova"))), "val"))
    assert before < after


def test_another_seed_holds_out_others(tmp_path: Path):
    trees(tmp_path)
    first, again, other = (names(open_dataset(tmp_path, seed=seed), "val") for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("held_out", [0.01, 0.5, 0.99])
def test_every_class_keeps_a_training_image_and_lends_one_if_it_can(tmp_path: Path, held_out: float):
    dataset = open_dataset(plant(tmp_path, "one/a.jpg", "two/a.jpg", "two/b.jpg"), held_out=held_out)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([1, 1], [0, 1])


def test_nothing_is_held_out_when_nothing_is_asked_for(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path), held_out=0.0)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([20] * 3, [0] * 3)


@pytest.mark.parametrize("held_out", [-0.1, 1.0])
def test_impossible_share_is_refused(tmp_path: Path, held_out: float):
    with pytest.raises(ValueError, match=f"held_out {held_out} must lie in"):
        open_dataset(trees(tmp_path), held_out=held_out)


def test_checkpoint_folders_and_resource_forks_are_no_classes_and_are_named(tmp_path: Path):
    plant(trees(tmp_path), ".ipynb_checkpoints/a.jpg", "__MACOSX/ash/._a.jpg", "ash/.ipynb_checkpoints/b.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("ash", "birch", "cedar")
    assert ".ipynb_checkpoints is ignored" in said(dataset)
    assert "__MACOSX is ignored" in said(dataset)
    assert not [name for name in names(dataset, "train") if "/." in name]


def test_files_that_are_no_images_are_counted(tmp_path: Path):
    trees(tmp_path)
    for name in ("readme.txt", "ash/notes.txt", "ash/labels.csv", "birch/.DS_Store"):
        (tmp_path / name).write_text("not an image")
    dataset = open_dataset(tmp_path)
    assert "3 files in" in said(dataset)
    assert "2 .txt" in said(dataset)
    assert sum(map(len, dataset.splits.values())) == 60


def test_image_beside_the_class_folders_is_told(tmp_path: Path):
    assert "1 .jpg" in said(open_dataset(plant(trees(tmp_path), "stray.jpg")))


def test_empty_class_is_left_out_with_a_warning(tmp_path: Path):
    dataset = open_dataset(plant(trees(tmp_path), "fir/"))
    assert dataset.classes == ("ash", "birch", "cedar")
    assert "warning: 1 class folder " in said(dataset)
    assert "fir" in said(dataset)


def test_folders_within_a_class_belong_to_it(tmp_path: Path):
    dataset = open_dataset(plant(trees(tmp_path, count=1), "ash/2024/may/deep.JPEG"), held_out=0)
    assert "ash/2024/may/deep.JPEG" in names(dataset, "train")
    assert per_class(dataset, "train") == [2, 1, 1]


def test_loops_of_links_end(tmp_path: Path):
    trees(tmp_path, count=2)
    (tmp_path / "ash" / "again").symlink_to(tmp_path / "ash", target_is_directory=True)
    (tmp_path / "birch" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert open_dataset(tmp_path, held_out=0).classes == ("ash", "birch", "cedar")


def test_linked_class_folders_count(tmp_path: Path):
    elsewhere = trees(tmp_path / "elsewhere", ("ash", "birch"))
    (tmp_path / "chosen").mkdir()
    for name in ("ash", "birch"):
        (tmp_path / "chosen" / name).symlink_to(elsewhere / name, target_is_directory=True)
    assert per_class(open_dataset(tmp_path / "chosen", held_out=0), "train") == [20, 20]


def test_validation_class_that_training_lacks_is_refused(tmp_path: Path):
    trees(trees(tmp_path, under="train/"), ("ash", "cedars"), 2, under="val/")
    with pytest.raises(ValueError, match=r"val has class 'cedars' and .*train has not \(did you mean cedar\?\)"):
        open_dataset(tmp_path)


def test_training_class_that_validation_lacks_is_told_and_shifts_no_label(tmp_path: Path):
    trees(trees(tmp_path, under="train/"), ("ash", "cedar"), 2, under="val/")
    dataset = open_dataset(tmp_path)
    assert per_class(dataset, "val") == [2, 0, 2]
    assert "1 of 3 classes have no validation images, such as 'birch'" in said(dataset)


def test_one_level_too_high_is_refused_with_the_right_level(tmp_path: Path):
    trees(tmp_path, under="photos/")
    with pytest.raises(ValueError, match=rf"did you mean {tmp_path}/photos\?"):
        open_dataset(tmp_path)


def test_one_level_too_low_is_refused_with_the_right_level(tmp_path: Path):
    trees(tmp_path)
    with pytest.raises(ValueError, match=rf"did you mean {tmp_path}\?"):
        open_dataset(tmp_path / "ash")


def test_images_without_class_folders_are_refused(tmp_path: Path):
    plant(tmp_path / "loose", *(f"{number}.jpg" for number in range(7)))
    with pytest.raises(ValueError, match="holds 7 images and no class folders; put the images of each class"):
        open_dataset(tmp_path / "loose")


def test_one_class_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="one class, 'ash', and a classifier needs two or more"):
        open_dataset(trees(tmp_path, ("ash",)))


def test_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no class folders with images"):
        open_dataset(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path):
    assert open_dataset(trees(tmp_path, ("car", "plane", "train"))).classes == ("car", "plane", "train")


def test_validation_images_without_class_folders_are_refused(tmp_path: Path):
    plant(trees(tmp_path, under="train/"), "val/1.jpg", "val/2.jpg")
    with pytest.raises(ValueError, match="val has no class folders with images; sort its images into"):
        open_dataset(tmp_path)


def test_unlabeled_test_images_are_left_aside(tmp_path: Path):
    dataset = open_dataset(plant(trees(tmp_path, under="train/"), "test/1.jpg", "test/2.jpg"))
    assert per_class(dataset, "val") == [2] * 3
    assert "test/ is not used: it has no class folders" in said(dataset)


def test_a_million_images_are_cheap_to_hold(tmp_path: Path):
    trees(tmp_path, count=0)
    for name in ("n01440764", "n02012849"):
        (tmp_path / name).mkdir()
        for number in range(1_000):
            (tmp_path / name / f"{name}_{number}.JPEG").touch()
    tracemalloc.start()
    try:
        dataset = open_dataset(tmp_path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / sum(map(len, dataset.splits.values())) < 250


def test_path_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path):
    trees(tmp_path / "flowers")
    with pytest.raises(ValueError, match=rf"there is no .*flower; did you mean {tmp_path}/flowers\?"):
        open_dataset(tmp_path / "flower")
    with pytest.raises(ValueError, match=r"there is no .*zoo; name a folder with a folder of images for each"):
        open_dataset(tmp_path / "zoo")
    with pytest.raises(ValueError, match=r"there is no cifar-10; did you mean cifar10\?"):
        open_dataset("cifar-10")


def test_what_is_no_data_is_called_what_it_is(tmp_path: Path):
    plant(tmp_path, "photo.jpg", "run/log.jsonl", "model/checkpoint.json")
    with pytest.raises(ValueError, match=r"photo\.jpg is one image; name the data, a folder with"):
        open_dataset(tmp_path / "photo.jpg")
    for name in ("run", "model"):
        with pytest.raises(ValueError, match=rf"{name} is a run or a checkpoint, not images; name the data"):
            open_dataset(tmp_path / name)


def test_wordnet_folders_get_readable_names(tmp_path: Path):
    trees(tmp_path, ("n01440764", "n02012849", "n03126707"), count=2, under="train/")
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert dataset.wnids == ("n01440764", "n02012849", "n03126707")


def test_broken_image_is_named_when_it_is_read(tmp_path: Path):
    (plant(tmp_path, "ash/a.jpg", "birch/b.jpg") / "ash" / "a.jpg").write_bytes(b"<html>")
    photo = open_dataset(tmp_path, held_out=0).splits["train"][0]
    with pytest.raises(BadImage, match=r"ash/a\.jpg cannot be decoded"):
        photo.pixels()


def test_file_names_outside_utf_8_are_taken(tmp_path: Path):
    plant(tmp_path, "ash/a.jpg", "birch/b.jpg")
    os.rename(tmp_path / "ash" / "a.jpg", os.fsencode(tmp_path) + b"/ash/caf\xe9.jpg")  # noqa: PTH104
    dataset = open_dataset(tmp_path, held_out=0)
    assert dataset.splits["train"][0].pixels().shape == (10, 12, 3)
    assert dataset.fingerprint()


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rewrite", "move to another class"])
def test_fingerprint_notices(tmp_path: Path, change: str):
    before = open_dataset(trees(tmp_path, count=3)).fingerprint()
    assert open_dataset(tmp_path).fingerprint() == before
    photo = tmp_path / "ash" / "001.jpg"
    if change == "add":
        plant(tmp_path, "ash/new.jpg")
    elif change == "remove":
        photo.unlink()
    elif change == "rename":
        photo.rename(photo.with_name("other.jpg"))
    elif change == "rewrite":
        photo.write_bytes(jpeg(200) + b"longer")
    else:
        photo.rename(tmp_path / "birch" / "new.jpg")
    assert open_dataset(tmp_path).fingerprint() != before


def test_real_class_folders_open(tmp_path: Path, images: Path):
    with tarfile.open(images / "imagenette.tar") as tar:
        members = (member for member in tar if member.isfile())
        chosen: Counter[str] = Counter()
        for member in members:
            folder = str(Path(member.name).parent)
            chosen[folder] += 1
            if chosen[folder] <= 3:
                tar.extract(member, tmp_path, filter="data")
            elif len(chosen) >= 4:
                break
    root = next(tmp_path.iterdir())
    dataset = open_dataset(root) if (root / "train").is_dir() else open_dataset(root / next(os.scandir(root)).name)
    assert len(dataset.classes) >= 2
    assert all(photo.pixels().shape == (224, 224, 3) for photos in dataset.splits.values() for photo in photos)


# --- ILSVRC-2012 as it is downloaded ----------------------------------------------------------------------------------

#: (ILSVRC2012_ID, WNID, words): the devkit's order is not the sorted one; number 5 is an inner node of its tree.
SYNSETS = [(1, "n02119789", "kit fox, Vulpes macrotis"), (2, "n02012849", "crane"), (3, "n01440764", "tench"),
           (4, "n03126707", "crane"), (5, "n00001740", "entity")]
TRUTH = [3, 1, 4, 2, 1]


def tar_of(files: dict[str, bytes], kind: str = "w") -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=kind) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return memory.getvalue()


@pytest.fixture
def ilsvrc(tmp_path: Path) -> Path:
    """A folder laid out like the download, with four classes and two training images each."""
    scipy_io = pytest.importorskip("scipy.io")
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")
    synsets = np.zeros((len(SYNSETS), 1), [(field, object) for field in fields])
    for row, (number, wnid, words) in zip(synsets[:, 0], SYNSETS, strict=True):
        children = np.array([1, 2, 3, 4]) if number == 5 else np.empty((0, 0))
        for field, value in zip(fields, (number, wnid, words, "a gloss", children.size, children, 1, 2), strict=True):
            row[field] = value
    meta = io.BytesIO()
    scipy_io.savemat(meta, {"synsets": synsets}, do_compression=True)
    shade = {wnid: 40 * number for number, wnid, _ in SYNSETS}
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar_of({
        "ILSVRC2012_devkit_t12/readme.txt": b"read me",
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{n}\n" for n in TRUTH).encode(),
    }, "w:gz"))
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({
        f"{wnid}.tar": tar_of({
            f"{wnid}_1.JPEG": jpeg(shade[wnid]),
            f"{wnid}_2.JPEG": jpeg(shade[wnid], "PNG") if number == 1 else jpeg(shade[wnid], mode="CMYK")})
        for number, wnid, _ in SYNSETS[:4]}))
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(tar_of({
        f"ILSVRC2012_val_{place:08}.JPEG": jpeg(40 * number) for place, number in enumerate(TRUTH, 1)}))
    return tmp_path


def test_ilsvrc_labels_follow_the_sorted_wordnet_numbers(ilsvrc: Path):
    dataset = open_dataset(ilsvrc)
    assert dataset.wnids == ("n01440764", "n02012849", "n02119789", "n03126707")
    assert dataset.classes == ("tench", "crane (n02012849)", "kit fox", "crane (n03126707)")
    assert per_class(dataset, "train") == [2] * 4
    assert [(photo.name, photo.label) for photo in dataset.splits["val"]][:3] == [
        ("val/ILSVRC2012_val_00000001.JPEG", 0), ("val/ILSVRC2012_val_00000002.JPEG", 2),
        ("val/ILSVRC2012_val_00000003.JPEG", 3)]


def test_ilsvrc_images_are_read_in_place(ilsvrc: Path):
    dataset = open_dataset(ilsvrc)
    number = {wnid: number for number, wnid, _ in SYNSETS}
    for photo in (*dataset.splits["train"], *dataset.splits["val"]):
        pixels = photo.pixels()
        assert pixels.shape == (10, 12, 3)
        if "_2.JPEG" not in photo.name:  # those are a PNG and CMYK files
            assert abs(int(pixels.mean()) - 40 * number[dataset.wnids[photo.label]]) <= 1
    assert {path.name for path in ilsvrc.iterdir()} == {
        "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"}


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_ilsvrc_archive_that_is_cut_off_is_named(ilsvrc: Path, name: str):
    archive = ilsvrc / name
    archive.write_bytes(archive.read_bytes()[:3_000])
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        open_dataset(ilsvrc)


@pytest.mark.parametrize("name", ["ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_val.tar"])
def test_ilsvrc_archive_that_is_missing_is_named(ilsvrc: Path, name: str):
    (ilsvrc / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}"):
        open_dataset(ilsvrc)


def test_ilsvrc_devkit_that_is_damaged_is_named(ilsvrc: Path):
    devkit = ilsvrc / "ILSVRC2012_devkit_t12.tar.gz"
    devkit.write_bytes(devkit.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"devkit_t12\.tar\.gz cannot be read"):
        open_dataset(ilsvrc)


def test_ilsvrc_validation_archive_of_another_count_is_refused(ilsvrc: Path):
    (ilsvrc / "ILSVRC2012_img_val.tar").write_bytes(tar_of({"ILSVRC2012_val_00000001.JPEG": jpeg()}))
    with pytest.raises(ValueError, match="holds 1 images and the devkit labels 5"):
        open_dataset(ilsvrc)


def test_ilsvrc_fingerprint_notices_another_archive(ilsvrc: Path):
    before = open_dataset(ilsvrc).fingerprint()
    assert open_dataset(ilsvrc).fingerprint() == before
    os.utime(ilsvrc / "ILSVRC2012_img_train.tar", (0, 0))
    assert open_dataset(ilsvrc).fingerprint() != before


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------

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
    photo = dataset.splits["val"][13]
    pixels = photo.pixels()
    assert (photo.label, pixels.shape, pixels[5, 9].tolist()) == (3, (32, 32, 3), [13, 100, 9])
    assert len(set(names(dataset, "train") + names(dataset, "val"))) == 120


def test_cifar_fingerprint_goes_by_the_pixels(cifar_archive: Path):
    before = open_dataset(cifar_archive).fingerprint()
    os.utime(cifar_archive, (0, 0))
    assert open_dataset(cifar_archive).fingerprint() == before
    cifar_archive.write_bytes(tar_of(cifar_files(30), "w:gz"))
    assert open_dataset(cifar_archive).fingerprint() != before


def test_pickles_are_refused_with_the_archive_to_take(tmp_path: Path):
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


# --- The download -----------------------------------------------------------------------------------------------------

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves `content` from this machine; may forget ranges, and cuts the first `cuts` connections half-way."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.cuts, self.status = CONTENT, True, 0, 200
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range") if self.server.ranges else None
        self.server.asked.append(self.headers.get("Range"))
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        total = len(self.server.content)
        if self.server.status != 200 or begin >= total:
            self.send_error(self.server.status if self.server.status != 200 else 416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(total - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
        self.end_headers()
        end = total
        if self.server.cuts:
            self.server.cuts, end = self.server.cuts - 1, begin + (total - begin) // 2
        self.wfile.write(self.server.content[begin:end])
        self.close_connection = True

    def log_message(self, *message: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_arrives_whole_and_says_how_far_it_is(server: Server, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    path = fetch(server.url, tmp_path / "cache" / "file", CHECKSUM, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path):
    for _ in range(2):
        fetch(server.url, tmp_path / "file", CHECKSUM)
    assert len(server.asked) == 1


def test_download_that_is_cut_goes_on_where_it_was(server: Server, tmp_path: Path):
    server.cuts = 2
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-", "bytes=2250000-"]


def test_server_without_ranges_begins_anew(server: Server, tmp_path: Path):
    server.cuts, server.ranges = 2, False
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


def test_download_that_is_cut_for_ever_keeps_what_came(server: Server, tmp_path: Path):
    server.cuts = 99
    with pytest.raises(ValueError, match=r"cut off 5 times; what arrived is kept"):
        fetch(server.url, tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file.part").stat().st_size > 2_900_000
    server.cuts = 0
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


def test_whole_part_of_an_earlier_run_is_checked_and_taken(server: Server, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"", b"something else", CONTENT + b"too long"])
def test_wrong_bytes_never_become_the_file(server: Server, tmp_path: Path, part: bytes):
    if part:
        (tmp_path / "file.part").write_bytes(part)
    else:
        server.content = CONTENT[:-1] + b"?"
    with pytest.raises(ValueError, match=rf"{server.url} sent has checksum .* was deleted; try again"):
        fetch(server.url, tmp_path / "file", CHECKSUM)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


def test_missing_file_is_told_with_the_place_to_put_it(server: Server, tmp_path: Path):
    server.status = 404
    with pytest.raises(ValueError, match=rf"answers 404 .*put it at {tmp_path}/file"):
        fetch(server.url, tmp_path / "file", CHECKSUM)


def test_without_a_network_there_is_a_remedy(server: Server, tmp_path: Path):
    address = server.url.replace(str(server.server_port), "1")  # nobody listens there
    with pytest.raises(ValueError, match=rf"cannot fetch {address} .*or put the file at {tmp_path}/file"):
        fetch(address, tmp_path / "file", CHECKSUM)


def test_the_name_cifar10_fetches_once_into_the_users_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):
    server.content = tar_of(cifar_files(), "w:gz")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cifar10, "ADDRESS", server.url)
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(server.content).hexdigest())
    assert [open_dataset("cifar10").name for _ in range(2)] == ["cifar10"] * 2
    assert len(server.asked) == 1
    assert (cache_folder() / "cifar-10-binary.tar.gz").is_file()
    assert cache_folder() == tmp_path / "alexnet"


# --- The embedded patches ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patches() -> Dataset:
    pytest.importorskip("skimage", reason="the embedded images come with scikit-image")
    return open_dataset("embedded")


def test_embedded_patches_are_as_many_of_each_image(patches: Dataset):
    assert len(patches.classes) >= 14
    for split in ("train", "val"):
        assert len(set(per_class(patches, split))) == 1
        assert {photo.pixels().shape for photo in patches.splits[split]} == {(64, 64, 3)}
    assert len(set(names(patches, "train") + names(patches, "val"))) == sum(map(len, patches.splits.values()))


@pytest.mark.parametrize("shape", [(172, 448), (303, 384), (300, 451), (512, 512), (700, 640), (180, 200)])
def test_training_and_test_patches_share_no_pixel(shape: tuple[int, int]):
    # An image whose every pixel is different: patches tell by their pixels where they were cut out.
    place = np.arange(shape[0] * shape[1], dtype=np.uint32)
    pixels = np.stack([place >> 16, place >> 8 & 255, place & 255], -1).astype(np.uint8).reshape(*shape, 3)
    seen = []
    for color in (0, 1):
        cut = embedded._patches(pixels, color, 100, random.Random(0))
        assert {patch.shape for patch in cut} == {(64, 64, 3)}
        red, green, blue = np.moveaxis(np.stack(cut).astype(np.uint32), -1, 0)
        seen.append(set(np.unique(red << 16 | green << 8 | blue).tolist()))
    assert seen[0]
    assert seen[1]
    assert not seen[0] & seen[1]


def test_embedded_patches_are_the_same_every_time(patches: Dataset):
    assert open_dataset("embedded").fingerprint() == patches.fingerprint()


def test_embedded_patches_are_all_different_but_for_black_ones(patches: Dataset):
    seen = Counter(photo.pixels().tobytes() for photos in patches.splits.values() for photo in photos)
    assert {max(patch) for patch, count in seen.items() if count > 1} <= {0, 1, 2}


def test_embedded_images_are_both_gray_and_colored(patches: Dataset):
    colored = {photo.label for photo in patches.splits["train"] if np.ptp(photo.pixels(), axis=2).max() > 20}
    assert 5 <= len(colored) <= len(patches.classes) - 5


def test_every_embedded_image_is_credited_with_its_terms(patches: Dataset):
    assert all(title in patches.credits for title in patches.classes)
    assert patches.credits.count("CC0") + patches.credits.count("public domain") + patches.credits.count(
        "no known copyright restrictions") >= len(patches.classes)


def test_embedded_without_scikit_image_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "alexnet\[demo\]"'):
        open_dataset("embedded")


def test_names_open_without_a_path():
    assert NAMES == ("cifar10", "embedded")
