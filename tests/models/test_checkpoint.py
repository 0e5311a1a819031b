"""Checkpoints are saved atomically, and damage to them is detected and named."""

import hashlib
import json
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from alexnet.architecture.recipe_presets import recipe
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint, load, locate, save


@pytest.fixture
def saved(tiny):
    network = AlexNet(tiny, seed=1)
    return Checkpoint(
        arch=tiny, classes=("ash", "birch", "cedar", "date palm"), weights=network.state_dict(),
        mean_HWC=torch.rand(1, 1, 3), recipe=recipe("modern"), velocity={"v": torch.randn(3)}, training={"step": 7})


def test_a_loaded_checkpoint_equals_the_saved_one(saved, tmp_path):
    save(saved, tmp_path / "last")
    back = load(tmp_path / "last", with_velocity=True)
    assert (back.arch, back.classes, back.recipe, back.training) == (
        saved.arch, saved.classes, saved.recipe, saved.training)
    for key, weight in saved.weights.items():
        assert torch.equal(back.weights[key], weight)
    assert torch.equal(back.velocity["v"], saved.velocity["v"])
    assert torch.equal(back.mean_HWC, saved.mean_HWC)
    x = torch.randn(2, 3, 28, 28)
    network = AlexNet(saved.arch, seed=1).eval()
    with torch.inference_mode():
        assert torch.equal(back.network()(x), network(x))


def test_a_checkpoint_says_which_software_wrote_it(saved, tmp_path):
    save(saved, tmp_path)
    written = load(tmp_path).versions
    assert written["alexnet"] == version("alexnet")
    assert written["torch"] == torch.__version__
    assert written == json.loads((tmp_path / "checkpoint.json").read_text())["versions"]


@pytest.mark.parametrize("versions", [{"torch": "2.10.0"}, None, "2.10.0"])
def test_a_checkpoint_of_before_versions_were_recorded_is_read(saved, tmp_path, versions):
    save(saved, tmp_path)
    tree = json.loads((tmp_path / "checkpoint.json").read_text())
    del tree["sha256"], tree["versions"]
    tree |= {"versions": versions} if versions else {}
    digest = hashlib.sha256(json.dumps(tree, indent=1).encode()).hexdigest()
    (tmp_path / "checkpoint.json").write_text(json.dumps({**tree, "sha256": digest}, indent=1))
    assert load(tmp_path).versions == (versions if isinstance(versions, dict) else {})


def test_a_run_folder_means_its_best_then_its_last(saved, tmp_path):
    save(saved, tmp_path / "last")
    assert locate(tmp_path) == tmp_path / "last"
    save(saved, tmp_path / "best")
    assert locate(tmp_path) == tmp_path / "best"
    assert locate(tmp_path / "best" / "checkpoint.json") == tmp_path / "best"


def test_a_path_without_a_checkpoint_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        load(tmp_path)


def test_saving_again_leaves_only_the_new_files(saved, tmp_path):
    saved.velocity = {}  # as `best` and imports have it
    save(saved, tmp_path)
    saved.training["step"] = 8
    save(saved, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4, "checkpoint.json, weights, velocity, seen images"
    assert load(tmp_path).training["step"] == 8


def spoil(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def saved_at(saved, folder: Path, *steps: int) -> None:
    for step in steps:
        save(replace(saved, training={"step": step}), folder)


@pytest.mark.parametrize("part", ["checkpoint.json", "weights-00000009*", "velocity-00000009*"])
def test_a_damaged_latest_state_falls_back_to_the_state_before(saved, tmp_path, part):
    saved_at(saved, tmp_path, 7, 8, 9)
    assert {path.name[:16] for path in tmp_path.iterdir() if not path.name.startswith("seen-")} == {
        "checkpoint.json", "checkpoint.previ", *(f"{role}-0000000{step}"[:16] for role in ("weights", "velocity")
                                                 for step in (8, 9))}
    (spoilt,) = tmp_path.glob(part)
    spoil(spoilt)
    with pytest.warns(UserWarning, match=rf"{spoilt.name} is damaged.*checkpoint\.previous\.json is used .*of step 8"):
        back = load(tmp_path, with_velocity=True)
    assert back.training["step"] == 8
    assert torch.equal(back.velocity["v"], saved.velocity["v"])
    # The run takes those steps again and saves them, and again there is a state before.
    saved_at(saved, tmp_path, 9)
    assert load(tmp_path, with_velocity=True).training["step"] == 9
    spoil(next(tmp_path.glob("weights-00000009*")))
    with pytest.warns(UserWarning, match="of step 8"):
        assert load(tmp_path).training["step"] == 8
    spoil(next(tmp_path.glob("weights-00000008*")))
    with pytest.raises(ValueError, match=r"weights-00000009.* is damaged"):
        load(tmp_path)


def test_a_damaged_best_falls_back_to_last(saved, tmp_path):
    saved_at(saved, tmp_path / "last", 8, 9)
    saved_at(replace(saved, velocity={}), tmp_path / "best", 7)
    assert load(tmp_path).path == tmp_path / "best"
    spoil(next((tmp_path / "best").glob("weights*")))
    with pytest.warns(UserWarning, match=r"best.* is damaged.*last.* is used instead, of step 9"):
        assert load(tmp_path).path == tmp_path / "last"
    with pytest.raises(ValueError, match="is damaged"):  # where it was asked for by name
        load(tmp_path / "best")


def test_saving_the_same_state_again_never_overwrites_the_current_files(saved, tmp_path, monkeypatch):
    """As when a signal stops a run right after an epoch's end: its names are the same, for its bytes are."""
    save(saved, tmp_path)
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        save(saved, tmp_path)
    load(tmp_path, with_velocity=True)


@pytest.mark.parametrize("change", [
    lambda tree: tree.pop("files"), lambda tree: tree["files"].pop("weights"), lambda tree: tree.update(classes=7),
    lambda tree: tree.update(training=[1]), lambda tree: tree["files"]["weights"].pop("file"),
    lambda tree: tree.update(arch={"name": 7}), lambda tree: tree.update(format="one")])
def test_a_head_with_wrong_content_and_right_checksum_is_rejected(saved, tmp_path, change):
    save(saved, tmp_path)
    tree = json.loads((tmp_path / "checkpoint.json").read_text())
    del tree["sha256"]
    change(tree)
    tree["sha256"] = hashlib.sha256(json.dumps(tree, indent=1).encode()).hexdigest()
    (tmp_path / "checkpoint.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"checkpoint\.json|arch"):
        load(tmp_path)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs, not even `except OSError`."""


def test_killed_at_any_write_the_folder_holds_the_old_state_or_the_new(saved, tmp_path, monkeypatch):
    """Every fsync, rename and unlink of a save is, in turn, the last thing that happens."""
    calls = [(os, "fsync"), (Path, "replace"), (Path, "unlink")]
    originals = [getattr(owner, name) for owner, name in calls]
    saved.training["step"] = 1
    outcomes = []
    for survives in range(20):
        folder = tmp_path / str(survives)
        save(saved, folder)
        left = survives

        def dying(original):
            def call(*arguments, **settings):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return original(*arguments, **settings)
            return call

        newer = Checkpoint(**{**vars(saved), "training": {"step": 2}})
        with monkeypatch.context() as patch:
            for (owner, name), original in zip(calls, originals, strict=True):
                patch.setattr(owner, name, dying(original))
            try:
                save(newer, folder)
                finished = True
            except Killed:
                finished = False
        outcomes.append(load(folder, with_velocity=True).training["step"])
        if finished:
            break
        save(newer, folder)  # and saving after such a death works
        assert load(folder).training["step"] == 2
    assert finished
    assert outcomes[0] == 1
    assert outcomes[-1] == 2
    assert outcomes == sorted(outcomes)


def test_killed_in_a_second_save_of_the_same_step_the_first_is_whole(saved, tmp_path, monkeypatch):
    """After an epoch's last step, and again when it is evaluated: the files have the same names."""
    save(saved, tmp_path)
    again, real = Checkpoint(**{**vars(saved), "errors": {"loss": 1.0}}), Path.open
    for survives in range(3):
        left = survives

        def dying(path, mode="r"):
            nonlocal left
            file = real(path, mode)
            if mode == "wb":
                if left == 0:
                    file.close()
                    raise Killed
                left -= 1
            return file

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", dying)
            with pytest.raises(Killed):
                save(again, tmp_path)
        assert load(tmp_path, with_velocity=True).errors == {}
    save(again, tmp_path)
    assert load(tmp_path).errors == {"loss": 1.0}
    assert len(list(tmp_path.iterdir())) == 4, "what the killed saves left is gone"


def test_a_full_disk_leaves_the_previous_checkpoint_and_no_other_files(saved, tmp_path, monkeypatch):
    save(saved, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    saved.training["step"] = 8
    real = os.fsync
    for fails_at in range(3):
        count = 0

        def full(handle, fails_at=fails_at):
            nonlocal count
            count += 1
            if count > fails_at:
                raise OSError(28, "No space left on device")
            real(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                save(saved, tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_every_flipped_bit_and_every_truncation_is_detected(saved, tmp_path):
    save(saved, tmp_path)
    files = [path for path in tmp_path.iterdir() if path.name.startswith(("checkpoint", "weights"))]
    assert len(files) == 2
    generator = torch.Generator().manual_seed(0)
    for path in files:
        data = path.read_bytes()
        for _ in range(60):
            place = int(torch.randint(len(data), (), generator=generator))
            broken = bytearray(data)
            broken[place] ^= 1 << int(torch.randint(8, (), generator=generator))
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=r"damaged|is missing") as error:
                load(tmp_path)
            assert str(tmp_path) in str(error.value)
        for length in (0, 1, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:length])
            with pytest.raises(ValueError, match="damaged"):
                load(tmp_path)
        path.write_bytes(data)
    load(tmp_path)


def test_a_missing_tensor_file_is_named(saved, tmp_path):
    save(saved, tmp_path)
    weights = next(tmp_path.glob("weights*"))
    weights.unlink()
    with pytest.raises(ValueError, match=f"{weights.name} is missing"):
        load(tmp_path)


def test_a_newer_format_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_FORMAT", checkpoint.CHECKPOINT_FORMAT + 1)
    save(saved, tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="upgrade alexnet"):
        load(tmp_path)


def test_an_older_format_is_rejected(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_FORMAT", checkpoint.CHECKPOINT_FORMAT - 1)
    save(saved, tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 5, and this version of alexnet reads format 6"):
        load(tmp_path)


def test_the_head_is_plain_json_that_names_the_network(saved, tmp_path):
    save(saved, tmp_path)
    tree = json.loads((tmp_path / "checkpoint.json").read_text())
    assert tree["arch"]["name"] == "small"
    assert tree["classes"] == list(saved.classes)
