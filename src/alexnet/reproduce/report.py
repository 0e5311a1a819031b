"""A run's folder, and its images where they are at hand -> one offline page, RUN/report.html, and RUN/figures/.

A section of the page is one function: from `Material` to what the template `report.html` shows under the same name, or
None where there is nothing to show. The page asks nobody: pictures are inlined, it has no script, and its own policy
forbids requests. The same run gives the same page, byte for byte. A run is read from its files, never through `train`.

Shapes: M images that were asked about, K classes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.page_style import data_uri, stylesheet
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.overrides import to_json
from alexnet.architecture.presets import ARCHS, RECIPES
from alexnet.data.packed import PackedDataset, PackedSplit, is_packed, open_packed
from alexnet.errors import Finding
from alexnet.inference.metrics import wilson
from alexnet.inference.neighbors import Neighbor
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.inference.validation import EXAMPLES, ValidationPredictions, predict_validation, printable
from alexnet.interpret.health import HEALTHY, WARM_UP_STEPS, layer_findings, loss_finding
from alexnet.models import checkpoint as ckpt
from alexnet.reproduce import plots
from alexnet.reproduce.diagram import network_diagram
from alexnet.reproduce.paper_figures import BESIDE, conv1_in_rgb, nearest_in_training, rows_beside, towers_of_conv1
from alexnet.training.run_folder import read_config, read_log

Event = dict[str, Any]
Section = dict[str, Any]

MATRIX_CLASSES = 40
"""A confusion matrix of more classes cannot be read."""

AMONG = 4000
"""At most so many training images are searched for the nearest: a quarter of a minute on a CPU."""

WORST = 20
"""Classes whose errors are listed, where there are too many for a matrix."""


def report(run: Path, packed: PackedDataset | None = None, *, title: str | None = None, note: str = "") -> Path:
    """Write RUN/report.html, whole or not at all, and its figures as files beside it; returns the page's path.

    packed: the data, for the sections that show images. note: a plain-spoken caveat that stands with the result.
    Raises ValueError naming what is missing: the run, a finished epoch, a checkpoint, or data of its classes and side.
    """
    material = read(run, packed)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    environment.filters["arithmetic"] = arithmetic
    page = environment.get_template("report.html").render(
        title=title or material.config.get("title") or f"{material.checkpoint.arch.name} on {material.data}",
        note=note or material.config.get("note", ""),
        palette=Markup(stylesheet(":root")),
        **{name: section(material) for name, section in SECTIONS.items()})
    save_figures(material, run / "figures")
    replace_file(run / "report.html", lambda path: path.write_text(page, encoding="utf-8"))
    return run / "report.html"


def packed_data(run: Path) -> PackedDataset | None:
    """The data that the run was trained on, if it is still where it was."""
    place = read_config(run)["data"].get("packed")
    return open_packed(place) if place and is_packed(place) else None


# --- What a page is made of -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """A run as its folder tells it."""

    config: dict[str, Any]
    events: Sequence[Event]
    checkpoint: ckpt.Checkpoint
    which: str
    """The checkpoint's name: what was evaluated, else `last`."""
    answers: ValidationPredictions | None
    near: Sequence[Sequence[Neighbor]] = ()
    """The training images nearest to the first of `answers.examples`."""
    training: PackedSplit | None = None
    """Those images' split."""

    def logged(self, kind: str) -> list[Event]:
        """The log's events of one kind, in order."""
        return [event for event in self.events if event["event"] == kind]

    @property
    def data(self) -> str:
        """What the data is called."""
        source = Path(self.config["data"]["source"])
        return printable(source.name if source.is_absolute() else str(source))


def read(run: Path, packed: PackedDataset | None = None) -> Material:
    """Everything that the page needs. Raises ValueError naming what is missing or damaged."""
    events = read_log(run)
    if not any(event["event"] == "epoch" for event in events):
        said = "".join(f"; its log warns: {event['text']}" for event in events[-1:] if event["event"] == "warning")
        raise ValueError(f"{run} has no finished epoch to report on; let it train one to its end{said}")
    evaluated = [str(event["checkpoint"]) for event in events if event["event"] == "evaluation"][-1:]
    # An epoch's errors in the log are those of `last`; `best` is the stand-in where somebody removed it.
    which = next((name for name in (*evaluated, "last") if (run / name / ckpt.HEAD).is_file()), "best")
    checkpoint = ckpt.load(run / which)
    config, answers = read_config(run), None if packed is None else predict_validation(checkpoint, packed)
    if packed is None or answers is None or "train" not in packed.splits:
        return Material(config, events, checkpoint, which, answers)
    shown = answers.split.read(answers.indices_M[answers.examples[:BESIDE]])
    near = nearest_in_training(model_from_checkpoint(checkpoint), packed, list(shown), reference_set=AMONG)
    return Material(config, events, checkpoint, which, answers, near, packed.split("train"))


def save_figures(material: Material, folder: Path) -> None:
    """The page's pictures as files of their own: curves, network, kernels, and with data, images and errors."""
    plots.save(plots.learning_curves(material.logged("epoch")), folder / "learning_curves")
    plots.save(network_diagram(material.checkpoint.arch), folder / "architecture")
    plots.save(_kernel_sheet(material.checkpoint), folder / "kernels")
    if answers := material.answers:
        rows = answers.examples
        for name, shown in (("strips", rows), ("mistakes", answers.mistakes[:EXAMPLES])):
            if len(shown):
                plots.save(plots.prediction_grid(
                    answers.split.read(answers.indices_M[shown]), answers.probabilities_MK[shown],
                    answers.labels_M[shown].tolist(), answers.classes), folder / name, lines=False)
        if material.near:
            assert material.training is not None
            plots.save(plots.beside(rows_beside(
                list(answers.split.read(answers.indices_M[rows[:BESIDE]])),
                [answers.classes[answers.labels_M[row]] for row in rows[:BESIDE]],
                material.near, material.training)), folder / "nearest", lines=False)
        if len(answers.classes) <= MATRIX_CLASSES:
            plots.save(plots.confusion(answers.confusion_KK, answers.classes), folder / "confusion")
            told = mistakes(material)
            assert told is not None
            plots.save(plots.class_errors(*zip(*(
                (each["name"], each["error"], each["interval"]) for each in told["classes"]), strict=True)),
                folder / "class_errors")


# --- The sections -----------------------------------------------------------------------------------------------------


def result(material: Material) -> Section:
    """Errors with their intervals: the latest evaluation of each number of views, else what training measured."""
    arch, data, last = material.checkpoint.arch, material.config["data"], material.logged("epoch")[-1]
    evaluations = {event["views"]: event for event in material.logged("evaluation")
                   if event["checkpoint"] == material.which}
    measured = [evaluations[views] for views in sorted(evaluations)]
    measured = measured or [{"views": 1} | (material.checkpoint.errors or _errors_of_epoch(last, data))]
    first = measured[0]
    top5_says = arch.classes > 5  # of five classes or fewer, five guesses name them all
    return {
        "arch": arch.name, "parameters": explain(arch).parameters, "data": material.data, "side": data["side"],
        "classes": arch.classes, "counts": data["images"], "which": material.which,
        "images": first["photographs"], "is_from_epoch": not evaluations, "top5_says": top5_says,
        "epoch": last["epoch"], "epochs": material.config["recipe"]["epochs"],
        "right": {top: round((1 - first[f"{top}_error"]) * first["photographs"]) for top in ("top1", "top5")},
        "by_chance": {"top1": 1 - 1 / arch.classes, "top5": 1 - min(5, arch.classes) / arch.classes},
        "measured": [{
            "views": event["views"],
            "errors": [{"top": top, "error": event[f"top{top}_error"], "interval": event["interval"][f"top{top}_error"]}
                       for top in ((1, 5) if top5_says else (1,))],
        } for event in measured],
        "warnings": len(material.logged("warning")),
    }


def _errors_of_epoch(epoch: Event, data: dict[str, Any]) -> Event:
    """What the checkpoint lacks where it was saved in the middle of the next epoch."""
    count = data["images"]["val"]
    errors = {name: epoch[f"val_{name}"] for name in ("top1_error", "top5_error")}
    return {"images": count, **errors,
            "interval": {name: wilson(round(error * count), count) for name, error in errors.items()}}


def curves(material: Material) -> Section:
    """A figure for each panel, so that they stand side by side on a desk and below each other on a phone."""
    epochs = material.logged("epoch")

    def course(key: str) -> str:
        return f"from {epochs[0][key]:.3g} to {epochs[-1][key]:.3g}"

    panels = []
    for panel, (title, solid, dashed, _) in plots.PANELS.items():
        both = f"training {course(solid)}, validation {course(dashed)}" if dashed else course(solid)
        picture = plots.svg(plots.learning_curves(epochs, [panel]), panel)
        panels.append({"name": panel, "alt": f"{title} over {len(epochs)} epochs: {both}", "svg": Markup(picture)})
    return {"panels": panels, "epochs": epochs, "smoothing": material.config["recipe"].get("label_smoothing", 0)}


def kernels(material: Material) -> Section:
    """conv1's kernels, tower by tower (Figure 3)."""
    arch, conv1 = material.checkpoint.arch, material.checkpoint.arch.conv[0]
    towers = towers_of_conv1(arch)
    weight_OIHW = conv1_in_rgb(material.checkpoint)
    smoothness = plots.smoothness(weight_OIHW)
    return {"image": data_uri(plots.png(_kernel_sheet(material.checkpoint)), "png"), "count": conv1.width,
            "side": conv1.kernel, "towers": towers, "color": plots.colorfulness(weight_OIHW, towers),
            "random_color": plots.RANDOM_COLOR, "smoothness": smoothness,
            "looks_random": smoothness < plots.RANDOM_LOOKS}


def _kernel_sheet(checkpoint: ckpt.Checkpoint) -> NDArray[np.uint8]:
    arch = checkpoint.arch
    return plots.kernels(conv1_in_rgb(checkpoint), towers_of_conv1(arch),
                           scale=max(1, round(1000 / (16 * arch.conv[0].kernel))))


def strip(material: Material) -> Section | None:
    """Images with their five likeliest classes, as in Figure 4."""
    if not (answers := material.answers):
        return None
    images = []
    for row, image in zip(answers.examples, _images(answers, answers.examples), strict=True):
        likeliest = np.argsort(-answers.probabilities_MK[row], kind="stable")[:5]
        guesses = [{"name": answers.classes[k], "probability": float(answers.probabilities_MK[row, k]),
                    "is_true": bool(k == answers.labels_M[row])} for k in likeliest]
        images.append({**image, "guesses": guesses})
    return {"images": images, "which": material.which}


def nearest(material: Material) -> Section | None:
    """The training images nearest to some of validation in the last hidden layer, as on Figure 4's right."""
    if not (answers := material.answers) or not material.near:
        return None
    assert material.training is not None
    split, rows = material.training, answers.examples[:BESIDE]
    distances = iter(plots.alike([one.distance for found in material.near for one in found]))
    return {"among": min(len(split), AMONG), "of": len(split), "rows": [{
        **image, "near": [{
            "image": data_uri(plots.image_file(split.read_one(one.index), "JPEG"), "jpeg"),
            "name": printable(one.label), "distance": next(distances),
            "is_true": printable(one.label) == image["truth"]} for one in found],
    } for image, found in zip(_images(answers, rows), material.near, strict=True)]}


def mistakes(material: Material) -> Section | None:
    """Which classes are taken for which, how often each is missed, and where the network is surest and wrong."""
    if not (answers := material.answers):
        return None
    asked_K, right_K = answers.confusion_KK.sum(axis=1), answers.confusion_KK.diagonal()
    classes = [{"name": name, "wrong": int(asked - right), "images": int(asked), "error": 1 - right / asked,
                "interval": wilson(int(asked - right), int(asked))}
               for name, asked, right in zip(answers.classes, asked_K, right_K, strict=True) if asked]
    classes.sort(key=lambda each: -each["error"])
    has_matrix = len(answers.classes) <= MATRIX_CLASSES
    surest = answers.mistakes[:EXAMPLES]
    return {
        "asked": len(answers.indices_M), "of": len(answers.split), "wrong": len(answers.mistakes),
        "confusion": Markup(plots.svg(plots.confusion(answers.confusion_KK, answers.classes), "confusion"))
        if has_matrix else None,
        "classes": classes if has_matrix else classes[:WORST], "left_out": 0 if has_matrix else len(classes[WORST:]),
        "surest": _images(answers, surest), "best": _images(answers, answers.correct[:EXAMPLES // 2]),
    }


def diagnosis(material: Material) -> Section | None:
    """What training's own looks into the network saw last, and in words what is wrong."""
    if not (signals := material.logged("signals")):
        return None
    arch, last, epoch = material.checkpoint.arch, signals[-1], material.logged("epoch")[-1]
    loss = loss_finding(epoch["train_loss"], arch.classes, epoch["step"], arch.norm)
    said = [str(loss)] if loss else []
    if last["step"] > WARM_UP_STEPS:
        found = layer_findings(arch.activation, last["saturated"], last["dead"], last["ratio"], arch.norm)
        said += map(str, found)
    else:
        said.append(f"the run was too short to tell {'more' if loss else 'what is wrong or right'}: training looks in "
                    f"every hundred steps, and what it sees in the first {WARM_UP_STEPS} is of weights that have yet to settle")
    units = [{"name": name, "saturated": share, "dead": last["dead"][name]}
             for name, share in last["saturated"].items()]
    return {"said": said or [HEALTHY], "step": last["step"], "units": units, "ratio": last["ratio"],
            "activation": arch.activation}


def _images(answers: ValidationPredictions, rows: NDArray[np.int64]) -> list[Section]:
    """Each image as an image, with its name, its true class, and what it was taken for."""
    indices = answers.indices_M[rows]
    return [{
        "image": data_uri(plots.image_file(pixels_HWC, "JPEG"), "jpeg"), "file": printable(answers.split.names[index]),
        "truth": answers.classes[answers.labels_M[row]], "guess": answers.classes[answers.predicted_M[row]],
        "sure": float(answers.probabilities_MK[row].max()),
        "of_truth": float(answers.probabilities_MK[row, answers.labels_M[row]]),
    } for row, index, pixels_HWC in zip(rows, indices, answers.split.read(indices), strict=True)]


def architecture(material: Material) -> Section:
    """Every layer with the arithmetic of its size and of its parameters."""
    explanation = explain(material.checkpoint.arch)
    drawn = plots.svg(network_diagram(material.checkpoint.arch), "blueprint")
    told = {layer.name: layer for layer in explanation.layers}
    # The first part of each layer that is drawn can be reached by keyboard, and tells who cannot see it.
    for name, layer in told.items():
        said = f"{layer.name}: {'×'.join(map(str, layer.output_shape))}. {arithmetic(layer.worked)}"
        drawn = drawn.replace(f'<g data-layer="{name}"', f'<g tabindex="0" role="img" aria-label="{said}" '
                              f'data-layer="{name}"', 1)
    return {"layers": explanation.layers, "drawing": Markup(drawn),
            "drawn": [layer for layer in explanation.layers if f'data-layer="{layer.name}"' in drawn],
            "parameters": explanation.parameters, "size": explanation.size,
            "multiply_adds": explanation.multiply_adds}


def recipe(material: Material) -> Section:
    """How it was trained, on what, and the command that does it again."""
    config, steps = material.config, material.logged("step")
    arch, data = config["arch"], config["data"]
    speed = [event["images_per_second"] for event in steps if "images_per_second" in event]
    environment = {
        "device": config.get("device"), "precision": config.get("precision"), "threads": config.get("threads"),
        **config.get("versions", {}), "seed": config.get("seed"),
        "speed": f"{median(speed):,.0f} images a second (median step)" if speed else None,
        "begun from": _begun_from(material.checkpoint.provenance),
        "data": data["source"], "data's fingerprint": str(data.get("fingerprint", ""))[:12],
    }
    return {
        "command": command(config), "after": _after(config, material.which),
        "stands_for": None if Path(data["source"]).is_absolute() else data["source"],
        "groups": [
            ("Recipe", _in_words(config["recipe"], MEANINGS)),
            ("Input", _in_words(arch["input"], INPUT_MEANINGS)),
            ("Environment", _in_words({key: value for key, value in environment.items() if value not in (None, "")})),
        ],
    }


def _after(config: dict[str, Any], which: str) -> str:
    """The commands that measure the run and report on it."""
    words = shlex.split(command(config) or "")
    run = words[words.index("--out") + 1] if "--out" in words[:-1] else "RUN"
    data = f"{run}/data" if words[1:2] == ["demo"] else next((word for word in words[2:3]), "DATA")
    return "\n".join(printable(shlex.join(line)) for line in (
        ["alexnet", "evaluate", f"{run}/{which}", data, "--views", "10"],
        ["alexnet", "report", run, "--data", data]))


def _begun_from(provenance: Mapping[str, Any]) -> str:
    """Which weights a fine-tuned network began from; nothing for one that was drawn at random."""
    init = provenance.get("init")
    return f"{init['arch']} of {init['classes']:,} classes, SHA-256 {init['sha256'][:12]}" if init else ""


FINDING = ("kind", "subject", "problem", "remedy")
"""The keys of a warning in log.jsonl."""


def warnings(material: Material) -> Section:
    """What the log warns of, and whether the run came to its end."""
    epoch, epochs = material.logged("epoch")[-1]["epoch"], material.config["recipe"]["epochs"]
    said = [{"step": event["step"], "text": str(Finding(**{key: event[key] for key in FINDING}))}
            for event in material.logged("warning")]
    return {"warnings": said, "epoch": epoch, "epochs": epochs}


SECTIONS: dict[str, Callable[[Material], Section | None]] = {
    section.__name__: section
    for section in (result, curves, diagnosis, kernels, strip, nearest, mistakes, architecture, recipe, warnings)}

# --- Words ------------------------------------------------------------------------------------------------------------


def command(config: dict[str, Any]) -> str | None:
    """The command line that trains this again; None where the network or the recipe is no preset with settings.

    Images that are no folder of the user's are written DATA.
    """
    if said := config.get("command"):
        return said if isinstance(said, str) else shlex.join(said)
    arch, recipe = config["arch"], config["recipe"]
    if arch["name"] not in ARCHS or recipe["name"] not in RECIPES:
        return None
    # The number of classes is the data's, and epochs have an option of their own.
    settings = {f"arch.{path}": value for path, value in _changed(to_json(ARCHS[arch["name"]]), arch).items()}
    settings |= {f"recipe.{path}": value for path, value in _changed(to_json(RECIPES[recipe["name"]]), recipe).items()}
    settings.pop("arch.classes", None)
    epochs = settings.pop("recipe.epochs", None)
    source = config["data"]["source"]
    data = source if Path(source).is_absolute() else "DATA"
    words = ["alexnet", "train", data, "--arch", arch["name"], "--recipe", recipe["name"]]
    words += ["--epochs", str(epochs)] if epochs else []
    words += ["--seed", str(config.get("seed", 0))]
    words += ["--precision", config["precision"]] if config.get("precision", "fp32") != "fp32" else []
    for path, value in settings.items():
        words += ["--set", f"{path}={value if isinstance(value, str) else json.dumps(value)}"]
    return printable(shlex.join(words))


def _changed(preset: Any, chosen: Any, path: str = "") -> dict[str, Any]:
    """Path -> value of what differs, in the words of `config.override`: `conv2.width`, `input.crop`."""
    if isinstance(chosen, dict) and isinstance(preset, dict):
        pairs = {f"{path}.{key}" if path else key: (preset.get(key), value) for key, value in chosen.items()}
    elif isinstance(chosen, list) and chosen and isinstance(chosen[0], dict):
        pairs = {f"{path}{number}": pair for number, pair in enumerate(zip(preset, chosen, strict=False), 1)}
    else:
        return {} if preset == chosen else {path: chosen}
    return {key: value for place, pair in pairs.items() for key, value in _changed(*pair, place).items()}


MEANINGS = {
    "name": "the preset that it was made from", "epochs": "times through the training images",
    "batch_size": "images in a step", "learning_rate": "the learning rate to begin with",
    "momentum": "share of a step that the next one keeps", "weight_decay": "pull of the weights towards zero",
    "decay_biases": "whether it pulls at biases too", "bias_lr_factor": "the biases' rate, in multiples of the rate",
    "new_layer_lr_factor": "that of layers begun anew beside imported ones",
    "lars_trust": "LARS, by which each layer has a rate of its own; 0: one for all",
    "lr_in_velocity": "yes: as §5 has it; no: as PyTorch has it",
    "nesterov": "momentum that looks a step ahead", "schedule": "how the rate falls",
    "lr_drop_count": "how often it falls, by plateau or steps", "drop_factor": "what it is divided by then",
    "drop_epochs": "after which it falls, by steps", "patience": "epochs without a better error, by plateau",
    "warmup_epochs": "over which the rate rises first", "label_smoothing": "share of the truth spread over all classes",
    "crop": "what a view is cut out as", "crop_area": "least and largest share, if resized",
    "mirror": "left to right, every other view", "lighting": "strength of the color noise (§4.1)",
    "lighting_scale": "what that is a multiple of", "view_group": "images that share one crop and mirror",
    "conv1_slow_epoch": "epoch from which conv1 hardly learns", "conv1_stop_epoch": "epoch from which conv1 stays as it is",
    "lighting_stop_epoch": "epoch from which colors have no noise", "freeze": "layers that stay as they are",
}
"""What each setting of a recipe is, in a few words."""

INPUT_MEANINGS = {
    "side": "pixels that an image is stored at", "crop": "pixels a side that the network sees",
    "mean": "what is taken off: each pixel's mean or each channel's", "scale": "what each channel is divided by",
    "channels": "the order of the colors",
}

ABSENT = {"conv1_slow_epoch": "never", "conv1_stop_epoch": "never", "lighting_stop_epoch": "never", "freeze": "nothing"}
"""What an empty value or zero means."""


def _in_words(values: dict[str, Any], meanings: Mapping[str, str] = MappingProxyType({})) -> list[tuple[str, str, str]]:
    """Names, values as a person writes them, and what they mean."""
    def word(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            return ", ".join(map(word, value)) or "none"
        return f"{value:g}" if isinstance(value, float) else str(value)

    return [(key.replace("_", " "), printable(word(value or ABSENT.get(key, value))), meanings.get(key, ""))
            for key, value in values.items()]


def arithmetic(text: str) -> str:
    """Worked arithmetic as it is set in print: 96 x (3 x 11 x 11 + 1) with signs in place of letters."""
    return text.replace(" x ", "×").replace("*", "·").replace(" - ", " − ")
