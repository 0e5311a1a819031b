"""Properties of the readers: whatever bytes come, an answer or the documented exception; what is written is read back.

The targets and whole files to begin from are those of benchmarks/reliability/fuzz.py.
"""

import random
from functools import cache

import fuzz
import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import damaged, encoded, sealed, seeds
from PIL import Image

from alexnet.data import images
from alexnet.data import packed as packed_module
from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.manifest import CODECS
from alexnet.data.packing import pack
from alexnet.models.formats.caffe_proto import read_binaryproto
from caffefiles import blob, write

few = settings(max_examples=60, deadline=None, derandomize=True,
               suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@cache
def seeds_of(target: str) -> tuple[bytes, ...]:
    return tuple(fuzz.TARGETS[target].seeds())


@pytest.mark.parametrize("target", fuzz.TARGETS)
@few
@given(noise=st.binary(max_size=300))
def test_noise_is_refused_as_documented(target: str, noise: bytes):
    fuzz.TARGETS[target].read(noise)


@pytest.mark.parametrize("target", fuzz.TARGETS)
@few
@given(seed=st.integers(0, 2**32), which=st.integers(0, 10**6))
def test_damaged_files_are_read_or_refused_as_documented(target: str, seed: int, which: int):
    whole = seeds_of(target)
    fuzz.TARGETS[target].read(damaged(whole[which % len(whole)], random.Random(seed), whole))


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_fuzzers_seeds_are_read_whole(target: str, monkeypatch: pytest.MonkeyPatch):
    """Else they would only ever try what is refused at the first byte."""
    monkeypatch.setattr(fuzz, "names_it", lambda what, error: (_ for _ in ()).throw(error))
    for data in seeds_of(target):
        fuzz.TARGETS[target].read(data)


def test_a_fuzzer_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch):
    for problem in (KeyError("shape"), ValueError("a sentence that names no file")):
        monkeypatch.setattr(packed_module, "open_packed", lambda path, problem=problem: (_ for _ in ()).throw(problem))
        with pytest.raises((KeyError, AssertionError)):
            fuzz.packed_folder(b"\x00")


@few
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 9))
def test_a_picture_without_loss_comes_back(height: int, width: int, seed: int):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    for kind, options in (("PNG", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})):
        data = encoded(Image.fromarray(pixels), kind, **options)
        np.testing.assert_array_equal(images.decode(data, "x"), pixels)
        assert sealed(data) == data  # whose checksums were right


@settings(few, max_examples=15)
@given(codec=st.sampled_from(CODECS), counts=st.tuples(st.integers(1, 9), st.integers(0, 4)),
       shard=st.integers(1, 4), side=st.integers(1, 20))
def test_a_pack_is_read_back_whatever_its_sizes(tmp_path_factory, codec, counts, shard, side):
    rng = np.random.default_rng(side)
    photos = {split: [ArrayImage(f"{split}{n}", n % 2, rng.integers(0, 256, (side, side, 3), np.uint8))
                      for n in range(count)] for split, count in zip(("train", "val"), counts, strict=True)}
    packed = pack(Dataset("x", ("ash", "birch"), photos, "x"), tmp_path_factory.mktemp("pack") / "data", side=side,
                  codec=codec, shard_images=shard, workers=1)
    packed.verify()
    for name, there in photos.items():
        split, by_name = packed.split(name), {photo.name: photo for photo in there}
        assert sorted(split.names) == sorted(by_name)
        assert [by_name[one].label for one in split.names] == split.labels.tolist()
        for pixels, one in zip(split.read(np.arange(len(split))), split.names, strict=True):
            expected = by_name[one].pixels()
            if codec == "jpeg":
                expected = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(expected, 90, "RGB", "420"))
            np.testing.assert_array_equal(pixels, expected)


@few
@given(side=st.integers(2, 12), form=st.sampled_from(["legacy", "current", "double"]), seed=st.integers(0, 9))
def test_a_mean_comes_back(tmp_path, side: int, form: str, seed: int):
    mean = np.random.default_rng(seed).normal(size=(3, side, side)).astype(np.float32)
    np.testing.assert_array_equal(read_binaryproto(write(tmp_path, blob(mean, form), "mean")), mean)


def test_every_format_is_among_the_seeds():
    kinds = {kind: {images.decode(data, kind).shape for data in seeds(kind)} for kind in fuzz.FORMATS}
    assert all(kinds.values())
