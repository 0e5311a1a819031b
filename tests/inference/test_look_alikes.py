"""Training images that were saved again have other bytes: they are measured, and the output says so."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from alexnet.architecture.spec import Arch
from alexnet.data.near_duplicates import share_of_near_duplicates
from alexnet.data.packed import open_packed
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.inference.selection import Selection, select_unseen
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint, save
from alexnet.models.seen import SeenImages
from command_line import alexnet as command

CLASSES = ("ash", "birch", "cedar", "date palm")

ALL_KNOWN = ("measured: all 12 images, none of these files seen in training; all 12 look like training images (saved "
             "again?), so the result is probably not a test error")


def scene(seed: int) -> Image.Image:
    """Some colored rectangles."""
    rng = np.random.default_rng(seed)
    pixels_HWC = np.full((96, 128, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, 88), rng.integers(0, 96)
        pixels_HWC[top : top + rng.integers(8, 60), left : left + rng.integers(8, 60)] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels_HWC)


def jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def with_exif(original: bytes) -> bytes:
    """The same JPEG with a block of EXIF after its start marker: a description, and nothing else."""
    exif = Image.Exif()
    exif[0x010E] = "edited"
    block = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    return original[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + original[2:]


def deep_gray(original: bytes) -> bytes:
    gray_HW = np.asarray(Image.open(io.BytesIO(original)).convert("L"), np.uint16) * 257
    return png(Image.fromarray(gray_HW))


def opened(original: bytes) -> Image.Image:
    return Image.open(io.BytesIO(original)).convert("RGB")


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "PNG": lambda original: png(opened(original)),
    "EXIF": with_exif,
    "trailing byte": lambda original: original + b"\0",
    "JPEG 50": lambda original: jpeg(opened(original), 50),
    "half": lambda original: jpeg(opened(original).resize((64, 48)), 90),
    "mirrored": lambda original: jpeg(ImageOps.mirror(opened(original)), 90),
    "gray": lambda original: jpeg(opened(original).convert("L"), 90),
    "16-bit PNG": deep_gray,
}


def write_images(root: Path, contents: list[bytes]) -> Path:
    """Three images in each of four class folders."""
    for number, content in enumerate(contents):
        folder = root / CLASSES[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.jpg").write_bytes(content)
    return root


@pytest.fixture(scope="module")
def originals() -> list[bytes]:
    return [jpeg(scene(seed), 92) for seed in range(12)]


@pytest.fixture(scope="module")
def checkpoint(originals: list[bytes], tiny: Arch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights that say they were trained on the 12 images."""
    root = tmp_path_factory.mktemp("trained")
    data = pack(open_dataset(write_images(root / "photos", originals), held_out=0.0), root / "packed", side=32)
    train = data.split("train")
    seen = SeenImages.of(train.content_hashes, np.empty(0, np.uint64), train.perceptual_hashes)
    save(Checkpoint(arch=tiny, classes=CLASSES, weights=AlexNet(tiny).state_dict(), seen=seen,
                    mean_HWC=torch.zeros(32, 32, 3)), root / "checkpoint")
    return root / "checkpoint"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def evaluated(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    assert command("evaluate", *arguments, "--device", "cpu") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("way", WAYS)
def test_a_training_image_that_was_saved_again_is_recognized(
    originals: list[bytes], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, way: str,
):
    data = write_images(tmp_path / "photos", [WAYS[way](original) for original in originals])
    assert evaluated(capsys, checkpoint, data).splitlines()[-1] == ALL_KNOWN


def test_the_images_of_a_jpeg_pack_are_recognized_as_files(
    originals: list[bytes], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
):
    source = open_dataset(write_images(tmp_path / "photos", originals), held_out=0.0)
    pack(source, tmp_path / "packed", side=64, codec="jpeg")
    with tarfile.open(tmp_path / "packed" / "train-00000.tar") as shard:
        for member in shard:
            stem, _, ending = member.name.partition(".")
            if ending == "jpg":
                label = int(shard.extractfile(f"{stem}.cls").read())
                (tmp_path / "files" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
                (tmp_path / "files" / CLASSES[label] / member.name).write_bytes(shard.extractfile(member).read())
    assert evaluated(capsys, checkpoint, tmp_path / "files").splitlines()[-1] == ALL_KNOWN


def test_json_and_csv_say_which_images_are_known(
    originals: list[bytes], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
):
    contents = [WAYS["JPEG 50"](original) for original in originals[:6]]
    data = write_images(tmp_path / "photos", contents + [jpeg(scene(seed), 92) for seed in range(100, 106)])
    result = json.loads(evaluated(capsys, checkpoint, data, "--json", "--csv", tmp_path / "images.csv"))
    assert result["measured"]["images"] == 12
    assert (result["measured"]["looks_trained_on"], result["measured"]["training_look_alikes"]) == (6, 0.0)
    with (tmp_path / "images.csv").open() as file:
        known = {row["image"].rpartition("/")[2]: row["looks_trained_on"] for row in csv.DictReader(file)}
    assert known == {f"{number:02}.jpg": "1" if number < 6 else "0" for number in range(12)}


def test_new_images_are_not_taken_for_known_ones(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    rng = np.random.default_rng(0)
    noise = [png(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))) for _ in range(6)]
    data = write_images(tmp_path / "photos", noise + [jpeg(scene(seed), 92) for seed in range(200, 206)])
    assert evaluated(capsys, checkpoint, data).splitlines()[-1] == (
        "measured: all 12 images, none of these files seen in training")


def test_an_export_recognizes_them_too(
    originals: list[bytes], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
):
    assert command("export", checkpoint, tmp_path / "model") == 0
    data = write_images(tmp_path / "photos", [WAYS["mirrored"](original) for original in originals])
    capsys.readouterr()
    assert evaluated(capsys, tmp_path / "model", data).splitlines()[-1] == ALL_KNOWN


# --- What the count means ---------------------------------------------------------------------------------------------


def selection(images: int, alike: int, share: float = 0.0) -> Selection:
    return Selection(np.arange(images), images, 0, 0, (), 1, np.arange(images) < alike, share)


@pytest.mark.parametrize(("alike", "share", "text"), [
    (0, 0.0, ""),
    (1, 0.0, "1 of these 1,000 looks like a training image (saved again?), so the error is probably too low"),
    (99, 0.0, "99 of these 1,000 look like training images (saved again?), so the error is probably too low"),
    (100, 0.0, "100 of these 1,000 look like training images (saved again?), so the result is probably not a test "
               "error"),
    (50, 0.05, "50 of these 1,000 look like training images (5% of the training images also look like another training "
               "image), so this may be normal for this data; "
               "if not, the true error is higher"),
    (320, 0.3, "320 of these 1,000 look like training images (30% of the training images also look like another "
               "training image), so this may be normal for this data; "
               "if not, the result is not a test error"),
    (400, 0.3, "400 of these 1,000 look like training images (saved again?), so the result is probably not a test "
               "error"),
])
def test_the_sentence_says_what_the_count_means(alike: int, share: float, text: str):
    assert selection(1000, alike, share).describe_look_alikes() == text


def test_exact_copies_are_not_counted_again(originals: list[bytes], checkpoint: Path, tmp_path: Path):
    from alexnet.models.checkpoint import load

    data = pack(open_dataset(write_images(tmp_path / "photos", originals), held_out=0.0), tmp_path / "packed", side=32)
    seen = load(checkpoint).seen
    found = select_unseen(open_packed(data.path).split("train"), [seen], include_trained=True)
    assert (found.trained_on, found.looks_trained_on) == (12, 0)
    assert share_of_near_duplicates(seen.trained_perceptual) == 0
