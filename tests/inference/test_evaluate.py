"""Errors count every image once; intervals are Wilson's; ties and NaN count as errors."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.classes import match_classes
from alexnet.inference.evaluate import evaluate, predictions, probabilities
from alexnet.inference.metrics import Errors, count_errors
from alexnet.inference.statistics import wilson
from alexnet.models.alexnet import AlexNet


def member(arch, packed, seed=0):
    return AlexNet(arch, seed), Preprocess.from_data(arch.input, packed.mean_HWC)


def test_errors_equal_a_plain_count():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(12), size=500)
    labels = rng.integers(0, 12, 500)
    errors = count_errors(torch.from_numpy(p), torch.from_numpy(labels))
    ranked = np.argsort(-p, axis=1)
    assert errors.images == 500
    assert errors.top1_wrong == sum(label != row[0] for label, row in zip(labels, ranked, strict=True))
    assert errors.top5_wrong == sum(label not in row[:5] for label, row in zip(labels, ranked, strict=True))
    assert errors.loss == pytest.approx(-np.log(p[np.arange(500), labels]).mean())


def test_a_tie_and_nan_count_as_wrong():
    labels = torch.zeros(3, dtype=torch.long)
    even = torch.full((3, 4), 0.25)
    assert count_errors(even, labels).top1_wrong == 3
    assert count_errors(torch.full((3, 8), math.nan), labels).top5_wrong == 3
    assert count_errors(even, labels).top5_wrong == 0  # four classes are all among five


def test_evaluation_counts_every_image_once_at_any_batch_size(packed, tiny):
    network = member(tiny, packed)
    results = [evaluate([network], packed.split("val"), batch_size=size) for size in (1, 7, 44, 1000)]
    for result in results:
        assert result.images == 44
        assert result.top1_wrong == results[0].top1_wrong
        assert result.loss == pytest.approx(results[0].loss, rel=1e-5)
    assert network[0].training, "the network is left in the mode it was in"


def test_shares_of_several_ranks_add_up(packed, tiny):
    a, b = Errors(10, 3.0, 2, 1), Errors(5, 1.0, 5, 0)
    assert a + b == Errors(15, 4.0, 7, 1)
    assert math.isnan(Errors().top1_error)


def test_shares_of_more_ranks_than_a_batch_has_images_add_up(packed, tiny):
    models = [(AlexNet(tiny, 1), Preprocess.from_data(tiny.input, packed.mean_HWC))]
    progress, split = [], packed.split("val")
    shares = [evaluate(models, split, batch_size=3, share=(rank, 5), on_progress=lambda *done: progress.append(done))
              for rank in range(5)]
    whole, added = evaluate(models, split), sum(shares, Errors())
    assert (added.images, added.top1_wrong, added.top5_wrong) == (
        whole.images, whole.top1_wrong, whole.top5_wrong)
    assert added.loss == pytest.approx(whole.loss, rel=1e-6)
    assert progress.count((len(split), len(split))) == 5


def test_ten_views_average_ten_softmaxes(packed, tiny):
    network, preprocess = member(tiny, packed)
    network.eval()
    pixels = torch.from_numpy(packed.split("val").read(np.arange(5)))
    with torch.inference_mode():
        ours = probabilities([(network, preprocess)], pixels, views=10)
        views = preprocess.ten_views(pixels)
        local_rank0_first = torch.stack([network(views[:, v]).softmax(1) for v in range(10)]).mean(0)
    torch.testing.assert_close(ours, local_rank0_first)


def test_each_of_ten_views_is_divided_by_the_temperature_of_ten_views_and_one_view_by_its_own(packed, tiny):
    plain, preprocess = member(tiny, packed)
    calibrated = AlexNet(tiny, 0, temperature=2.0, ten_view_temperature=0.01)
    pixels = torch.from_numpy(packed.split("val").read(np.arange(5)))
    with torch.inference_mode():
        ten, one = (probabilities([(calibrated.eval(), preprocess)], pixels, views) for views in (10, 1))
        logits_NVK = plain.eval()(preprocess.ten_views(pixels).flatten(0, 1)).unflatten(0, (5, 10))
        torch.testing.assert_close(ten, (logits_NVK / 0.01).softmax(-1).mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one, (plain(preprocess(pixels)) / 2.0).softmax(-1))
        of_the_mean = (logits_NVK.mean(1) / 0.01).softmax(-1)
    assert (ten - of_the_mean).abs().max() > 0.01, "a mean of logits would be told apart"


def test_an_ensemble_averages_its_members(packed, tiny):
    models = [member(tiny, packed, seed) for seed in range(3)]
    pixels = torch.from_numpy(packed.split("val").read(np.arange(5)))
    for network, _ in models:
        network.eval()
    with torch.inference_mode():
        together = probabilities(models, pixels)
        alone = [probabilities([one], pixels) for one in models]
    torch.testing.assert_close(together, torch.stack(alone).mean(0))


def test_views_other_than_1_and_10_are_refused(packed, tiny):
    with pytest.raises(ValueError, match="must be 1 or 10"):
        list(predictions([member(tiny, packed)], packed.split("val"), views=3))


@pytest.mark.parametrize(("wrong", "of", "low", "high"), [
    (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)])
def test_wilson_interval_equals_published_values(wrong, of, low, high):
    # The last is Newcombe (1998), table I; the others follow from the formula by hand.
    assert wilson(wrong, of) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = [low <= 0.2 <= high for low, high in (wilson(int(k), 150) for k in rng.binomial(150, 0.2, 4000))]
    assert 0.93 < np.mean(covered) < 0.97


def test_classes_are_matched_by_name():
    assert match_classes(["ash", "birch", "cedar"], ["cedar", "ash"]).tolist() == [2, 0]
    with pytest.raises(ValueError, match="did you mean cedar"):
        match_classes(["ash", "birch", "cedar"], ["ash", "ceder"])


def test_capitals_do_not_matter_unless_they_alone_tell_classes_apart():
    assert match_classes(["English springer", "French horn"], ["french Horn", "english springer"]).tolist() == [1, 0]
    assert match_classes(["Crane", "crane"], ["crane", "Crane"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="not trained on 1"):
        match_classes(["Crane", "crane"], ["CRANE"])


def test_json_has_the_promised_fields():
    tree = json.loads(json.dumps(Errors(100, 50.0, 20, 5).to_json()))
    assert tree["images"] == 100
    assert (tree["loss"], tree["top1_error"], tree["top5_error"]) == (0.5, 0.2, 0.05)
    assert tree["interval"]["top1_error"][0] < 0.2 < tree["interval"]["top1_error"][1]


@pytest.mark.parametrize("errors", [Errors(100, 50.0, 20, 5), Errors(7, 3.5, 2, 1), Errors()])
def test_errors_come_back_from_their_json(errors):
    assert Errors.from_json(errors.to_json()) == errors


def test_a_perfect_network_has_no_errors(packed):
    class Oracle(nn.Module):
        """Reads the label that was painted into the first pixel."""

        def forward(self, x):
            return nn.functional.one_hot(x[:, 0, 0, 0].long(), 4).float() * 20

    class Painted(PackedSplit):
        codec = "jpeg"
        labels = packed.split("val").labels
        groups = None

        def __init__(self):
            pass

        def __len__(self):
            return len(self.labels)

        def read(self, share):
            pixels = np.zeros((len(share), 32, 32, 3), np.uint8)
            pixels[:] = self.labels[share][:, None, None, None]
            return pixels

    from alexnet.architecture.spec import InputSpec
    plain = Preprocess(InputSpec(side=32, crop=28, mean=(0.0, 0.0, 0.0)), torch.zeros(1, 1, 3))
    for views in (1, 10):
        assert evaluate([(Oracle(), plain)], Painted(), views=views).top1_error == 0
