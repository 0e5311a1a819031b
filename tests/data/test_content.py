"""Content hashes: equal for equal files under any name, kept in both codecs, and of the source, not of the pack."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash

from alexnet.data.content import contained, content_hash, distinct_hashes
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset


def test_a_content_hash_is_xxh3_with_64_bits():
    # The sanity checks of xxHash 0.8 (tests/sanity_test_vectors.h): of no bytes, without a seed.
    assert content_hash(b"") == 0x2D06800538D394C2
    assert content_hash(b"abc") == 0x78AF5F94892F3950
    assert content_hash(memoryview(b"abc")) == content_hash(b"abc")


def test_the_hash_of_an_array_is_that_of_its_pixels_in_row_major_order():
    pixels_HWC = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert content_hash(pixels_HWC) == content_hash(bytes(range(24)))
    assert content_hash(pixels_HWC.transpose(1, 0, 2)) != content_hash(pixels_HWC)


def test_hashes_are_found_among_sorted_ones():
    known = distinct_hashes(np.array([9, 2**64 - 1, 9], np.uint64), np.array([4], np.uint64))
    assert known.tolist() == [4, 9, 2**64 - 1]
    assert contained(np.array([0, 4, 5, 9, 2**64 - 1], np.uint64), known).tolist() == [False, True, False, True, True]
    assert contained(np.array([0, 7], np.uint64), distinct_hashes()).tolist() == [False, False]
    assert contained(np.array([0, 7, 8], np.uint64), np.array([7], np.uint64)).tolist() == [False, True, False]


@pytest.mark.parametrize(("codec", "side"), [("raw", 32), ("jpeg", 32), ("raw", 24)])
def test_a_pack_holds_the_hash_of_every_source_file(class_folders: Path, tmp_path: Path, codec, side):
    packed = pack(open_dataset(class_folders), tmp_path / "data", side=side, codec=codec, shard_images=50)
    for name in ("train", "val"):
        split = packed.split(name)
        expected = [xxhash.xxh3_64((class_folders / file).read_bytes()).digest() for file in split.names]
        assert split.content_hashes.astype(">u8").tobytes() == b"".join(expected)


def test_renamed_and_touched_files_keep_their_hashes(class_folders: Path, packed: PackedDataset, tmp_path: Path):
    copy = shutil.copytree(class_folders, tmp_path / "copy", copy_function=shutil.copyfile)
    for number, file in enumerate(sorted((copy / "train" / "ash").iterdir())):
        file.rename(file.with_name(f"z{number}.png"))
    again = pack(open_dataset(copy), tmp_path / "data", side=32)
    assert sorted(again.split("train").content_hashes) == sorted(packed.split("train").content_hashes)
