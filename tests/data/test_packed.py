"""A packed folder gives back the images that were packed, and names every file that is damaged or invalid."""

import io
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from alexnet.data.dataset import Dataset
from alexnet.data.loader import batches
from alexnet.data.manifest import read_json, write_json
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.packing import pack
from alexnet.data.shards import describe_file
from sample_images import draw

SIDE, TRAIN, VAL = 24, 26, 9
LUMA = np.array([0.299, 0.587, 0.114])


class Drawn:
    """An image in memory."""

    def __init__(self, number: int, split: str) -> None:
        self.name, self.label = f"{split}/{number % 3}/{number:03}.png", number % 3
        self._pixels = draw(np.random.default_rng([number, len(split)]), self.label, SIDE)

    def stamp(self) -> str:
        return "drawn"

    def content(self) -> np.ndarray:
        return self._pixels

    def pixels(self) -> np.ndarray:
        return self._pixels


def drawn() -> Dataset:
    splits = {split: [Drawn(n, split) for n in range(count)] for split, count in (("train", TRAIN), ("val", VAL))}
    return Dataset(name="drawn", classes=("ash", "birch", "cedar"), splits=splits, source="drawn",
                   wnids=None, notes=(), credits="")


@pytest.fixture(params=["raw", "jpeg"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> PackedDataset:
    """A packed folder of each codec, in shards of 10, that a test may damage."""
    return pack(drawn(), tmp_path / "data", side=SIDE, codec=request.param, shard_images=10)


def test_a_split_gives_the_images_that_were_packed(folder: PackedDataset):
    for name in ("train", "val"):
        split, originals = folder.split(name), {image.name: image for image in drawn().splits[name]}
        assert len(split) == len(split.names) == len(originals) == folder.counts[name]
        pixels_BHWC = split.read(np.arange(len(split)))
        for pixels, label, image in zip(pixels_BHWC, split.labels, (originals[n] for n in split.names), strict=True):
            assert label == image.label
            error = pixels.astype(float) - image.pixels()
            if folder.codec == "raw":
                assert not error.any()
            else:
                assert np.abs(error @ LUMA).mean() < 6  # subsampled chroma loses its noise


def test_images_come_in_the_order_asked_for_across_shards_and_threads(folder: PackedDataset):
    split = folder.split("train")
    everything = split.read(np.arange(TRAIN))
    orders = [np.random.default_rng(seed).integers(0, TRAIN, 40) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for order, pixels_BHWC in zip(orders, pool.map(split.read, orders), strict=True):
            np.testing.assert_array_equal(pixels_BHWC, everything[order])
    assert split.read(np.array([], np.int64)).shape == (0, SIDE, SIDE, 3)
    for outside in (TRAIN, -1):
        with pytest.raises(IndexError, match="exceed a split of 26"):
            split.read(np.array([0, outside]))


def test_training_images_are_mixed_and_validation_images_in_order(folder: PackedDataset):
    assert list(folder.split("train").names) != sorted(folder.split("train").names)
    assert folder.split("val").names == tuple(image.name for image in drawn().splits["val"])


@pytest.mark.parametrize("folder", ["raw"], indirect=True)
def test_numpy_opens_a_raw_shard(folder: PackedDataset):
    shard = np.load(folder.path / "train-00002.npy", mmap_mode="r")
    assert (shard.shape, shard.dtype) == ((6, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(shard, folder.split("train").read(np.arange(20, 26)))


@pytest.mark.parametrize("folder", ["jpeg"], indirect=True)
def test_webdataset_reads_a_jpeg_shard(folder: PackedDataset):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of webdataset itself
        stream = webdataset.WebDataset(str(folder.path / "train-{00000..00002}.tar"), shardshuffle=False)
        samples = list(stream.decode("rgb8").to_tuple("jpg", "cls", "__key__"))
    split = folder.split("train")
    assert [label for _, label, _ in samples] == split.labels.tolist()
    assert [int(key) for _, _, key in samples] == list(range(TRAIN))
    theirs = np.stack([pixels for pixels, _, _ in samples]).astype(int)
    assert np.abs(theirs - split.read(np.arange(TRAIN))).max() <= 1  # webdataset uses another decoder


def test_mean_and_covariance_equal_numpys_of_the_packed_pixels(folder: PackedDataset):
    pixels_NHWC = folder.split("train").read(np.arange(TRAIN)).astype(np.float64)
    colors = pixels_NHWC.reshape(-1, 3)
    np.testing.assert_allclose(folder.mean_HWC, pixels_NHWC.mean(0), rtol=1e-6)
    np.testing.assert_allclose(folder.rgb_mean, colors.mean(0), rtol=1e-12)
    np.testing.assert_allclose(folder.rgb_covariance, np.cov(colors.T, bias=True), rtol=1e-10)
    assert folder.mean_HWC.dtype == np.float32


def test_two_codecs_hold_the_same_images_in_the_same_order(tmp_path: Path):
    raw, jpeg = (pack(drawn(), tmp_path / codec, side=SIDE, codec=codec, quality=100) for codec in ("raw", "jpeg"))
    assert raw.split("train").names == jpeg.split("train").names
    assert raw.fingerprint != jpeg.fingerprint
    both = [packed.split("train").read(np.arange(TRAIN)).astype(float) for packed in (raw, jpeg)]
    assert np.abs((both[0] - both[1]) @ LUMA).mean() < 2


def test_an_intact_folder_verifies_after_it_was_moved(folder: PackedDataset, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    folder.verify(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(folder.manifest.files),) * 2
    moved = folder.path.rename(tmp_path / "moved")
    assert open_packed(moved).fingerprint == folder.fingerprint


def shard(folder: PackedDataset) -> Path:
    return folder.path / folder.manifest.splits["train"].shards[1].file


def test_truncated_shard_is_refused_by_name(folder: PackedDataset):
    content = shard(folder).read_bytes()
    shard(folder).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"{shard(folder).name} is truncated: .* bytes of"):
        open_packed(folder.path)


def test_a_shard_truncated_while_open_is_refused_by_name(folder: PackedDataset):
    """The rest of the last page would read as zeros, and what is beyond it kills the process."""
    split = folder.split("train")
    split.read(np.arange(TRAIN))
    os.truncate(shard(folder), shard(folder).stat().st_size // 2)
    with pytest.raises(ValueError, match=f"{shard(folder).name} is truncated: .* bytes of"):
        split.read(np.arange(TRAIN))
    elsewhere = [index for index in range(TRAIN) if index // 10 != 1]
    assert len(split.read(np.array(elsewhere))) == len(elsewhere)


def test_a_shard_truncated_before_its_first_image_is_read_is_refused_by_name(folder: PackedDataset):
    """Where its images are does not depend on its size; of a tar, the index is then known to point outside."""
    split, intact = folder.split("train"), folder.split("train").read(np.array([10]))
    os.truncate(shard(folder), shard(folder).stat().st_size * 2 // 3)
    for read in (split.read, split.mapped) if split.codec == "raw" else (split.read,):
        with pytest.raises(ValueError, match=rf"{shard(folder).name} is truncated: .* bytes of|outside"):
            read(np.array([19]))
    if split.codec == "raw":
        np.testing.assert_array_equal(split.read(np.array([10])), intact)


def test_missing_file_is_refused_by_name(folder: PackedDataset):
    (folder.path / "val-00000.labels.npy").unlink()
    with pytest.raises(ValueError, match=r"val-00000\.labels\.npy is missing"):
        open_packed(folder.path)


def test_verify_names_every_file_with_a_flipped_bit(folder: PackedDataset):
    damaged = [shard(folder), folder.path / "mean.npy"]
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{damaged[0].name} is damaged.*mean.npy is damaged"):
        folder.verify()


@pytest.mark.parametrize("name", ["mean.npy", "train-00001.labels.npy", "val-00000.names.json"])
def test_a_flipped_bit_beside_the_images_is_found_on_opening(folder: PackedDataset, name: str):
    content = bytearray((folder.path / name).read_bytes())
    content[-5] ^= 1
    (folder.path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        open_packed(folder.path)


def test_damaged_manifest_is_refused(folder: PackedDataset):
    manifest = folder.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"ash"', '"oak"'))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        open_packed(folder.path)
    manifest.write_text('{"name": "a web page"}')
    with pytest.raises(ValueError, match="not of a packed folder"):
        open_packed(folder.path)


def test_newer_format_and_names_outside_the_folder_are_refused(folder: PackedDataset):
    manifest = folder.path / "manifest.json"
    content = read_json(manifest)
    write_json(manifest, content | {"format": 99})
    with pytest.raises(ValueError, match="has format 99 and this alexnet reads 5"):
        open_packed(folder.path)
    for name in ("../secret", "/etc/passwd", "a\\b", "..", ""):
        write_json(manifest, content | {"files": {name: {"bytes": 1, "sha256": "0" * 64}}})
        with pytest.raises(ValueError, match="only plain file names within the folder"):
            open_packed(folder.path)


def test_shards_outside_the_checked_files_are_refused(folder: PackedDataset):
    manifest = folder.path / "manifest.json"
    content = json.loads(json.dumps(read_json(manifest)))
    content["splits"]["val"]["shards"][0]["file"] = "../secret"
    write_json(manifest, content)
    with pytest.raises(ValueError, match=r"'\.\./secret'"):
        open_packed(folder.path)


@pytest.mark.parametrize(("change", "words"), [
    (lambda manifest: manifest.pop("files"), "files is not an object"),
    (lambda manifest: manifest["plan"].update(side=0), "side 0 must be at least 1 pixel"),
    (lambda manifest: manifest["plan"].update(side=True), "plan.side is not a whole number of 0 or more"),
    (lambda manifest: manifest["plan"].update(codec="zip"), "there is no codec 'zip'"),
    (lambda manifest: manifest.update(classes=[1, 2, 3]), r"classes\[0\] is not text"),
    (lambda manifest: manifest.update(rgb_mean=[1.0]), "rgb_mean is not a list of 3"),
    (lambda manifest: manifest.update(rgb_mean=[1.0, 1.0, 10**400]), r"rgb_mean\[2\] is not a number"),
    (lambda manifest: manifest.update(rgb_mean=[1.0, float("nan"), 1.0]), r"rgb_mean\[1\] is not a number"),
    (lambda manifest: manifest["plan"].update(shard_images=0), "0 images a shard must be at least 1"),
    (lambda manifest: manifest["splits"]["val"].update(quarantined=[{"name": "a"}]),
     r"splits\['val'\].quarantined\[0\].reason is not text"),
    (lambda manifest: manifest["splits"]["val"].update(images_per_class=[3, 3, 2]),
     "images_per_class of val are not those of the images in the shards of val"),
    (lambda manifest: manifest["splits"]["val"]["shards"][0].update(images=-1),
     r"splits\['val'\].shards\[0\].images is not a whole number"),
    (lambda manifest: manifest.update(held_out="a tenth"), "held_out is not a number"),
    (lambda manifest: manifest.update(wnids=["n01440764"]), "its wnids are not one for each class"),
])
def test_an_invalid_manifest_with_a_right_checksum_is_refused(folder: PackedDataset, change, words: str):
    content = json.loads(json.dumps(read_json(folder.path / "manifest.json")))
    change(content)
    write_json(folder.path / "manifest.json", content)
    with pytest.raises(ValueError, match=rf"manifest\.json is invalid: .*{words}"):
        open_packed(folder.path)


def with_vouched_file(folder: PackedDataset, name: str, content: bytes) -> PackedDataset:
    """The folder with another file of that name, and a manifest that vouches for it."""
    (folder.path / name).write_bytes(content)
    manifest = json.loads(json.dumps(read_json(folder.path / "manifest.json")))
    manifest["files"][name] = asdict(describe_file(folder.path / name))
    write_json(folder.path / "manifest.json", manifest)
    return open_packed(folder.path)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(("content", "words"), [
    (saved(np.full(10, 3)), r"has a label that is not in 0\.\.2"), (saved(np.full(10, -1)), "has a label that"),
    (saved(np.zeros(9, np.int64)), "not an array of 10 int64"),
    (saved(np.zeros(10, np.int32)), "not an array of 10 int64"),
    (saved(np.array([print] * 10)), "not an array of 10 int64"),
    (saved(np.zeros(10, np.int64))[:-1], "not an array of 10 int64"),
    (b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "not an array"), (b"PK\x03\x04", "not an array"),
    (b"\0", "not an array"),
])
def test_invalid_labels_are_refused_by_name(folder: PackedDataset, content: bytes, words: str):
    split = with_vouched_file(folder, "train-00001.labels.npy", content).split("train")
    with pytest.raises(ValueError, match=rf"train-00001\.labels\.npy .*{words}"):
        _ = split.labels


@pytest.mark.parametrize("content", [b"\0", b"{}", b'["a"]', b"[1,1,1,1,1,1,1,1,1,1]", b"\xff" * 9, b"[" * 10_000])
def test_invalid_names_are_refused_by_name(folder: PackedDataset, content: bytes):
    split = with_vouched_file(folder, "train-00001.names.json", content).split("train")
    with pytest.raises(ValueError, match=r"train-00001\.names\.json is damaged: it is not a list of 10 names"):
        _ = split.names


@pytest.mark.parametrize("folder", ["jpeg"], indirect=True)
@pytest.mark.parametrize("place", [(-1, 5), (0, 2**62), (2**62, 2**62), (10**6, 1)])
def test_an_index_that_points_outside_its_shard_is_refused(folder: PackedDataset, place: tuple[int, int]):
    split = with_vouched_file(folder, "val-00000.index.npy", saved(np.full((VAL, 2), place, np.int64))).split("val")
    with pytest.raises(ValueError, match=r"val-00000\.index\.npy points outside val-00000\.tar"):
        split.read_one(0)


@pytest.mark.parametrize("folder", ["raw"], indirect=True)
def test_a_raw_shard_too_short_for_its_images_is_refused(folder: PackedDataset):
    with pytest.raises(ValueError, match=r"val-00000\.npy is too short for 9 images"):
        with_vouched_file(folder, "val-00000.npy", b"\x93NUMPY" + bytes(500))


@pytest.mark.parametrize("folder", ["jpeg"], indirect=True)
@pytest.mark.parametrize("side", [SIDE - 8, SIDE + 8])
def test_a_jpeg_of_another_side_is_refused(folder: PackedDataset, side: int):
    jpeg = simplejpeg.encode_jpeg(np.zeros((side, side, 3), np.uint8))
    split = with_vouched_file(folder, "val-00000.tar", jpeg).split("val")
    split.__dict__["_extents"] = np.array([[0, 0, len(jpeg)]])
    with pytest.raises(ValueError, match=f"number 0 cannot be decoded: it has {side} x {side} pixels and not"):
        split.read_one(0)


def test_a_folder_that_is_not_packed_is_refused(folder: PackedDataset, tmp_path: Path):
    assert is_packed(folder.path)
    assert not is_packed(tmp_path)
    with pytest.raises(ValueError, match=r"is not a packed folder: it has no manifest\.json"):
        open_packed(tmp_path)


def test_an_unknown_split_is_refused_with_the_nearest_name(folder: PackedDataset):
    with pytest.raises(ValueError, match="no split 'vla'; did you mean val"):
        folder.split("vla")


# --- Subsets ----------------------------------------------------------------------------------------------------------


def test_a_subset_has_the_images_that_were_chosen_in_their_order(folder: PackedDataset):
    whole = folder.split("train", "val")
    chosen = np.array([3, 8, TRAIN - 1, TRAIN, TRAIN + VAL - 1])
    part = whole.subset(chosen)
    assert len(part) == 5
    np.testing.assert_array_equal(part.read(np.arange(5)), whole.read(chosen))
    assert part.labels.tolist() == whole.labels[chosen].tolist()
    assert part.names == tuple(whole.names[index] for index in chosen)
    assert part.content_hashes.tolist() == whole.content_hashes[chosen].tolist()
    again = part.subset(np.array([1, 4]))
    assert again.names == (whole.names[8], whole.names[TRAIN + VAL - 1])
    with pytest.raises(IndexError):
        part.read(np.array([5]))


def test_batches_of_a_subset_show_each_of_its_images_once_on_any_number_of_ranks(folder: PackedDataset):
    part = folder.split("train").subset(np.arange(1, TRAIN, 3))
    for world in (1, 2, 3):
        shown = [index for rank in range(world) for batch in batches(part, 4, rank=rank, world=world)
                 for index in batch.indices.tolist()]
        assert sorted(shown) == list(range(len(part)))
    pixels = np.concatenate([batch.pixels_NHWC.numpy() for batch in batches(part, 4)])
    np.testing.assert_array_equal(pixels, part.read(np.arange(len(part))))
