"""A save to a slow disk holds no step: training goes on until the disk has written, with the weights of the save."""

from __future__ import annotations

import threading
from dataclasses import replace

import torch

from alexnet._runtime.readback import begin_copies
from alexnet.architecture.recipe_presets import recipe
from alexnet.models import saver
from alexnet.training.build import build
from alexnet.training.spec import RunSpec


def test_steps_go_on_while_a_save_waits_for_its_disk(packed, tiny, tmp_path, monkeypatch):
    """The disk writes the first save only after three more steps: a step that waited for it would wait for ever."""
    after_three_steps, written, steps = threading.Event(), [], []
    real = saver.save

    def slow(checkpoint, folder):
        assert after_three_steps.wait(60), "no step was taken while the disk was slow"
        written.append((checkpoint.training["step"], checkpoint.weights[key].clone(), len(steps)))
        real(checkpoint, folder)

    trainer = build(RunSpec(packed, tiny, replace(recipe("paper"), batch_size=8, epochs=1), tmp_path / "run",
                            save_minutes=0.0))
    weights, key = {}, f"classifier.{trainer.network.layer_names()[-1]}.weight"

    def watch(event):
        if event["event"] == "step":
            steps.append(event["step"])
            weights[event["step"]] = trainer.network.state_dict()[key].clone()
            if len(steps) == 2:  # two saves may be pending; the third would wait for the first
                trainer.spec = replace(trainer.spec, save_minutes=1e9)
            if len(steps) == 5:
                after_three_steps.set()

    trainer.on_event = watch
    monkeypatch.setattr(saver, "save", slow)
    trainer.fit()
    step, saved, taken = written[0]
    assert step == 1
    assert taken >= 5, "training did not go on"
    assert torch.equal(saved, weights[1]), "the save has the weights of its own step"
    assert not torch.equal(saved, weights[5])


def test_copies_keep_the_values_of_their_moment():
    weight = torch.arange(4.0)
    copies = begin_copies({"w": weight})
    weight.zero_()
    assert copies()["w"].tolist() == [0, 1, 2, 3]
