"""SeenImages: what a run records of its training images, through checkpoints, initial weights and text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.architecture.recipe_presets import recipe
from alexnet.data.packed import PackedDataset
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.models.seen import SeenImages
from weight_files import narrow


def array(*hashes: int) -> np.ndarray:
    return np.array(hashes, np.uint64)


def pairs(*hashes: tuple[int, int]) -> np.ndarray:
    return np.array(hashes, np.uint64).reshape(-1, 2)


def test_a_run_records_the_images_that_it_trained_on_and_for_best_those_that_chose_it(
    trained: Path, packed: PackedDataset,
):
    for name in ("best", "last"):
        seen = checkpoint.load(trained / name).seen
        assert seen.trained.tolist() == sorted(packed.split("train").content_hashes.tolist())
        assert seen.trained_perceptual.tolist() == sorted(packed.split("train").perceptual_hashes.tolist())
        chosen_on = sorted(packed.split("val").content_hashes.tolist()) if name == "best" else []
        assert seen.selected_on.tolist() == chosen_on
        assert seen.unknown == ()


@pytest.mark.parametrize(("chosen", "fitted", "schedule", "name", "roles"), [
    ((5, 7, 9), 0, "cosine", "best", ("epoch",)),  # a run of several epochs that was not calibrated
    ((5, 7), 2, "cosine", "best", ("temperature",)),  # of one epoch, or --head: nothing was chosen
    ((5, 7, 9), 2, "cosine", "best", ("epoch", "temperature")),
    ((5, 7, 9), 0, "plateau", "last", ("schedule",)),
    ((5, 7, 9), 0, "plateau", "best", ("epoch",)),
    ((), 0, "cosine", "last", ())])
def test_what_the_selecting_images_did_is_derived_from_the_checkpoint(chosen, fitted, schedule, name, roles):
    saved = replace(
        narrow("cifar"), seen=SeenImages(selected_on=array(*chosen)), path=Path(name),
        recipe=replace(recipe("modern"), schedule=schedule),
        calibration={"temperature": 2.0, "fitted_images": fitted} if fitted else {})
    assert saved.seen_in_roles.roles == roles
    assert saved.seen_in_roles.selected_on.tolist() == list(chosen)


def test_images_of_the_initial_weights_count_too():
    first = SeenImages.of(array(5, 3, 3), array(9), pairs((2, 1), (0, 0)))
    second = SeenImages.of(array(2**64 - 1, 3), array(8), pairs((2, 1), (1, 2**64 - 1)), first)
    assert second.trained.tolist() == [3, 5, 2**64 - 1]
    assert second.selected_on.tolist() == [8, 9]
    assert second.trained_perceptual.tolist() == [[1, 2**64 - 1], [2, 1]]
    third = SeenImages.of(array(1), array(2), pairs(), SeenImages.not_recorded("torchvision's weights"))
    assert (third.trained.tolist(), third.unknown) == ([1], ("torchvision's weights",))


def test_text_holds_everything():
    seen = SeenImages.of(array(2**64 - 1, 0, 77), array(5), pairs((7, 8), (3, 2**64 - 1)),
                         SeenImages.not_recorded("Caffe's weights"))
    again = SeenImages.from_text(seen.to_text())
    assert again.trained.tolist() == [0, 77, 2**64 - 1]
    assert again.selected_on.tolist() == [5]
    assert again.trained_perceptual.tolist() == [[3, 2**64 - 1], [7, 8]]
    assert again.unknown == ("Caffe's weights",)
    assert seen.to_text().isascii()
    assert "\n" not in seen.to_text()
    assert SeenImages.from_text(SeenImages().to_text()).trained.tolist() == []


@pytest.mark.parametrize("text", ["", "f00d", "seen2", "seen2 AAAA AAAA AAAA AAAA", "seen2 * * * *",
                                  "seen1   ", "seen2   AAAAAAAAAAA= "])
def test_damaged_text_is_refused(text: str):
    with pytest.raises(UserError, match="the record of the training images is damaged"):
        SeenImages.from_text(text)


def test_the_hashes_are_written_once_and_again_if_they_are_damaged(trained: Path, tmp_path: Path):
    saved = checkpoint.load(trained)
    checkpoint.save(saved, tmp_path)
    file, = tmp_path.glob("seen-*.safetensors")
    before, content = file.stat().st_mtime_ns, file.read_bytes()
    checkpoint.save(saved, tmp_path)
    assert file.stat().st_mtime_ns == before
    file.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="it is not known which images the network was trained on"):
        assert checkpoint.load(tmp_path).seen.unknown
    checkpoint.save(saved, tmp_path)
    assert file.read_bytes() == content


def test_tensors_hold_the_hashes_and_those_of_a_foreign_file_are_sorted():
    seen = SeenImages.of(array(2**64 - 1, 0), array(5), pairs((1, 2**64 - 1)))
    again = SeenImages.from_tensors(seen.to_tensors(), ("these weights",))
    assert (again.trained.tolist(), again.selected_on.tolist()) == ([0, 2**64 - 1], [5])
    assert again.trained_perceptual.tolist() == [[1, 2**64 - 1]]
    assert again.unknown == ("these weights",)
    foreign = {"trained": torch.tensor([[7, -1], [7, 3]]), "selected_on": torch.tensor(2),
               "trained_perceptual": torch.tensor([[2, 1], [2, 1]])}
    assert SeenImages.from_tensors(foreign, ()).trained.tolist() == [3, 7, 2**64 - 1]
    assert SeenImages.from_tensors(foreign, ()).trained_perceptual.tolist() == [[2, 1]]
    with pytest.raises(KeyError):
        SeenImages.from_tensors({"trained": torch.tensor([1])}, ())
