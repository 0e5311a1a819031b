"""`alexnet.ImageDataset` gives a PyTorch DataLoader the pixels that the package itself reads."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import alexnet
from alexnet.data.images import BadImage
from alexnet.data.loader import batches
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset


@pytest.fixture(scope="module")
def packs(class_folders, packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jpeg") / "data"
    pack(open_dataset(class_folders), folder, side=32, codec="jpeg")
    return {"raw": packed.path, "jpeg": folder}


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_its_images_are_those_of_the_packages_own_loader(packs, codec):
    images = alexnet.ImageDataset(packs[codec], progress=False)
    assert images.packed.codec == codec
    assert len(images) == 120
    assert images.classes == ("ash", "birch", "cedar", "date palm")
    batch = next(batches(images.packed.split("train"), 120, shuffle=(0, 0)))
    for row, index in enumerate(batch.indices.tolist()):
        pixels, label = images[index]
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, batch.pixels_NHWC[row].permute(2, 0, 1))
        assert type(label) is int
        assert label == batch.labels_N[row] == images.targets[index]
        assert images.names[index].split("/")[1] == images.classes[label]


def test_a_data_loader_shuffles_collates_and_takes_subsets(packs):
    images = alexnet.ImageDataset(packs["raw"], "val", transform=lambda pixels: pixels.float() / 255, progress=False)
    loader = DataLoader(Subset(images, range(0, 44, 2)), batch_size=8, shuffle=True)
    found = list(loader)
    assert [len(labels) for _, labels in found] == [8, 8, 6]
    assert found[0][0].shape == (8, 3, 32, 32)
    assert found[0][0].max() <= 1
    labels = torch.cat([labels for _, labels in found])
    assert torch.equal(labels.sort().values, images.targets[::2].sort().values)


def test_its_pickle_has_no_open_files_and_reads_the_same(packs):
    images = alexnet.ImageDataset(packs["raw"], progress=False)
    images[0]
    data = pickle.dumps(images)
    assert len(data) < 20_000  # the pixels are 370 kB
    again = pickle.loads(data)
    assert "_images" not in again.__dict__
    assert torch.equal(again[7][0], images[7][0])
    assert repr(again) == repr(images)
    assert repr(again).endswith("'train', side=32, images=120, classes=4)")


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_worker_opens_the_files_for_itself(packs, codec):
    images = alexnet.ImageDataset(packs[codec], progress=False)
    images[0]
    loader = DataLoader(images, batch_size=50, num_workers=1, multiprocessing_context="spawn")
    pixels = torch.cat([batch for batch, _ in loader])
    assert torch.equal(pixels, torch.stack([images[index][0] for index in range(120)]))


def test_indices_are_those_of_a_sequence(packs):
    images = alexnet.ImageDataset(packs["raw"], "val", progress=False)
    assert torch.equal(images[-1][0], images[43][0])
    assert torch.equal(images[np.int64(3)][0], images[torch.tensor(3)][0])
    for index in (44, -45):
        with pytest.raises(IndexError, match=f"there is no image {index}: val has 44"):
            images[index]
    assert sum(1 for _ in images) == 44  # iteration ends at IndexError


def test_class_folders_are_packed_at_their_own_side_or_another(class_folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert alexnet.ImageDataset(class_folders)[0][0].shape == (3, 32, 32)
    assert "packing 164 images once, at 32 pixels" in capsys.readouterr().err
    assert alexnet.ImageDataset(class_folders, side=16, progress=False)[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize(("data", "options", "words"), [
    ("packed", {"split": "valid"}, "valid"), ("packed", {"side": 64}, "is packed at 32 pixels and 64 are needed"),
    ("nowhere", {}, "nowhere"), ("https://example.org/packed", {}, "is a URL, and ImageDataset needs random access")])
def test_mistakes_are_one_sentence(packs, data, options, words):
    with pytest.raises(alexnet.UserError, match=words):
        alexnet.ImageDataset(packs["raw"] if data == "packed" else data, progress=False, **options)


def test_a_damaged_image_is_named(packs, tmp_path):
    shutil.copytree(packs["jpeg"], tmp_path / "data")
    shard = next((tmp_path / "data").glob("train-*.tar"))
    images = alexnet.ImageDataset(tmp_path / "data", progress=False)
    _, begin, length = images.packed.split("train")._extents[5]
    with shard.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(length))
    with pytest.raises(BadImage, match="number 5"):
        images[5]
