"""The user's own augmentation: what it gets, when it is refused, and a resumed run that equals an uninterrupted one."""

import functools
import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import alexnet
import peers
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import batches
from alexnet.data.preprocessing import Preprocess
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged, Interrupted
from alexnet.training.transform import apply_transform, transform_name
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = override(recipe("modern"), ["epochs=2", "batch_size=20"])


def noisy(views):
    """Draws from all three global generators."""
    strength = random.uniform(0.1, 0.5) * np.random.uniform(0.5, 1)  # noqa: NPY002
    return views + strength * torch.randn_like(views)


def darker(views):
    return views - 0.1


class Shift:
    """A callable object."""

    def __call__(self, views):
        return views + 1


def train(packed, tiny, out, transform, epochs=2, **options):
    """Train without a report. Returns the run folder."""
    build(RunSpec(packed, tiny, override(SHORT, [f"epochs={epochs}"]), out, workers=0, transform=transform,
                  **options)).fit()
    return out


def weights(folder):
    return checkpoint.load(folder / "last").weights


def same(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


def test_it_gets_the_networks_input_after_crops_and_mirrors(packed, tiny, tmp_path):
    got = []

    def keep(views):
        got.append(views.clone())
        return views

    trainer = build(RunSpec(packed, tiny, SHORT, tmp_path / "run", seed=3, transform=keep))
    got.clear()  # of the check before training
    batch = next(iter(batches(packed.split("train"), 20, shuffle=(3, 0))))
    trainer.train_batch(batch, 0.01, 0.01)
    preprocess = Preprocess.from_data(tiny.input, packed.mean_HWC)
    expected = preprocess.training_views(
        batch.pixels, batch.indices, SHORT, 3, 0, lighting_basis(packed.rgb_covariance, SHORT.lighting_scale))
    assert len(got) == 1
    assert got[0].shape == (20, 3, 28, 28)
    torch.testing.assert_close(got[0], expected)


def test_a_run_without_a_transform_is_the_same_as_with_one_that_changes_nothing(packed, tiny, tmp_path):
    def nothing(views):
        torch.rand(5)
        return views

    plain = train(packed, tiny, tmp_path / "plain", None)
    assert same(weights(plain), weights(train(packed, tiny, tmp_path / "same", nothing)))
    assert not same(weights(plain), weights(train(packed, tiny, tmp_path / "noisy", noisy)))


def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_ends(packed, tiny, tmp_path):
    whole = train(packed, tiny, tmp_path / "whole", noisy)

    def stop(event):
        if event["event"] == "step" and event["step"] == 4:  # within the first epoch of 6 steps
            os.kill(os.getpid(), signal.SIGTERM)

    spec = RunSpec(packed, tiny, SHORT, tmp_path / "cut", workers=0, transform=noisy)
    with pytest.raises(Interrupted):
        build(spec, on_event=stop).fit()
    state = checkpoint.load(tmp_path / "cut" / "last").training
    assert 0 < state["step"] < 6
    torch.rand(7)  # another state of the global generators
    random.random()
    cut = train(packed, tiny, tmp_path / "cut", noisy, resume=True)
    assert same(weights(whole), weights(cut))


def test_the_global_generators_are_left_as_they_were(packed):
    torch.manual_seed(0)
    random.seed(0)
    expected = torch.rand(1), random.random()
    torch.manual_seed(0)
    random.seed(0)
    first = apply_transform(noisy, torch.zeros(2, 3, 4, 4), (5, 1))
    assert (torch.rand(1), random.random()) == expected
    assert torch.equal(first, apply_transform(noisy, torch.zeros(2, 3, 4, 4), (5, 1)))
    assert not torch.equal(first, apply_transform(noisy, torch.zeros(2, 3, 4, 4), (5, 2)))
    assert not torch.equal(first, apply_transform(noisy, torch.zeros(2, 3, 4, 4), (6, 1)))


@pytest.mark.parametrize(("transform", "words"), [
    (lambda views: None, "returned an object of type NoneType; return"),
    (lambda views: views[:1], r"returned float32 \[1, 3, 28, 28\] on cpu, and it was given float32 \[2, 3, 28, 28\]"),
    (lambda views: views.double(), r"returned float64 \[2, 3, 28, 28\] on cpu"),
    (lambda views: views.permute(0, 2, 3, 1), r"returned float32 \[2, 28, 28, 3\]"),
    (3, "the transform is of type int, which cannot be called")],
    ids=["none", "shape", "dtype", "layout", "not callable"])
def test_a_wrong_result_is_refused_by_what_it_is_before_anything_is_written(packed, tiny, tmp_path, transform, words):
    with pytest.raises(alexnet.UserError, match=words):
        train(packed, tiny, tmp_path / "run", transform)
    assert not (tmp_path / "run").exists()


def test_values_that_are_not_finite_are_blamed_on_the_transform(packed, tiny, tmp_path):
    def spoil(views):
        return views.clone().index_fill_(0, torch.tensor([1]), float("nan")) if len(views) > 2 else views

    with pytest.raises(Diverged, match=r"check what the transform .*spoil returns for these images") as e:
        train(packed, tiny, tmp_path / "run", spoil)
    assert len(e.value.images) == 1


def test_its_name_is_recorded_and_a_resume_needs_the_same(packed, tiny, tmp_path, capsys):
    run = alexnet.train(packed.path, arch=tiny, recipe=SHORT, epochs=1, out=tmp_path / "run", device="cpu",
                        precision="fp32", transform=noisy)
    name = f"{__name__}.noisy"
    assert f"transform {name}: changes the views of every training batch\n" in capsys.readouterr().err
    assert json.loads((run.path / "config.json").read_text())["transform"] == name
    report = " ".join(run.report.read_text().split())
    assert f"The transform {name} is a function in Python, so no command line reproduces it." in report
    for other, called in ((None, "no transform"), (darker, rf"the transform {__name__}\.darker")):
        with pytest.raises(alexnet.UserError, match=
                           rf"was started with the transform {name} and is now resumed with {called}; "):
            train(packed, tiny, run.path, other, resume=True, epochs=3)
    assert command("train", packed.path, "--out", run.path, "--resume", "--epochs", "3") == 2
    assert "resume it in Python with the original transform" in capsys.readouterr().err
    train(packed, tiny, run.path, noisy, resume=True, epochs=2)
    plain = train(packed, tiny, tmp_path / "plain", None, epochs=1)
    with pytest.raises(alexnet.UserError, match=r"was started with no transform and is now resumed with the transform"):
        train(packed, tiny, plain, noisy, resume=True)


def test_a_run_like_one_with_a_transform_says_that_it_is_not_taken(packed, tiny, tmp_path, capsys):
    train(packed, tiny, tmp_path / "run", noisy, epochs=1)
    alexnet.train(packed.path, like=tmp_path / "run", out=tmp_path / "like", device="cpu")
    assert f"was trained with the transform {__name__}.noisy, which --like does not copy" in capsys.readouterr().err


SCRIPT = """
import sys
import torch
import alexnet

def draw(views):
    print(f"{len(views)} {torch.rand(1).item()}", file=open(f"{sys.argv[2]}/{torch.distributed.get_rank()}.txt", "a"))
    return views

alexnet.train(sys.argv[1], arch="cifar", settings=["arch.conv.width=8", "arch.dense.width=8"], epochs=1,
              batch_size=20, out=f"{sys.argv[2]}/run", device="cpu", transform=draw)
"""


@pytest.mark.slow
def test_two_processes_draw_other_numbers_for_their_parts_and_say_so(packed, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
         str(packed.path), str(tmp_path)], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert "each of 2 processes calls it on its own part of a batch with other random numbers" in ran.stderr
    first, second = ((tmp_path / f"{rank}.txt").read_text().split() for rank in range(2))
    assert first[2::2] == second[2::2] == ["10"] * 6  # two views are checked before
    assert not {*first[3::2]} & {*second[3::2]}


def test_names():
    assert transform_name(None) == ""
    assert transform_name(noisy) == f"{__name__}.noisy"
    assert transform_name(functools.partial(noisy)) == f"{__name__}.noisy"
    assert transform_name(Shift()) == f"{__name__}.Shift"
    assert transform_name(torch.nn.Dropout(0.1)) == "torch.nn.modules.dropout.Dropout"


def test_it_is_called_for_each_micro_batch_with_numbers_of_its_own(packed, tiny, tmp_path):
    drawn = []

    def draw(views):
        drawn.append((len(views), torch.rand(1).item()))
        return views

    trainer = build(RunSpec(packed, tiny, SHORT, tmp_path / "run", transform=draw, micro_batch=10))
    drawn.clear()
    trainer.train_batch(next(trainer.epoch_batches()), 0.01, 0.01)
    assert [images for images, _ in drawn] == [10, 10]
    assert drawn[0][1] != drawn[1][1]


def test_training_the_output_layer_alone_refuses_it(packed, trained, tmp_path):
    with pytest.raises(alexnet.UserError, match="transform has no effect with --head"):
        alexnet.train(packed.path, init=trained, head=True, out=tmp_path / "run", transform=noisy, progress=False)


@pytest.mark.needs("kornia", "pip install '.[test]'")
def test_transforms_of_torchvision_and_kornia_can_be_given_as_they_are():
    """docs/python.md: torchvision draws once for a whole batch, kornia once for each image."""
    import kornia.augmentation

    peers.torchvision()
    from torchvision.transforms import v2

    views = torch.ones(4, 3, 28, 28)
    for transform, draws in ((v2.RandomErasing(p=1.0), 1), (kornia.augmentation.RandomErasing(p=1.0), 4)):
        first = apply_transform(transform, views, (0, 7))
        assert torch.equal(first, apply_transform(transform, views, (0, 7)))
        assert not torch.equal(first, apply_transform(transform, views, (0, 8)))
        assert len({tuple(view.flatten().tolist()) for view in first}) == draws
