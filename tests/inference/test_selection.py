"""Sixty images with random labels: whatever is done to the folder or the run, training images are never measured
without the output saying so. A network that has learned them by heart would otherwise look far better than chance.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alexnet
from alexnet.api.evaluation import evaluate_models
from alexnet.api.measurement import Evaluation
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import open_packed
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.inference.selection import Selection, select_unseen
from alexnet.models import checkpoint
from alexnet.models.seen import SeenImages
from command_line import alexnet as command

CLASSES = ("ash", "birch", "cedar")


def write_random_labels(root: Path, seed: int = 0) -> None:
    """20 images of noise in each of three class folders: nothing in an image tells its class."""
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(20):
            blocks = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            Image.fromarray(blocks).save(root / name / f"{number:02}.png")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def learn_by_heart(data: Path, tiny: Arch, out: Path) -> None:
    plain = override(recipe("modern"), ["epochs=15", "batch_size=9", "crop=center", "mirror=false", "lighting=0",
                                        "label_smoothing=0", "learning_rate=0.02"])
    alexnet.train(data, arch=override(tiny, ["dropout=0"]), recipe=plain, out=out, progress=False, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("random_labels") / "photos"
    write_random_labels(root)
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tiny: Arch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    learn_by_heart(folder, tiny, out)
    return out


@pytest.fixture(scope="module")
def other_run(tiny: Arch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with the same classes that saw none of the images."""
    root = tmp_path_factory.mktemp("other_run")
    write_random_labels(root / "others", seed=1)
    learn_by_heart(root / "others", tiny, root / "run")
    return root / "run"


def evaluate(run: Path | list[Path], data: Path, **options: object) -> Evaluation:
    paths = run if isinstance(run, list) else [run]
    defaults = {"views": 1, "split": None, "include_trained": False, "batch_size": 20, "device": "cpu", "fast": False}
    return evaluate_models(paths, str(data), progress=False, **defaults | options)  # type: ignore[arg-type]


def hashes_of(folder: Path) -> dict[int, Path]:
    from alexnet.data.content import content_hash

    return {content_hash(path.read_bytes()): path for path in sorted(folder.rglob("*.png"))}


# --- What may be done to the folder -----------------------------------------------------------------------------------


def copied(folder: Path, root: Path) -> Path:
    return shutil.copytree(folder, root / "copy", copy_function=shutil.copyfile)


def touched(folder: Path, root: Path) -> Path:
    for path in copied(folder, root).rglob("*.png"):
        os.utime(path, (1, 1))
    return root / "copy"


def renamed_files(folder: Path, root: Path) -> Path:
    for number, path in enumerate(sorted(copied(folder, root).rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"photo{number}.png"))
    return root / "copy"


def moved_into_a_validation_folder(folder: Path, root: Path) -> Path:
    shutil.copytree(folder, root / "data" / "val")
    write_random_labels(root / "data" / "train", seed=2)
    return root / "data"


def archived_as(kind: str) -> Callable[[Path, Path], Path]:
    def archived(folder: Path, root: Path) -> Path:
        return Path(shutil.make_archive(str(root / "photos"), kind, folder))

    return archived


def packed_with(**options: object) -> Callable[[Path, Path], Path]:
    held_out = options.pop("held_out", 0.1)

    def packed(folder: Path, root: Path) -> Path:
        dataset = open_dataset(folder, held_out=held_out)  # type: ignore[arg-type]
        return pack(dataset, root / "packed", **{"side": 32, **options}).path  # type: ignore[arg-type]

    return packed


CHANGES = {
    "as it is": lambda folder, root: folder, "copied": copied, "touched": touched, "files renamed": renamed_files,
    "as val/": moved_into_a_validation_folder, "zip": archived_as("zip"), "tar.gz": archived_as("gztar"),
    "packed": packed_with(), "held out 0.5": packed_with(held_out=0.5),
    "held out 0": packed_with(held_out=0.0), "packed as JPEG": packed_with(codec="jpeg"),
    "small shards": packed_with(shard_images=7),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_the_images_trained_on_are_left_out_whatever_is_done_to_the_folder(
    folder: Path, run: Path, tmp_path: Path, change: str,
):
    config = json.loads((run / "config.json").read_text())
    held_out = set(open_packed(config["data"]["packed"]).split("val").content_hashes.tolist())
    assert len(held_out) == 6
    evaluation = evaluate(run, CHANGES[change](folder, tmp_path))
    assert set(evaluation.measured.images.content_hashes.tolist()) == held_out
    assert evaluation.errors.images == 6
    selection = evaluation.measured.selection
    assert selection.describe() == (
        "measured: 6 of 60 images; the network was trained on the other 54; these 6 chose the best epoch, "
        "so the result is slightly optimistic")
    assert selection.to_json() == {
        "images": 6, "available": 60, "trained_on": 54, "includes_trained": False, "looks_trained_on": 0,
        "training_look_alikes": None, "selected_on": 6, "unknown": [], "undecodable": 0,
        "look_alikes_left_out": 0}


def test_the_network_knows_the_training_images_by_heart_and_no_others(folder: Path, run: Path, other_run: Path):
    """So the tests above would see a training image that is measured."""
    everything = evaluate(run / "last", folder, include_trained=True)
    assert everything.errors.top1_error < 0.2
    assert evaluate(other_run / "last", folder).errors.top1_error > 0.5  # chance: 0.667


def test_an_added_image_is_measured(folder: Path, run: Path, tmp_path: Path):
    data = copied(folder, tmp_path)
    Image.new("RGB", (32, 32), "teal").save(data / "ash" / "new.png")
    selection = evaluate(run, data).measured.selection
    assert selection.describe() == (
        "measured: 7 of 61 images; the network was trained on the other 54; 6 of these 7 chose the best epoch, "
        "so the result is slightly optimistic")


def test_a_copied_run_and_both_of_its_checkpoints_know_what_they_saw(folder: Path, run: Path, tmp_path: Path):
    for path in (shutil.copytree(run / "best", tmp_path / "best"), run / "last"):
        assert evaluate(path, folder).measured.selection.trained_on == 54


def test_an_exported_network_knows_what_it_saw(folder: Path, run: Path, tmp_path: Path):
    """In the Hugging Face layout; tests/models/test_round_trips.py has the other formats."""
    assert command("export", run / "best", tmp_path / "model") == 0
    evaluation = evaluate(tmp_path / "model", copied(folder, tmp_path))
    assert evaluation.measured.selection.describe() == (
        "measured: 6 of 60 images; the network was trained on the other 54; these 6 chose the best epoch, "
        "so the result is slightly optimistic")
    assert command("import", tmp_path / "model", tmp_path / "imported") == 0
    assert evaluate(tmp_path / "imported", folder).measured.selection.trained_on == 54


def test_an_ensemble_is_measured_on_what_no_member_saw_in_any_order(folder: Path, run: Path, other_run: Path):
    there, back = (evaluate(paths, folder) for paths in ([run, other_run], [other_run, run]))
    assert there.measured.selection.describe() == back.measured.selection.describe() == (
        "measured: 6 of 60 images; at least one of the networks was trained on the other 54; these 6 chose the best "
        "epoch, so the result is slightly optimistic")
    assert there.errors == back.errors
    assert there.measured.images.names == back.measured.images.names


def test_weights_trained_further_keep_what_the_initial_weights_saw(
    folder: Path, run: Path, tiny: Arch, tmp_path: Path,
):
    write_random_labels(tmp_path / "others", seed=3)
    alexnet.train(tmp_path / "others", init=run, epochs=2, out=tmp_path / "run", progress=False, device="cpu")
    selection = evaluate(tmp_path / "run", folder).measured.selection
    assert (selection.trained_on, len(selection.indices)) == (54, 6)
    seen = checkpoint.load(tmp_path / "run").seen
    assert len(seen.trained) == 54 + 54
    assert len(seen.selected_on) == 6 + 6


# --- What the output says ---------------------------------------------------------------------------------------------


def test_including_the_training_images_is_said_to_be_no_test_error(folder: Path, run: Path, tmp_path: Path, capsys):
    data = copied(folder, tmp_path)
    assert command("evaluate", run, data, "--include-trained") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "measured: all 60 images, of which the network was trained on 54: not a test error")
    train = evaluate(run, data, split="train").measured.selection
    assert train.describe() == "measured: all 54 images, of which the network was trained on all: not a test error"


def test_images_that_no_network_saw_are_said_to_be_unseen(folder: Path, other_run: Path, capsys):
    assert command("evaluate", other_run, folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "measured: all 60 images, none of these files seen in training"


def test_unrecorded_training_images_are_said_to_be_unknown(folder: Path, run: Path, tmp_path: Path):
    weights = checkpoint.load(run)
    weights.seen = SeenImages.not_recorded("torchvision's weights")
    checkpoint.save(weights, tmp_path / "imported")
    assert evaluate(tmp_path / "imported", folder).measured.selection.describe() == (
        "measured: all 60 images; it is not known which images torchvision's weights were trained on, and some "
        "may be among those measured: the error may be too low")
    both = evaluate([run, tmp_path / "imported"], folder).measured.selection
    assert both.describe() == (
        "measured: 6 of 60 images; at least one of the networks was trained on the other 54; it is not known which "
        "other images torchvision's weights were trained on, and some may be among those measured: the error may be "
        "too low; these 6 chose the best epoch, "
        "so the result is slightly optimistic")


def test_data_that_was_trained_on_entirely_is_refused_with_the_remedy(folder: Path, run: Path, tmp_path: Path):
    trained = set(checkpoint.load(run).seen.trained.tolist())
    data = copied(folder, tmp_path)
    for number, path in hashes_of(data).items():
        if number not in trained:
            path.unlink()
    with pytest.raises(UserError, match=rf"was trained on all 54 images of {data}; give images .* --include-trained"):
        evaluate(run, data)


def test_the_json_has_the_counts_and_the_keys_that_scripts_read(folder: Path, run: Path, capsys):
    assert command("evaluate", run, folder, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert {"images", "loss", "top1_error", "top5_error", "interval"} <= result.keys()
    assert result["images"] == 6
    assert result["measured"]["trained_on"] == 54


def test_the_table_of_errors_is_measured_on_the_same_images(folder: Path, run: Path, tmp_path: Path, capsys):
    data = copied(folder, tmp_path)
    assert command("reproduce", "table", run, data, "--json", "--device", "cpu") == 0
    result = json.loads(capsys.readouterr().out)
    assert {row["images"] for row in result["ours"]} == {6}
    assert (result["measured"]["images"], result["measured"]["trained_on"]) == (6, 54)


def test_the_report_shows_no_training_image_of_a_copied_folder(folder: Path, run: Path, tmp_path: Path):
    from alexnet.data.open import open_or_pack
    from alexnet.inference.validation import predict_validation

    saved = checkpoint.load(run / "last")
    predictions = predict_validation(saved, open_or_pack(str(renamed_files(folder, tmp_path)), 32))
    assert predictions is not None
    assert not set(predictions.split.content_hashes.tolist()) & set(saved.seen.trained.tolist())
    assert len(predictions.indices_M) == 6


# --- Counting ---------------------------------------------------------------------------------------------------------


class FiveImages:
    """What `select_unseen` needs of a split."""

    content_hashes = np.array([50, 10, 20, 10, 40], np.uint64)
    perceptual_hashes = np.zeros((5, 2), np.uint64)  # blank

    def __len__(self) -> int:
        return 5


def select(*seen: SeenImages, include_trained: bool = False) -> Selection:
    return select_unseen(FiveImages(), seen, include_trained)  # type: ignore[arg-type]


def test_every_copy_of_a_training_image_is_left_out():
    selection = select(SeenImages(np.array([10], np.uint64), np.array([50], np.uint64)))
    assert selection.indices.tolist() == [0, 2, 4]
    assert (selection.available, selection.trained_on, selection.selected_on) == (5, 2, 1)


def test_an_image_that_was_both_trained_on_and_selected_on_counts_as_trained_on():
    seen = SeenImages(np.array([10, 20], np.uint64), np.array([20, 40], np.uint64))
    assert select(seen).selected_on == 1
    selection = select(seen, include_trained=True)
    assert selection.indices.tolist() == [0, 1, 2, 3, 4]
    assert (selection.trained_on, selection.selected_on, selection.includes_trained) == (3, 1, True)


def test_an_untrained_network_has_seen_nothing():
    assert select(SeenImages()).describe() == "measured: all 5 images, none of these files seen in training"


@pytest.mark.parametrize(("roles", "words"), [
    (("epoch",), "chose the best epoch"), (("temperature",), "fitted the temperature"),
    (("epoch", "temperature"), "chose the best epoch or fitted the temperature"),
    (("schedule",), "steered the learning rate or the end of the training")])
def test_the_line_says_what_the_images_decided_and_of_how_many_files_some_could_not_be_decoded(roles, words):
    selection = Selection(np.arange(33), 339, 306, 33, (), 1, np.zeros(33, bool), 0.0, undecodable=3, roles=roles)
    assert selection.describe() == (
        "measured: 33 of 339 images; the network was trained on the other 306; these 33 "
        f"{words}, so the result is slightly optimistic; 3 of 342 files could not be decoded")
