"""Packing: what is kept, what is refused, and that a pack killed at any moment resumes to the same bytes."""

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.data import images, manifest, packing
from alexnet.data.dataset import Dataset
from alexnet.data.packed import open_packed
from alexnet.data.packing import choose_side, pack, pack_with_bar, packed_size_bytes
from alexnet.data.quarantine import Quarantined
from alexnet.errors import UserError
from sample_images import IMAGES, draw

SIDE, TRAIN, VAL, SHARD = 16, 40, 12, 8


class Drawn:
    """An image in memory; `on_read` may count, fail, or kill."""

    def __init__(self, number: int, split: str, on_read: Callable[[str], None]) -> None:
        self.name, self.label, self._number, self._on_read = f"{split}/{number:03}.png", number % 4, number, on_read

    def stamp(self) -> str:
        return str(self._number)

    def content(self) -> np.ndarray:
        self._on_read(self.name)
        return draw(np.random.default_rng(self._number), self.label, SIDE + self._number % 5)

    def pixels(self) -> np.ndarray:
        return self.content()


def drawn(on_read: Callable[[str], None] = lambda name: None, source: str = "drawn") -> Dataset:
    counts = {"train": TRAIN, "val": VAL}
    splits = {split: [Drawn(number, split, on_read) for number in range(count)] for split, count in counts.items()}
    return Dataset(name="drawn", classes=("ash", "birch", "cedar", "date palm"), splits=splits, source=source,
                   wnids=None, notes=("drawn by hand",), credits="none due")


def failing(*bad: str) -> Callable[[str], None]:
    def on_read(name: str) -> None:
        if name in bad:
            raise images.BadImage(f"{name} is truncated")

    return on_read


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pack_drawn(dest: Path, dataset: Dataset | None = None, **options: object):
    return pack(dataset or drawn(), dest, **{"side": SIDE, "shard_images": SHARD, **options})  # type: ignore[arg-type]


# --- What is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_one_worker_and_four_write_the_same_bytes(tmp_path: Path, codec: str):
    folders = [pack_drawn(tmp_path / str(workers), codec=codec, workers=workers).path for workers in (1, 4)]
    assert contents(folders[0]) == contents(folders[1])


def test_manifest_says_where_the_images_came_from(tmp_path: Path):
    packed = pack_drawn(tmp_path / "data")
    assert (packed.source, packed.credits, packed.notes) == ("drawn", "none due", ("drawn by hand",))
    assert packed.classes[3] == "date palm"
    assert packed.counts == {"train": TRAIN, "val": VAL}
    assert packed.manifest.splits["train"].images_per_class == (10,) * 4
    assert packed.splits == ("train", "val")


def test_undecodable_images_are_quarantined_by_name(tmp_path: Path):
    packed = pack_drawn(tmp_path / "data", drawn(failing("train/007.png", "val/003.png")))
    assert packed.counts == {"train": TRAIN - 1, "val": VAL - 1}
    assert packed.quarantined["train"] == (Quarantined("train/007.png", "train/007.png is truncated"),)
    assert (packed.path / "quarantine.txt").read_text().splitlines() == [
        "train\ttrain/007.png\ttrain/007.png is truncated", "val\tval/003.png\tval/003.png is truncated"]
    assert "train/007.png" not in packed.split("train").names
    assert packed.split("train").read(np.arange(TRAIN - 1)).shape == (TRAIN - 1, SIDE, SIDE, 3)
    packed.verify()


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_shard_may_lose_all_its_images(tmp_path: Path, codec: str):
    broken = failing(*(f"val/{number:03}.png" for number in range(SHARD, VAL)))  # all images of the second shard of two
    packed = pack_drawn(tmp_path / "data", drawn(broken), codec=codec)
    assert packed.split("val").read(np.arange(SHARD)).shape == (SHARD, SIDE, SIDE, 3)
    assert packed.split("val").labels.tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(("split", "lost", "remedy"), [("train", 2, "remove the class"), ("val", 3, "delete them")])
def test_a_class_without_decodable_images_is_an_error_that_names_it_and_the_reason(
    tmp_path: Path, split: str, lost: int, remedy: str,
):
    broken = [image.name for image in drawn().splits[split] if image.label == lost]
    with pytest.raises(UserError, match=(
            rf"^no {split} image of class '{drawn().classes[lost]}' could be decoded, such as {broken[0]} "
            rf"\(is truncated\); repair the images, or {remedy}$")):
        pack_drawn(tmp_path / "data", drawn(failing(*broken)))
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_a_source_with_mostly_broken_images_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"of the first \d+ train images of drawn cannot be decoded, such as train/"):
        pack_drawn(tmp_path / "data", drawn(failing(*(f"train/{n:03}.png" for n in range(TRAIN - 4)))))


def test_without_training_images_the_statistics_are_those_of_validation(tmp_path: Path):
    dataset = drawn()
    packed = pack_drawn(tmp_path / "data", replace(dataset, splits={"train": [], "val": dataset.splits["val"]}))
    assert packed.splits == ("val",)
    assert "mean and covariance are those of val" in packed.notes[-1]
    assert len(packed.split("train")) == 0
    np.testing.assert_allclose(packed.mean_HWC, packed.split("val").read(np.arange(VAL)).mean(0), rtol=1e-6)


def test_a_bounded_number_of_decoded_images_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "_AHEAD", 4)
    read: list[str] = []
    distances: list[int] = []
    pack_drawn(tmp_path / "data", drawn(read.append), workers=2,
               on_progress=lambda done, total: distances.append(len(read) - done))
    assert max(distances) <= 5


def test_images_are_asked_for_as_often_whatever_the_number_of_shards(tmp_path: Path):
    """They were put into their order once for each shard, which took ImageNet's 257 shards 20 minutes."""
    asked: list[str] = []

    class Counted(list[Drawn]):
        def __iter__(self) -> Iterator[Drawn]:
            asked.extend(image.name for image in super().__iter__())
            return super().__iter__()

    def packed_in(shard_images: int) -> int:
        asked.clear()
        dataset = drawn()
        counted = {split: Counted(source) for split, source in dataset.splits.items()}
        pack_drawn(tmp_path / str(shard_images), replace(dataset, splits=counted), shard_images=shard_images)
        return len(asked)

    assert packed_in(2) == packed_in(TRAIN) > 0


def test_progress_without_a_terminal_is_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pack_with_bar(drawn(), tmp_path / "data", side=SIDE)
    assert "packing: 52 of 52 images" in capsys.readouterr().err


# --- A kill, and resuming ---------------------------------------------------------------------------------------------

BAD = [f"train/{number:03}.png" for number in range(0, TRAIN, 5)] + ["val/002.png"]

KILLER = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from test_packing import BAD, drawn, failing, pack_drawn

def die(): os.kill(os.getpid(), signal.SIGKILL)

def arm(kind, number):
    replace, calls = Path.replace, []
    def counted(self, target):
        calls.append(target)
        if (kind, len(calls)) == ("before replace", number): die()
        replace(self, target)
        if (kind, len(calls)) == ("after replace", number): die()
    Path.replace = counted
    return lambda done, total: die() if (kind, done) == ("image", number) else None

def in_a_child(work):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

root, codec, *moments = sys.argv[1:]
for moment in moments:
    kind, number = moment.rsplit(" ", 1)
    dest = Path(root) / moment.replace(" ", "-")
    def work(**options): pack_drawn(dest, drawn(failing(*BAD)), codec=codec, workers=2, **options)
    first = in_a_child(lambda: work(on_progress=arm(kind, int(number))))
    assert first == -signal.SIGKILL, (moment, first)
    assert in_a_child(work) == 0, moment
"""

# There are five shards of train and two of val. The journal is replaced once before the first shard and once after
# each, then the manifest is written: nine replacements.
MOMENTS = ["image 1", "image 8", "image 21", "image 52", "before replace 1", "after replace 1",
           "before replace 4", "after replace 4", "before replace 9", "after replace 9"]


@pytest.mark.parametrize(("codec", "moments"), [("raw", MOMENTS), ("jpeg", ["image 21", "after replace 4"])])
def test_killed_and_resumed_pack_equals_an_uninterrupted_one_byte_for_byte(
    tmp_path: Path, codec: str, moments: list[str],
):
    folders = [Path(__file__).parent, Path(__file__).parents[1], *filter(None, [os.environ.get("PYTHONPATH")])]
    path = os.pathsep.join(map(str, folders))
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILLER, tmp_path, codec, *moments], check=True,
                   env=os.environ | {"PYTHONPATH": path})
    expected = contents(pack_drawn(tmp_path / "uninterrupted", drawn(failing(*BAD)), codec=codec).path)
    for moment in moments:
        assert contents(tmp_path / moment.replace(" ", "-")) == expected, moment


def interrupt(dest: Path, at: int) -> None:
    def stop(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_drawn(dest, on_progress=stop)


def test_resumed_pack_reads_no_image_of_a_finished_shard_again(tmp_path: Path):
    interrupt(tmp_path / "data", at=30)
    with pytest.raises(ValueError, match="is not finished; run the same `alexnet pack` again to resume it"):
        open_packed(tmp_path / "data")
    read: list[str] = []
    seen: list[int] = []
    pack_drawn(tmp_path / "data", drawn(read.append), on_progress=lambda done, total: seen.append(done))
    assert len(read) == TRAIN + VAL - 3 * SHARD
    assert seen[0] == 3 * SHARD + 1


def test_resuming_names_a_finished_shard_that_is_missing(tmp_path: Path):
    interrupt(tmp_path / "data", at=30)
    (tmp_path / "data" / "train-00001.npy").unlink()
    read: list[str] = []
    with pytest.raises(ValueError, match=r"train-00001\.npy is missing"):
        pack_drawn(tmp_path / "data", drawn(read.append))
    assert not read


@pytest.mark.parametrize("change", [
    lambda text: text.replace('"side": 16', '"side": 17'), lambda text: text[:-9], lambda text: "[]"])
def test_a_damaged_journal_is_refused_by_name(tmp_path: Path, change: Callable[[str], str]):
    interrupt(tmp_path / "data", at=30)
    journal = tmp_path / "data" / "unfinished.json"
    journal.write_text(change(journal.read_text()))
    with pytest.raises(UserError, match=r"unfinished\.json is damaged"):
        pack_drawn(tmp_path / "data")


def test_a_journal_cannot_name_a_file_outside_the_folder(tmp_path: Path):
    interrupt(tmp_path / "data", at=30)
    content = manifest.read_json(tmp_path / "data" / manifest.JOURNAL)
    content["files"]["../escaped"] = {"bytes": 1, "sha256": "0" * 64}
    manifest.write_json(tmp_path / "data" / manifest.JOURNAL, content)
    with pytest.raises(UserError, match=r"unfinished\.json is invalid: it names the file '\.\./escaped'"):
        pack_drawn(tmp_path / "data")


def test_finished_pack_is_returned_at_once(tmp_path: Path):
    packed = pack_drawn(tmp_path / "data")
    before = contents(packed.path)
    read: list[str] = []
    assert pack_drawn(tmp_path / "data", drawn(read.append)).fingerprint == packed.fingerprint
    assert not read
    assert contents(packed.path) == before


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [True, False])
def test_another_plan_is_refused_and_nothing_overwritten(tmp_path: Path, finished: bool):
    dest = tmp_path / "data"
    pack_drawn(dest) if finished else interrupt(dest, at=20)
    before = contents(dest)
    other = replace(drawn(), splits={"train": drawn().splits["train"][:7], "val": []})
    for change, words in (
        ({"side": 12}, "side 16, not 12"), ({"codec": "jpeg"}, "codec raw, not jpeg"),
        ({"dataset": other}, "of other images, or of these from another source, such as a tar of the folder"),
    ):
        with pytest.raises(ValueError, match=f"holds a pack .*{words}; choose another DEST"):
            pack_drawn(dest, **change)
    assert contents(dest) == before


def test_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="already holds other files"):
        pack_drawn(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        pack_drawn(tmp_path / "thesis.tex")


def test_source_is_never_written_to(tmp_path: Path):
    with pytest.raises(ValueError, match="is inside the source folder"):
        pack_drawn(tmp_path / "packed", drawn(source=str(tmp_path)))
    assert not any(tmp_path.iterdir())


def test_two_packs_into_one_folder_are_refused(tmp_path: Path):
    def second(done: int, total: int) -> None:
        with pytest.raises(ValueError, match="another process is packing"):
            pack_drawn(tmp_path / "data")

    pack_drawn(tmp_path / "data", on_progress=second)


def test_too_small_a_disk_is_refused_before_packing_with_both_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "packed_size_bytes", lambda *arguments: 252_000_000_000)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000_000))
    with pytest.raises(ValueError, match=r"needs 252\.0 GB more and its disk has 2\.0 GB free"):
        pack_drawn(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("place", "remedy"), [
    ("photos", "free some, or choose another DEST, a smaller --side or --codec jpeg"),
    ("cache/alexnet/packed/photos", "free some, such as with alexnet cache --clear, or let XDG_CACHE_HOME name a "
     "folder on another disk")])
def test_the_remedy_for_a_small_disk_is_one_that_the_command_has(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, remedy: str):
    """`train PHOTOS` packs into the cache, and has neither DEST nor --codec."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packing, "packed_size_bytes", lambda *arguments: 3_200_000)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: SimpleNamespace(free=4_000))
    with pytest.raises(ValueError, match=re.escape(f"needs 3 MB more and its disk has 4 kB free; {remedy}")):
        pack_drawn(tmp_path / place)


def test_a_full_disk_is_reported_and_finished_shards_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write, calls = packing.shards.write_shard, []

    def full(*arguments: object):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(packing.shards, "write_shard", full)
    with pytest.raises(ValueError, match="No space left on device; finished shards are kept"):
        pack_drawn(tmp_path / "data")
    read: list[str] = []
    pack_drawn(tmp_path / "data", drawn(read.append)).verify()
    assert len(read) == TRAIN + VAL - 2 * SHARD


@pytest.mark.parametrize(("options", "words"), [
    ({"codec": "png"}, "no codec 'png'"), ({"side": 0}, "side 0 must"), ({"quality": 101}, "quality 101 must"),
    ({"shard_images": -1}, "-1 images a shard must")])
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        pack_drawn(tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


# --- Sizes ------------------------------------------------------------------------------------------------------------


def test_tiny_images_keep_their_side_and_others_get_256():
    assert choose_side(drawn()) == SIDE + 2
    large = replace(drawn(), splits={"train": [Large(), Large(), *drawn().splits["train"][:1]], "val": []})
    assert choose_side(large) == 256


class Large:
    name, label = "large", 0

    def content(self) -> np.ndarray:
        return self.pixels()

    def pixels(self) -> np.ndarray:
        return np.zeros((200, 300, 3), np.uint8)


def test_packed_size_of_imagenet_is_252_gb():
    assert packed_size_bytes(1_281_167, 256) == pytest.approx(251.9e9, rel=1e-3)


def test_real_images_take_about_the_estimated_size_as_jpeg(tmp_path: Path):
    archive = IMAGES / "imagenet-samples.tar"
    if not archive.is_file():
        pytest.skip(f"no images in {IMAGES}")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile()][::10]
        originals = [InTar(number, member.name, tar.extractfile(member).read())
                     for number, member in enumerate(members)]
    dataset = Dataset(name="samples", classes=tuple(image.name for image in originals), source="samples", wnids=None,
                      splits={"train": originals, "val": []}, notes=(), credits="ImageNet")
    raw, jpeg = (pack(dataset, tmp_path / codec, codec=codec) for codec in ("raw", "jpeg"))
    everything = np.arange(len(originals))
    error = raw.split("train").read(everything).astype(int) - jpeg.split("train").read(everything)
    assert np.abs(error).mean() < 4
    for packed in (raw, jpeg):
        [shard] = packed.manifest.splits["train"].shards
        size = packed.manifest.files[shard.file].bytes
        assert packed_size_bytes(len(originals), 256, packed.codec) == pytest.approx(size, rel=0.25)


class InTar:
    def __init__(self, label: int, name: str, data: bytes) -> None:
        self.label, self.name, self.data = label, name, data

    def stamp(self) -> str:
        return str(len(self.data))

    def content(self) -> bytes:
        return self.data

    def pixels(self) -> np.ndarray:
        return images.decode(self.data, self.name)
