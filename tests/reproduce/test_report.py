"""The report of a run: it shows what the log holds, makes no request, and escapes every name."""

import html.parser
import io
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from alexnet._runtime.page_style import PALETTE
from alexnet.architecture.overrides import override, to_json
from alexnet.architecture.presets import arch, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch, InputSpec
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.metrics import wilson
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint, load, save
from alexnet.reproduce.figures import confusion, figure3, learning_curves, style
from alexnet.reproduce.report.commands import training_command
from alexnet.reproduce.report.page import write_report
from alexnet.reproduce.report.recipe_section import INPUT_MEANINGS, MEANINGS
from alexnet.reproduce.report.run_data import packed_data, read_run

CLASSES = ("ash", "<script>alert(1)</script>", "date \"palm\" onload='x'", "$10 & 猫", "elm", "fir")
HOSTILE_FILE = "val/\udcff<img src=x onerror=alert(2)>"  # and bytes that are no letters
SIDE = 32

EVALUATION = {
    "event": "evaluation", "checkpoint": "last", "views": 1, "photographs": 1234, "loss": 1.5, "top1_error": 0.4071,
    "top5_error": 0.1821, "interval": {"top1_error": [0.3801, 0.4348], "top5_error": [0.1616, 0.2046]}}


@dataclass
class Images:
    """What the report asks of `shards.Packed` and its `PackedSplit`, in memory."""

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...] = CLASSES
    side: int = SIDE
    splits: tuple[str, ...] = ("train", "val")

    fingerprint: str = "f" * 64

    def split(self, name: str) -> "Images":
        assert name in self.splits
        return self

    def sample(self, count: int) -> np.ndarray:
        return PackedSplit.sample(self, count)

    def read_one(self, index: int) -> np.ndarray:
        return self.pixels[index]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    """Features that are kept, are kept here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def images() -> Images:
    rng = np.random.default_rng(0)
    return Images(
        rng.integers(0, 256, (30, SIDE, SIDE, 3), np.uint8), np.arange(30) % len(CLASSES),
        tuple(f"{HOSTILE_FILE}{number}.jpg" for number in range(30)))


def small_network() -> Arch:
    return override(arch("small"), [
        f"input.side={SIDE}", "input.crop=28", "conv.width=8", "conv2.kernel=5", "dense.width=16",
        f"classes={len(CLASSES)}"])


def write_run(folder: Path, *, events: list[dict] = (), epochs: int = 3) -> Path:
    """A run's folder by hand: random weights, `epochs` epochs, and further events of the log."""
    network, chosen = small_network(), replace(recipe("modern"), epochs=4)
    for which, seed in (("best", 1), ("last", 2)):
        save(Checkpoint(network, CLASSES, AlexNet(network, seed).state_dict(), torch.full((1, 1, 3), 120.0), chosen),
             folder / which)
    log = [{"event": "start", "step": 0}]
    for epoch in range(1, epochs + 1):
        log += [{"event": "step", "step": 10 * epoch, "epoch": epoch, "images_per_second": 100.0 * epoch},
                {"event": "epoch", "step": 10 * epoch, "epoch": epoch, "train_loss": 2 / epoch,
                 "learning_rate": 0.1 / epoch, "train_error": 0.8 / epoch, "val_loss": 1.9 / epoch,
                 "val_top1_error": 0.75 / epoch, "val_top5_error": 0.2 / epoch}]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*log, *events]))
    (folder / "config.json").write_text(json.dumps({
        "arch": to_json(network), "recipe": to_json(chosen), "seed": 7, "precision": "fp32", "device": "a CPU",
        "data": {"source": "/photos/trees <b>", "fingerprint": "f" * 64, "side": SIDE, "classes": CLASSES,
                 "images": {"train": 300, "val": 40}},
        "versions": {"python": "3.11", "torch": "2.13"}, "threads": 2}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), events=[
        {**EVALUATION, "top1_error": 0.9}, EVALUATION, {**EVALUATION, "views": 10, "top1_error": 0.3911},
        {"event": "warning", "step": 400, "kind": "loss_not_falling", "subject": "",
         "problem": "the loss is 6.9, still ln(1000) <i>", "remedy": "wait"}])


@pytest.fixture(scope="module")
def page(run: Path, images: Images) -> str:
    return write_report(run, images, note="A stand-in, <no more>.").read_text(encoding="utf-8")


class Elements(html.parser.HTMLParser):
    """Every element of a page with its attributes, as a browser's parser takes them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def words(page: str) -> str:
    return " ".join(Elements(page).text.split())


# --- What the page says -----------------------------------------------------------------------------------------------


def test_report_states_error_and_interval_of_the_log(page: str):
    said = words(page)
    assert "small classifies 732 of 1,234 validation images correctly (top-1), and 1,009 within" in said
    assert "One view top-1 error 40.7% 38.0% to 43.5% top-5 error 18.2% 16.2% to 20.5%" in said
    assert "Ten views top-1 error 39.1%" in said
    assert "90.0%" not in said  # the earlier evaluation of one view


def test_note_and_warning_stand_in_the_page_as_text(page: str):
    assert "A stand-in, <no more>." in words(page)
    assert "Step 400: The loss is 6.9, still ln(1000) <i>. Remedy: wait." in words(page)
    assert "The log has 1 warning." in words(page)


def test_report_without_evaluation_takes_the_last_epoch(tmp_path: Path):
    said = words(write_report(write_run(tmp_path)).read_text(encoding="utf-8"))
    assert "small classifies 30 of 40 validation images correctly" in said
    assert "top-1 error 25.0% 14.2% to 40.2%" in said  # Wilson's interval for 10 of 40
    assert "Measured with one view at the end of the last epoch" in said
    assert "epoch 3 of 4: it was interrupted" in said


def test_report_without_data_still_shows_curves_and_kernels(tmp_path: Path):
    run = write_run(tmp_path)
    found = Elements(write_report(run).read_text(encoding="utf-8")).found
    ids = {attributes.get("id") for _, attributes in found}
    assert {"curves", "kernels", "architecture", "recipe", "warnings"} <= ids
    assert not {"predictions", "mistakes"} & ids
    assert [tag for tag, _ in found].count("svg") == 4  # three panels and the network
    assert {path.name for path in (run / "figures").iterdir()} == {
        "learning_curves.png", "learning_curves.svg", "architecture.png", "architecture.svg", "kernels.png"}


def test_every_link_of_the_page_leads_somewhere(page: str):
    found = Elements(page).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    links = {attributes["href"][1:] for tag, attributes in found if tag == "a"}
    assert links
    assert links <= set(ids)
    assert len(ids) == len(set(ids))


def test_errors_are_those_of_the_checkpoint_that_was_evaluated(run: Path, images: Images):
    network = AlexNet(small_network(), seed=2).eval()  # what write_run saved as `last`; `best` has seed 1
    preprocess = Preprocess(network.arch.input, torch.full((1, 1, 3), 120.0))
    with torch.inference_mode():
        guesses = network(preprocess(torch.from_numpy(images.pixels))).argmax(1).numpy()
    predictions = read_run(run, images).predictions
    expected = np.zeros((6, 6), int)
    for true, taken in zip(images.labels, guesses, strict=True):
        expected[true, taken] += 1
    assert (predictions.confusion_KK == expected).all()
    wrong = predictions.mistakes
    assert sorted(wrong) == np.flatnonzero(images.labels != guesses).tolist()
    assert (np.diff(predictions.probabilities_MK[wrong].max(axis=1)) <= 0).all()


def test_of_more_images_than_the_limit_evenly_spaced_ones_are_asked(run, images, monkeypatch):
    monkeypatch.setattr("alexnet.inference.validation.MAX_IMAGES", 10)
    assert read_run(run, images).predictions.indices_M.tolist() == [0, 3, 6, 9, 12, 16, 19, 22, 25, 29]


def test_classes_are_matched_by_name(run: Path, images: Images):
    turned = replace(images, classes=CLASSES[::-1], labels=len(CLASSES) - 1 - images.labels)
    assert (read_run(run, turned).predictions.confusion_KK == read_run(run, images).predictions.confusion_KK).all()


def test_command_in_the_report_makes_the_same_network_and_recipe(run: Path):
    config = read_run(run).config
    line = shlex.split(training_command(config))
    assert line[:7] == ["alexnet", "train", "/photos/trees <b>", "--arch", "small", "--recipe", "modern"]
    assert line[7:11] == ["--epochs", "4", "--seed", "7"]
    settings = [word.partition(".")[2] for word in line if word.startswith("arch.")]
    assert replace(override(arch("small"), settings), classes=len(CLASSES)) == small_network()


@pytest.mark.parametrize("setting", ["drop_epochs=[10, 20]", "nesterov=false", "crop=center", "lighting=0.0"])
def test_command_repeats_every_kind_of_setting(setting: str):
    chosen: Recipe = override(recipe("modern"), [setting])
    config = {"arch": to_json(arch("small")), "recipe": to_json(chosen), "data": {"source": "images inside"}}
    quoted = shlex.quote(f"recipe.{setting}")
    assert training_command(config) == f"alexnet train DATA --arch small --recipe modern --seed 0 --set {quoted}"


@pytest.mark.parametrize(("trained", "run", "data"), [
    ("alexnet train PHOTOS --out runs/mine", "runs/mine", "PHOTOS"),
    ("alexnet demo --out runs/demo --seed 0", "runs/demo", "runs/demo/data")])
def test_the_commands_behind_it_name_the_run_and_its_data(tmp_path: Path, trained: str, run: str, data: str):
    config = json.loads((write_run(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"command": trained}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert f"alexnet evaluate {run}/last {data} --views 10\nalexnet report {run} --data {data}" in page


def test_a_command_in_the_config_is_taken_as_it_is():
    assert training_command({"command": ["alexnet", "demo", "--out", "my runs"]}) == "alexnet demo --out 'my runs'"


def test_every_setting_of_a_recipe_and_an_input_is_explained_in_a_few_words(page: str):
    assert MEANINGS.keys() == {field.name for field in fields(Recipe)}
    assert INPUT_MEANINGS.keys() == {field.name for field in fields(InputSpec)}
    said = words(page)
    for meaning in (*MEANINGS.values(), *INPUT_MEANINGS.values()):
        assert meaning in said
    assert "freeze frozen layers none" in said
    assert "conv1 slow epoch epoch from which conv1 has a reduced learning rate never" in said


def test_kernels_that_look_random_are_said_to_and_others_are_what_conv1_looks_for(tmp_path: Path):
    run = write_run(tmp_path)
    said = words(write_report(run).read_text(encoding="utf-8"))
    assert "Kernels of conv1 (still random)" in said
    saved = load(run / "last")
    saved.weights["features.conv1.weight"][...] = torch.linspace(-1, 1, 5)[:, None]  # each an edge
    save(saved, run / "last")
    said = words(write_report(run).read_text(encoding="utf-8"))
    assert "Kernels of conv1" in said
    assert "still random" not in said
    assert "look like their random initial weights" not in said


# --- What the page does not do ----------------------------------------------------------------------------------------


def test_report_is_one_file_that_asks_nobody(page: str):
    assert "://" not in page
    assert "@import" not in page
    assert set(re.findall(r"url\(([^)]{1,2})", page)) <= {"#p"}  # clip paths of a figure
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert "default-src 'none'" in page


def test_a_hostile_class_name_stays_text(page: str):
    elements = Elements(page)
    for name in CLASSES:
        assert name in elements.text
    assert "<img src=x onerror=alert(2)>" in elements.text
    assert "/photos/trees <b>" in elements.text
    for tag, attributes in elements.found:
        assert tag not in ("script", "i", "b")
        assert not [name for name in attributes if name.startswith("on")]


def test_same_run_gives_the_same_page_and_figures(run: Path, images: Images, page: str):
    figures_before = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert set(figures_before) == {
        *(f"{name}.{kind}" for name in ("learning_curves", "architecture", "confusion", "class_errors")
          for kind in ("png", "svg")), "kernels.png", "predictions.png", "mistakes.png", "nearest.png"}
    assert write_report(run, images, note="A stand-in, <no more>.").read_text(encoding="utf-8") == page
    assert {path.name: path.read_bytes() for path in (run / "figures").iterdir()} == figures_before
    assert not list(run.glob("*.new"))


# --- What is missing is named -----------------------------------------------------------------------------------------


def test_run_without_an_epoch_gives_a_sentence(tmp_path: Path):
    run = write_run(tmp_path, epochs=0, events=[{
        "event": "warning", "step": 3, "kind": "exploding", "subject": "", "problem": "the loss is nan", "remedy": ""}])
    with pytest.raises(ValueError, match=r"no finished epoch.*\(the loss is nan\)"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_what_is_no_run_is_named(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        for ask in (write_report, packed_data):
            with pytest.raises(ValueError, match="is not a run; give a folder that `alexnet train` made"):
                ask(folder)
    (write_run(tmp_path) / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is missing or damaged"):
        write_report(tmp_path)
    (tmp_path / "config.json").write_text('{"arch": {}, "data": {}}')
    with pytest.raises(ValueError, match="has no recipe"):
        write_report(tmp_path)


def test_a_run_that_is_writing_its_log_can_be_read(tmp_path: Path):
    run = write_run(tmp_path)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"event": "step", "st')
    assert len(read_run(run).logged("epoch")) == 3


def test_data_of_another_side_or_other_classes_is_refused(run: Path, images: Images):
    with pytest.raises(ValueError, match="packed at 64 pixels and the network takes 32"):
        read_run(run, replace(images, side=64))
    with pytest.raises(ValueError, match="not trained on"):
        read_run(run, replace(images, classes=("oak", *CLASSES[1:])))


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_kernels_stand_in_rows_of_sixteen_tower_1_above_tower_2():
    weight_OIHW = np.random.default_rng(0).normal(size=(96, 3, 11, 11))
    sheet = figure3.kernel_sheet(weight_OIHW, towers=2, scale=1)
    assert sheet.shape == (2 * 35 + 3, 16 * 12 - 1, 4)  # three rows of 11 with gaps of 1, twice, 3 between
    for number in (0, 15, 16, 47, 48, 95):
        tower, place = divmod(number, 48)
        top, left = tower * 38 + place // 16 * 12, place % 16 * 12
        kernel = weight_OIHW[number].transpose(1, 2, 0)
        expected = 255 * (kernel - kernel.min()) / (kernel.max() - kernel.min())
        shown = sheet[top : top + 11, left : left + 11]
        assert np.abs(shown[..., :3] - expected).max() <= 0.5
        assert (shown[..., 3] == 255).all()
    assert (sheet[35:38, :, 3] == 0).all()


def test_a_dead_kernel_is_drawn_without_a_warning():
    assert figure3.kernel_sheet(np.zeros((4, 3, 5, 5))).shape == (40, 23 * 8, 4)
    with pytest.raises(ValueError, match="48 channels"):
        figure3.kernel_sheet(np.zeros((4, 48, 5, 5)))


def test_svg_alone_is_xml_that_knows_light_and_dark():
    text = style.svg(confusion.confusion(np.eye(6, dtype=np.int64), CLASSES), "confusion", standalone=True)
    said = "".join(ET.fromstring(text).itertext())
    assert "$10 & 猫" in said
    assert "prefers-color-scheme: dark" in said
    assert not {light for light, _ in PALETTE.values()} & set(re.findall(r"(?:fill|stroke): (#\w+)", text))


@pytest.mark.parametrize("rates", [(0.05, 0.0003), (0.02, 0.0009), (0.01, 0.001, 0.0001), (0.1, 0.004)])
def test_a_steep_learning_rate_has_two_powers_of_ten_at_least_to_be_read_by(rates: tuple[float, ...]):
    epochs = [{"epoch": n, "learning_rate": rate} for n, rate in enumerate(rates, 1)]
    figure = learning_curves.learning_curves(epochs, ["learning_rate"])
    axes = figure.get_axes()[0]
    low, high = axes.get_ylim()
    assert low < min(rates)
    assert max(rates) < high
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(ticks) >= 2
    assert all(float(f"{tick:g}") == 10.0 ** round(np.log10(tick)) for tick in ticks)


def test_the_names_of_a_confusion_matrix_keep_clear_of_what_its_sides_are():
    names = ("tench", "English springer", "a class whose name is long", "chain saw")
    figure = confusion.confusion(np.eye(4, dtype=np.int64), names)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.get_axes()[0]
    for axis in (axes.xaxis, axes.yaxis):
        label = axis.label.get_window_extent(renderer).padded(0.05 * figure.dpi)
        assert not any(label.overlaps(text.get_window_extent(renderer)) for text in axis.get_ticklabels())


def test_a_figure_of_one_epoch_has_marks():
    epoch = {"epoch": 1, "train_loss": 2.0, "val_loss": float("nan")}
    assert "<use" in style.svg(learning_curves.learning_curves([epoch], ["loss"]), "loss")


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a look into the network in its log."""
    signals = {"event": "signals", "step": 225, "saturated": {f"relu{n}": 0.4 for n in range(1, 7)},
               "dead": {f"relu{n}": 0.5 * (n == 5) for n in range(1, 7)},
               "ratio": dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"), 0.001)}
    return write_run(tmp_path_factory.mktemp("run"), events=[EVALUATION, signals])


@pytest.fixture(scope="module")
def whole_page(whole_run: Path, images: Images) -> Path:
    """The report of `whole_run`."""
    return write_report(whole_run, images)


@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_without_a_request_a_complaint_or_a_sideways_scroll(browser, whole_page: Path, width: int):
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url.split(":")[0]))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"file://{whole_page}")
    assert set(asked) <= {"file", "data"}
    assert asked.count("file") == 1
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = page.evaluate("[...document.images].filter((one) => !one.complete || !one.naturalWidth).length")
    assert broken == 0
    page.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_all_images_of_a_row_of_neighbors_are_as_wide(browser, whole_page: Path, width: int):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"file://{whole_page}")
    widths = [photo.bounding_box()["width"] for photo in page.locator(".near img").all()]
    assert max(widths) - min(widths) < 0.1
    distances = page.locator(".near .number").all_inner_texts()
    assert len({len(text.partition(".")[2]) for text in distances}) == 1
    page.close()


def test_no_number_of_a_classs_error_stands_on_its_bar(browser, whole_page: Path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"file://{whole_page}")
    for row in page.locator(".classes li").all():
        bar = row.locator(".range").bounding_box()
        for text in (row.locator(".name"), row.locator(".number")):
            box = text.bounding_box()
            assert box["y"] + box["height"] <= bar["y"] + 0.5
    page.close()


def test_an_edge_that_hides_something_is_shaded_and_one_that_hides_nothing_is_not(browser, whole_page: Path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"file://{whole_page}")
    drawing = page.locator(".scroll[aria-label='Network diagram']")

    def edges() -> tuple[int, int]:
        """How far the pixels at the left and the right edge are from the paper."""
        pixels = np.asarray(Image.open(io.BytesIO(drawing.screenshot())).convert("RGB")).astype(int)
        bottom = pixels[-3]  # below all that is drawn
        paper = np.array([int(PALETTE["paper"][0][i : i + 2], 16) for i in (1, 3, 5)])
        return tuple(int(np.abs(bottom[place] - paper).max()) for place in (1, -2))

    left, right = edges()
    assert left < 4
    assert right > 30
    drawing.evaluate("(one) => { one.scrollLeft = one.scrollWidth }")
    left, right = edges()
    assert left > 30
    assert right < 4
    page.close()


def test_a_layer_pointed_at_or_reached_by_keyboard_shows_its_numbers(browser, whole_page: Path):
    page = browser.new_page()
    page.goto(f"file://{whole_page}")
    conv2, details = page.locator("[data-layer=conv2]").first, page.locator("[data-details=conv2]")
    assert not details.is_visible()
    conv2.hover()
    assert details.is_visible()
    assert "(7 + 2·1 − 5)/1 + 1 = 5" in details.inner_text()
    page.mouse.move(0, 0)
    assert not details.is_visible()
    page.locator(".scroll[aria-label='Network diagram']").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.layer") == "conv2"
    assert details.is_visible()
    page.close()


def test_it_is_dark_where_the_reader_wants_it_dark(browser, whole_page: Path):
    colors = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(f"file://{whole_page}")
        colors.append([page.evaluate(f"getComputedStyle({place}).{what}") for place, what in (
            ("document.documentElement", "backgroundColor"), ("document.querySelector('.panels svg text')", "fill"))])
        page.close()
    assert all(light != dark for light, dark in zip(*colors, strict=True))


def test_the_diagnosis_is_the_logs_in_words(whole_page: Path):
    said = words(whole_page.read_text(encoding="utf-8"))
    assert "relu5: 50% of its units are zero for every image measured" in said
    assert "Measurements at step 225" in said


def test_a_run_of_few_steps_is_called_too_short_to_tell(tmp_path: Path):
    early = {"event": "signals", "step": 1, "saturated": {"relu1": 0.4}, "dead": {"relu1": 0.9}, "ratio": {"fc7": 0.06}}
    said = words(write_report(write_run(tmp_path, events=[early])).read_text(encoding="utf-8"))
    assert "The run is too short to judge its layers" in said
    assert "units are zero for every image" not in said
    assert "0.1% is usual" not in said


def test_it_says_which_checkpoint_its_numbers_are_of(run: Path, page: str, tmp_path: Path):
    assert "The checkpoint is last, the network after its last epoch;" in words(page)
    shutil.rmtree(write_run(tmp_path) / "last")
    assert "The checkpoint is best." in words(write_report(tmp_path).read_text(encoding="utf-8"))


def test_the_nearest_are_of_the_training_images_and_none_is_nearer(whole_run: Path, images: Images):
    run = read_run(whole_run, images)
    model = model_from_checkpoint(run.checkpoint)
    features = model.features(list(images.pixels)).numpy()
    for row, near in zip(run.predictions.examples, run.nearest, strict=False):
        far = np.linalg.norm(features - features[run.predictions.indices_M[row]], axis=1)
        assert [one.index for one in near] == np.argsort(far, kind="stable")[:6].tolist()


def test_each_classs_error_has_its_interval(whole_run: Path, whole_page: Path, images: Images):
    predictions = read_run(whole_run, images).predictions
    said = words(whole_page.read_text(encoding="utf-8"))
    for label, name in enumerate(CLASSES):
        asked = int((predictions.labels_M == label).sum())
        wrong = asked - int(predictions.confusion_KK[label, label])
        low, high = wilson(wrong, asked)
        assert f"{name} {wrong} of {asked}: {100 * wrong / asked:.0f}% ({100 * low:.0f} to {100 * high:.0f})" in said
