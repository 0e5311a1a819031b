"""Figures 1 to 4 of the paper: curves, the network diagram, kernels by tower, predictions and nearest images."""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from alexnet._runtime.page_style import PALETTE
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import override
from alexnet.architecture.spec import Arch
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models.formats.huggingface import write_huggingface
from alexnet.reproduce.figures import confusion, figure1, figure3, figure4, learning_curves, style
from alexnet.reproduce.figures.drawing import Circle, Path, Picture, Text
from alexnet.reproduce.figures.figure2 import network_diagram
from alexnet.reproduce.figures.svg import svg
from command_line import alexnet as command
from drawings import box, circles, curves, labels, overlap, shapes, texts
from report_runs import CLASSES
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ("input.side=32", "input.crop=28", "conv.width=16", "dense.width=32")


# --- Figure 1 ---------------------------------------------------------------------------------------------------------


def run_folder(folder, activation, errors):
    folder.mkdir()
    events = [{"event": "start", "classes": 4}, *({"event": "epoch", "epoch": number, "train_error": error}
                                                  for number, error in enumerate(errors, 1))]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "ep')
    (folder / "config.json").write_text(json.dumps({"arch": {"activation": activation}, "recipe": {}, "data": {}}))
    return folder


def test_figure1_draws_the_training_errors_of_the_logs(tmp_path):
    runs = [run_folder(tmp_path / "a", "relu", [0.5, 0.2]), run_folder(tmp_path / "b", "tanh", [0.7, 0.6, 0.5])]
    drawing = figure1.figure1(runs)
    (axes,) = drawing.axes
    assert curves(axes, "blue", 1.8)[0] == [(0, 0.75), (1, 0.5), (2, 0.2)]
    assert curves(axes, "red", 1.8)[0] == [(0, 0.75), (1, 0.7), (2, 0.6), (3, 0.5)]
    solid, dashed = (shapes(axes, Path, stroke=color, width=1.8)[0] for color in ("blue", "red"))
    assert (solid.dashes, dashed.dashes) == ((), learning_curves.DASHED)
    assert [(0, 0.25), (3, 0.25)] in curves(axes, "quiet", 0.8)
    assert circles(axes, fill="paper") == [(0, 0.75)]
    assert legend(axes) == ["a, ReLU", "b, tanh", "chance, before training"]
    assert labels(axes, rows=False) == {"0": 0, "1": 1, "2": 2, "3": 3}
    assert {"0%": 0, "20%": 0.2, "60%": 0.6}.items() <= labels(axes, rows=True).items()
    said = texts(drawing)
    assert said[said.index("paper compares") - 1] == "25%, where the"


def legend(axes):
    """The texts beside the axes, from top to bottom, without the words on the target."""
    return [text.text for text in shapes(axes, Text) if text.x > axes.right + 10 and text.size == 9]


def test_a_curve_of_figure1_has_the_line_of_its_activation_and_the_legend_covers_nothing(tmp_path):
    runs = {name: run_folder(tmp_path / name, activation, [0.5, 0.2]) for name, activation in
            (("s", "sigmoid"), ("t", "tanh"), ("r", "relu"), ("r2", "relu"))}

    def lines(*names):
        (axes,) = figure1.figure1([runs[name] for name in names]).axes
        return [(path.dashes, path.stroke) for path in shapes(axes, Path, width=1.8) if len(path.points) == 3]

    sigmoid, tanh, relu = lines("s", "t", "r")
    assert relu[0] == ()
    assert tanh[0] == learning_curves.DASHED
    assert len({sigmoid, tanh, relu}) == 3
    assert lines("r", "s", "t") == [relu, sigmoid, tanh]
    assert lines("t") == [tanh]
    assert lines("r", "r2", "t")[::2] == [relu, tanh]
    assert len(set(lines("r", "r2", "t", "s"))) == 4

    drawing = figure1.figure1(list(runs.values()))
    (axes,) = drawing.axes
    for label in legend(axes):
        left, top, right, _ = box(shapes(axes, Text, text=label)[0])
        assert axes.right < left < right <= drawing.width
        assert top >= 0


def test_figure1_labels_runs_by_folder_and_activation(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    runs = [run_folder(tmp_path / name, "relu", [0.5]) for name in ("x/mine", "y/mine", "other")]

    def labels(*chosen):
        return legend(figure1.figure1(chosen).axes[0])[:-1]

    assert labels(runs[0]) == ["mine, ReLU"]
    assert labels(runs[0], runs[2]) == ["mine, ReLU", "other, ReLU"]
    assert labels(runs[0], runs[1]) == [f"{runs[0]}, ReLU", f"{runs[1]}, ReLU"]


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHS)
def test_the_network_diagram_has_every_size_of_explain(name):
    arch = ARCHS[name]
    drawn = texts(network_diagram(arch))
    for layer in explain(arch).layers:
        first, *rest = layer.output_shape
        if layer.kind == "convolution":
            shape = "×".join(map(str, (first // arch.towers, *rest)))
            assert (f"{arch.towers} × {shape}" if arch.towers > 1 else shape) in drawn
            kernel = f"{layer.kernel}×{layer.kernel}×{layer.input_shape[0] // layer.groups}"
            assert any(text.startswith(kernel) for text in drawn)
        elif layer.kind == "max pooling":
            assert f"pool {layer.kernel}/{layer.stride} to {rest[0]}" in drawn
    assert [text for text in drawn if text.startswith(("conv", "fc"))] == [
        layer.name for layer in explain(arch).layers if layer.kind in ("convolution", "fully connected")]


def test_the_diagram_of_paper_has_the_numbers_of_figure_2():
    drawn = texts(network_diagram(ARCHS["paper"]))
    for text in ("3×224×224", "2 × 48×55×55", "2 × 128×27×27", "2 × 192×13×13", "2 × 128×13×13", "2 × 2048", "1000",
                 "11×11×3, stride 4", "5×5×48", "3×3×256", "3×3×192"):
        assert text in drawn


def crossings(arch):
    """The layers at which lines of the diagram cross from one tower to the other."""
    drawing = network_diagram(arch)
    text_top = min(text.y for text in shapes(drawing, Text)) - 15
    middle = text_top / 2
    names = {text.x: text.text for text in shapes(drawing, Text) if text.text.startswith(("conv", "fc", "input"))}
    found = Counter()
    for line in shapes(drawing, Path, closed=False):
        (x0, y0), (x1, y1) = line.points
        begins_in_a_tower = x0 > min(place for place, name in names.items() if name == "conv1")
        if begins_in_a_tower and (y0 - middle) * (y1 - middle) < 0 and abs(y1 - middle) > 20:
            found[names[max(place for place in names if place <= x1)]] += 1
    return set(found)


def test_lines_cross_towers_only_at_layers_connected_to_both():
    assert crossings(ARCHS["paper"]) == {"conv3", "fc6", "fc7"}
    assert crossings(override(ARCHS["paper"], ["conv3.grouped=true"])) == {"fc6", "fc7"}
    assert crossings(override(ARCHS["paper"], ["conv2.grouped=false"])) == {"conv2", "conv3", "fc6", "fc7"}


@pytest.mark.parametrize(("arch", "size"), [
    *((arch, None) for arch in ARCHS.values()), (override(ARCHS["paper"], ["towers=4", "conv.width=32"]), None),
    (ARCHS["paper"], 100_000), (override(ARCHS["one-gpu"], ["classes=1000000000000000000"]), 10_000_000)],
    ids=lambda value: f"{value.name}-{value.towers}" if isinstance(value, Arch) else value)
def test_texts_of_a_diagram_do_not_overlap_and_stay_inside(arch, size):
    drawing = network_diagram(arch, size)
    boxes = [box(text) for text in shapes(drawing, Text)]
    for first, second in combinations(boxes, 2):
        assert not overlap(first, second)
    rows = sorted(boxes, key=lambda edges: (round(edges[3]), edges[0]))
    for first, second in pairwise(rows):
        assert round(first[3]) != round(second[3]) or second[0] - first[2] >= 14  # points between two columns
    assert all(left >= 0 and right <= drawing.width and bottom <= drawing.height for left, _, right, bottom in boxes)


def test_kernels_are_visible_on_any_input_size():
    for size in (224, 2_000, 100_000):
        kernels = shapes(network_diagram(ARCHS["paper"], size), Path, closed=True, layer="")
        tall = [abs(kernel.points[2][1] - kernel.points[1][1]) for kernel in kernels]
        assert len(kernels) == 9  # on the input, and on conv1 to conv4 of both towers
        assert min(tall) >= 12


def test_every_part_of_a_box_names_its_layer_in_the_svg():
    parts = Counter(re.findall(r'data-layer="(\w+)"', svg(network_diagram(ARCHS["paper"]))))
    # Three faces of each box of maps, one of units; two towers, but one input and one output.
    assert parts == {"input": 3, **{f"conv{n}": 6 for n in range(1, 6)}, "fc6": 2, "fc7": 2, "fc8": 1}


def test_a_diagram_is_drawn_reproducibly_as_valid_files(tmp_path):
    once, again = (style.save_figure(network_diagram(ARCHS["small"]), tmp_path / name / "net") for name in ("a", "b"))
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    assert [path.name for path in once] == ["net.png", "net.svg"]
    assert ET.fromstring(once[1].read_text()).tag.endswith("svg")


# --- Figure 3 ---------------------------------------------------------------------------------------------------------


def test_colorfulness_of_gray_pure_color_and_random_kernels():
    rng = np.random.default_rng(0)
    gray = rng.normal(size=(8, 1, 11, 11)).repeat(3, 1)
    color = rng.normal(size=(8, 3, 11, 11))
    color -= color.mean(1, keepdims=True)
    assert figure3.colorfulness(np.concatenate([gray, color]), towers=2) == pytest.approx([0, 1])
    assert figure3.colorfulness(rng.normal(size=(500, 3, 11, 11)))[0] == pytest.approx(2 / 3, abs=0.01)
    assert figure3.colorfulness(np.concatenate([gray, 100 * color]))[0] == pytest.approx(0.5)  # a mean over kernels


@pytest.mark.parametrize(("name", "settings", "titles"), [
    ("medium", (), ["Group 1", "Group 2"]), ("caffe", ("conv.width=16",), ["Group 1", "Group 2"]),
    ("paper", ("conv.width=16",), ["Tower 1", "Tower 2"]), ("small", (), ["48 filters"])])
def test_figure3_calls_towers_only_those_of_the_paper(name, settings, titles):
    """Caffe's response normalization reads both groups, and medium has none (docs/presets.md)."""
    drawing = figure3.figure3(saved_as(name, *settings, "dense.width=8"))
    assert [text.partition(":")[0] for text in texts(drawing)] == titles


def test_figure3_titles_each_tower_with_its_colorfulness():
    saved = saved_as("paper", "dense.width=8")
    drawing = figure3.figure3(saved)
    shares = figure3.colorfulness(saved.weights["features.conv1.weight"].numpy(), 2)
    assert texts(drawing) == [f"Tower {number}: {share:.0%} color (random weights: 67%)"
                              for number, share in enumerate(shares, 1)]
    towers = np.split(saved.weights["features.conv1.weight"].numpy(), 2)
    for picture, title, tower in zip(shapes(drawing, Picture), shapes(drawing, Text), towers, strict=True):
        assert title.y < picture.y
        np.testing.assert_array_equal(picture.pixels, figure3.kernel_sheet(tower, scale=1))


def test_smoothness_of_flat_checkerboard_and_random_kernels():
    rng = np.random.default_rng(0)
    board = np.indices((6, 6)).sum(0) % 2 * 2.0 - 1
    edge = np.where(np.arange(8) < 4, -1.0, 1.0)[:, None].repeat(8, 1)
    for kernel, expected in ((np.ones((6, 6)), 1), (board, -1), (edge, (1 + 5 / 7) / 2)):
        assert figure3.smoothness(kernel[None, None].repeat(3, 1)) == pytest.approx(expected)
    for shape in ((48, 3, 5, 5), (96, 3, 11, 11), (16, 3, 3, 3)):
        assert abs(figure3.smoothness(rng.normal(size=shape))) < figure3.RANDOM_SMOOTHNESS
    assert figure3.smoothness(np.zeros((4, 3, 1, 1))) == 0


# --- Figure 4 ---------------------------------------------------------------------------------------------------------


def images_and_texts(drawing):
    """The images and the texts of a drawing with their colors, each in order."""
    return ([picture.pixels for picture in shapes(drawing, Picture)],
            [(text.text, text.color) for text in shapes(drawing, Text)])


def test_figure4_shows_the_nearest_of_all_training_images(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    saved = saved_as("small", *TINY, classes=packed.classes)
    model, train, val = model_from_checkpoint(saved), packed.split("train"), packed.split("val")
    pictures, _ = images_and_texts(figure4.figure4(saved, packed))
    assert len(pictures) == 8 + 5 * (1 + 6)
    examples = np.linspace(0, len(val) - 1, 8).astype(int)
    np.testing.assert_array_equal(pictures[0], val.read_one(examples[0]))
    reference_set = model.features(list(train.read(np.arange(len(train))))).numpy()
    query = model.features(val.read_one(examples[2])).numpy()
    best = np.argsort(np.linalg.norm(reference_set - query, axis=1), kind="stable")[:6]
    row = pictures[8 + 2 * 7 : 8 + 3 * 7]
    np.testing.assert_array_equal(row[0], val.read_one(examples[2]))
    for picture, place in zip(row[1:], best, strict=True):
        np.testing.assert_array_equal(picture, train.read_one(place))


def test_figure4_shows_distances_and_colors_the_same_class_blue(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    saved = saved_as("small", *TINY, classes=packed.classes)
    model, val = model_from_checkpoint(saved), packed.split("val")
    examples = np.linspace(0, len(val) - 1, 8).astype(int)[:5]
    nearest = figure4.training_features(model, packed).nearest(
        model, [val.read_one(place) for place in examples], packed.classes)
    _, said = images_and_texts(figure4.figure4(saved, packed))
    lines = iter(said[8 * (1 + 2 * min(5, len(packed.classes))):])  # after the predictions
    truths = iter(packed.classes[val.labels[place]] for place in examples)
    distances = [neighbor.distance for row in nearest for neighbor in row]
    decimals = len(style.equal_decimals(distances)[0].partition(".")[2])
    for found in nearest:
        truth = next(truths)
        assert next(lines)[0] == truth
        for neighbor in found:
            assert next(lines) == (neighbor.label, "blue" if neighbor.label == truth else "ink")
            assert next(lines)[0] == f"{neighbor.distance:.{decimals}f}"
    assert next(lines, None) is None


def test_equal_decimals():
    assert style.equal_decimals([1.4, 3, 12, 11.2]) == ["1.4", "3.0", "12.0", "11.2"]
    assert style.equal_decimals([1.4, 0.333]) == ["1.40", "0.33"]
    assert style.equal_decimals([1234.5, 2]) == ["1234.5", "2.0"]
    assert style.equal_decimals([0.0123, 0]) == ["0.0123", "0.0000"]
    assert style.equal_decimals([0.0]) == ["0.0"]
    assert style.equal_decimals([]) == []


# --- Figures of the report --------------------------------------------------------------------------------------------


def test_kernel_sheet_has_rows_of_sixteen_tower_1_above_tower_2():
    weight_OIHW = np.random.default_rng(0).normal(size=(96, 3, 11, 11))
    sheet = figure3.kernel_sheet(weight_OIHW, towers=2, scale=1)
    assert sheet.shape == (2 * 35 + 3, 16 * 12 - 1, 4)  # three rows of 11 with gaps of 1, twice, 3 between
    for number in (0, 15, 16, 47, 48, 95):
        tower, place = divmod(number, 48)
        top, left = tower * 38 + place // 16 * 12, place % 16 * 12
        kernel = weight_OIHW[number].transpose(1, 2, 0)
        expected = 255 * (kernel - kernel.min()) / (kernel.max() - kernel.min())
        examples = sheet[top : top + 11, left : left + 11]
        assert np.abs(examples[..., :3] - expected).max() <= 0.5
        assert (examples[..., 3] == 255).all()
    assert (sheet[35:38, :, 3] == 0).all()


def test_a_constant_kernel_is_drawn_without_a_warning():
    assert figure3.kernel_sheet(np.zeros((4, 3, 5, 5))).shape == (40, 23 * 8, 4)
    with pytest.raises(ValueError, match="48 channels"):
        figure3.kernel_sheet(np.zeros((4, 48, 5, 5)))


def test_a_standalone_svg_has_light_and_dark_colors():
    text = svg(confusion.confusion(np.eye(6, dtype=np.int64), CLASSES), standalone=True)
    assert "$10 & 猫" in "".join(ET.fromstring(text).itertext())
    head, style_sheet, body = re.split("<style>|</style>", text)
    assert "<title>Confusion matrix of 6 classes</title>" in head
    assert style_sheet.startswith("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r'(?:fill|stroke)="(#\w+)"', body))
    assert {PALETTE[name][0] for name in ("ink", "quiet", "faint", "blue")} == used
    for light, dark in PALETTE.values():
        assert f'[fill="{light}"] {{ fill: {dark} }}' in style_sheet
        assert f'[stroke="{light}"] {{ stroke: {dark} }}' in style_sheet


@pytest.mark.parametrize("rates", [(0.05, 0.0003), (0.02, 0.0009), (0.01, 0.001, 0.0001), (0.1, 0.004)])
def test_a_logarithmic_learning_rate_axis_has_two_labels_or_more(rates: tuple[float, ...]):
    epochs = [{"epoch": n, "learning_rate": rate} for n, rate in enumerate(rates, 1)]
    (axes,) = learning_curves.learning_curves(epochs, ["learning_rate"]).axes
    assert axes.y.logarithmic
    assert axes.y.low < min(rates)
    assert max(rates) < axes.y.high
    ticks = labels(axes, rows=True)
    assert len(ticks) >= 2
    for text, value in ticks.items():
        assert float(text) == pytest.approx(value) == pytest.approx(10.0 ** round(np.log10(value)))


def test_learning_curves_draw_the_epochs_training_solid_and_validation_dashed():
    epochs = [{"epoch": n, "train_loss": 3.0 / n, "val_loss": 4.0 / n if n != 2 else float("inf"),
               "train_error": 0.8 / n, "val_top1_error": 0.9 / n, "learning_rate": 0.01} for n in (1, 2, 3, 4)]
    loss, error, rate = learning_curves.learning_curves(epochs).axes
    assert curves(loss, "blue", 1.8)[0] == [(1, 3), (2, 1.5), (3, 1), (4, 0.75)]
    # The loss that is not finite is a gap.
    assert circles(loss, fill="red") == [(1, 4), (3, 1.33333333), (4, 1)]
    assert curves(loss, "red", 1.8)[0] == [(3, 1.33333333), (4, 1)]
    assert shapes(loss, Path, stroke="red")[0].dashes == learning_curves.DASHED
    assert labels(loss, rows=True) == {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4}
    assert labels(error, rows=True) == {"0%": 0, "20%": 0.2, "40%": 0.4, "60%": 0.6, "80%": 0.8}
    assert labels(error, rows=False) == {"1": 1, "2": 2, "3": 3, "4": 4}
    assert curves(rate, "quiet", 1.8) == [[(n, 0.01) for n in (1, 2, 3, 4)]]
    bold = [text.text for axes in (loss, error, rate) for text in shapes(axes, Text, bold=True)]
    assert bold == ["Loss (nats)", "Top-1 error", "Learning rate"]
    for axes in (loss, error):
        assert [text.text for text in shapes(axes, Text, color="ink", bold=False)] == ["training", "validation"]


def test_the_curve_of_a_single_epoch_has_markers():
    epoch = {"epoch": 1, "train_loss": 2.0, "val_loss": float("nan")}
    (axes,) = learning_curves.learning_curves([epoch], ["loss"]).axes
    assert circles(axes) == [(1, 2)]


def test_a_long_curve_has_no_markers():
    epochs = [{"epoch": n, "learning_rate": 0.1} for n in range(1, 17)]
    assert not shapes(learning_curves.learning_curves(epochs, ["learning_rate"]).axes[0], Circle)


# --- The command ------------------------------------------------------------------------------------------------------


def test_alexnet_figure_draws_all_four_figures(class_folders, packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_huggingface(saved_as("small", *TINY, classes=packed.classes), tmp_path / "model")
    run_folder(tmp_path / "run", "relu", [0.5])
    for number, *sources in (("1", "run"), ("2", "paper"), ("3", "model"), ("4", "model", str(class_folders))):
        assert command("figure", number, *sources) == 0, capsys.readouterr().err
        for ending in ("png", "svg"):
            assert f"figures/figure{number}.{ending}" in capsys.readouterr().out or ending == "svg"
            assert (tmp_path / "figures" / f"figure{number}.{ending}").stat().st_size > 1000
    assert command("figure", "2", "paper", "--set", "arch.towers=1", "--out", "one.svg") == 0
    assert "48×55×55" not in (tmp_path / "one.svg").read_text()
    assert not (tmp_path / "one.png").exists()
    assert command("figure", "2", "model", "--out", "own.svg") == 0
    assert "16×14×14" in (tmp_path / "own.svg").read_text()


@pytest.mark.parametrize(("words", "sentence"), [
    (["figure", "4"], "figure 4 takes a checkpoint and the data it was trained on, and got 0 arguments;"),
    (["figure", "1", "nowhere"], "nowhere is not a run; give a folder that `alexnet train` made"),
    (["figure", "1", "a", "b", "--name", "q", "--name", "q"],
     "--name q, q gives two runs the same name; give each its own"),
    (["figure", "1", "a", "b", "./a"], "a is given twice; name each run once"),
    (["figure", "3", "model", "--size", "3"], "figure 3 takes no --size; leave it out"),
    (["figure", "3", "model", "--name", "q"], "figure 3 takes no --name; leave it out"),
    (["figure", "1", "a", "--set", "arch.towers=1"], "figure 1 takes no --set; leave it out"),
    (["figure", "2", "paper", "--out", "x.jpg"],
     "x.jpg ends in .jpg; name a file that ends in .png or .svg, or has no ending, for both"),
    (["figure", "2", "paper", "--out", ""], ". is a folder; name a file in it"),
    (["figure", "2", "paper", "--out", "/dev/null/x"], "/dev/null is not a folder that you may write to"),
    (["figure", "2", "papper"], "did you mean paper?"),
    (["figure", "2", "paper", "--size", "20"], "an input of 20 pixels is too small"),
    (["figure", "1", "a", "b", "--name", "one"], "--name was given 1 times for 2 runs")])
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    assert sentence in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.iterdir())
