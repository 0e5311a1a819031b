"""The model card (README.md) of the Hugging Face layout: metadata, errors, intended use, training data, limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from alexnet.data.class_names import printable
from alexnet.data.overlap import Overlap
from alexnet.errors import plural
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.checkpoint_json import has_top5
from alexnet.models.formats.recognize import CONFIG, MEAN
from alexnet.models.provenance import license_note
from alexnet.models.seen import describe_roles

CARD = "README.md"
"""The file of the card."""

LIBRARY = "alexnet"
"""The library that loads the model, as the hub calls it."""

_LIMITS = """\
- It classifies every image as one of the classes above, whatever the image shows.
- It was measured on images like those it was trained on. Expect more errors on others, such as drawings, screenshots, \
or images from another camera or country.
- It repeats what its training images leave out or get wrong about people and places. Do not base a decision about a \
person on it."""


_USE = """\
To classify images like those that it was trained on, to study how a convolutional network works, and as initial \
weights for other classes: `alexnet train PHOTOS --init {init}`. Measure it on your own images first: `alexnet \
evaluate`. It is not meant for decisions about people, nor where a wrong answer can do harm."""


def model_card(saved: Checkpoint, title: str, address: str, checksums: Mapping[str, str]) -> str:
    """The README.md of a model: metadata, classes, input, measured errors, use, data, provenance, limits.

    Args:
        title: its heading.
        address: what `alexnet.load` takes, such as hf://USER/NAME; default: the title, as the name of the folder.
        checksums: file -> SHA-256 in hexadecimal digits.
    """
    arch, classes = saved.arch, [*map(printable, saved.classes)]
    more = f" and {len(classes) - 8:,} others" if len(classes) > 8 else ""
    named = f"{', '.join(classes[:8])}{more}" if saved.class_names_known else "their names are unknown"
    load = f'model = alexnet.load("{address or title}")' + "          # this folder" * (not address)
    lines = [
        # JSON is valid YAML, so the metadata needs no quoting rules.
        "---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _metadata(saved, title).items()),
        "---", "",
        f"# {title}", "",
        f"AlexNet in the form `{arch.name}`, for {len(classes):,} classes: {named}.", "",
        "```python", "import alexnet", "", load, 'print(model.predict("photo.jpg")[0])', "```", "",
        _input(saved), "",
        "## Measured", "", *_measured(saved), "",
        "## Calibration", "", _calibration(saved), "",
        "## Intended use", "", _USE.format(init=address or title), "",
        "## Training data", "", _training_data(saved), "",
        "## Where it comes from", "", _origin(saved), "",
        "## License", "", _license(saved), "",
        "## Limits", "", _LIMITS, "",
        "## Checksums", "", *_checksums(saved, checksums), ""]
    return "\n".join(lines)


def _calibration(saved: Checkpoint) -> str:
    """What a probability means."""
    if not (found := saved.calibration):
        return "Its probabilities are a softmax and not calibrated: 99% does not mean right 99 times in 100."
    ten = found.get("ten_views")
    of_ten = "" if ten is None else (
        f" For the mean over ten views each view's logits are divided by {ten['temperature']:.3f} instead, and the "
        f"error is {ten['ece_after']:.1%} ({ten['ece_before']:.1%} with the temperature of one view).")
    return (f"Its logits are divided by the temperature {found['temperature']:.3f}, fitted on "
            f"{found['fitted_images']:,} images. On {found['measured_images']:,} others the expected calibration error "
            f"is {found['ece_after']:.1%} ({found['ece_before']:.1%} without the temperature).{of_ten} It is higher on "
            "images that differ from these.")


def _training_data(saved: Checkpoint) -> str:
    """How many images, and what is known of them."""
    count, unknown = len(saved.seen.trained), saved.seen.unknown
    parts = []
    if count:
        parts.append(f"{count:,} images of {len(saved.classes):,} classes. The images are not here; `{MEAN}` has a "
                     "content hash and a perceptual hash of each, so that `alexnet evaluate` leaves them out.")
    if unknown:
        parts.append(f"It is not recorded which images {' and '.join(unknown)} were trained on.")
    if not parts:
        return "None: no image was used in training."
    if not license_note(saved.provenance):
        parts.append("The origin and the license of the images were not recorded. Its trainer knows them.")
    return " ".join(parts)


def _checksums(saved: Checkpoint, checksums: Mapping[str, str]) -> Iterator[str]:
    """The rows of a table."""
    yield from ("| | SHA-256 |", "|---|---|")
    for name, digest in checksums.items():
        yield f"| `{name}` | `{digest}` |"
    yield f"| names and values of the weights, as `alexnet serve` shows them | `{saved.describe()['sha256']}` |"


def _metadata(saved: Checkpoint, name: str) -> dict[str, object]:
    """The fields that the hub reads: huggingface.co/docs/hub/model-cards."""
    metadata: dict[str, object] = {
        "library_name": "alexnet", "pipeline_tag": "image-classification", "tags": ["alexnet", "image-classification"]}
    if license_note(saved.provenance):  # no license of the hub's list; the section License of the card has the note
        metadata |= {"license": "other", "license_name": "see-model-card"}
    if saved.errors:
        metrics = []
        for k, error, (low, high) in _top_errors(saved):
            metrics += [{"type": "accuracy", "name": f"top-{k} accuracy{of_interval}", "value": round(1 - value, 6)}
                        for of_interval, value in (("", error), (", lower end of the 95% interval", high),
                                                   (", upper end of the 95% interval", low))]
        dataset = {"name": f"validation images of {len(saved.classes)} classes", "type": "imagefolder"}
        metadata["model-index"] = [{"name": name, "results": [{
            "task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}]}]
    return metadata


def _input(saved: Checkpoint) -> str:
    spec = saved.arch.input
    mean = {"pixel": "its training set's mean of each pixel", "channel": "its training set's mean color"}.get(
        str(spec.mean), f"the mean {spec.mean}")
    if spec.mean == "pixel" and spec.mean_crop == "center":
        mean += " (its center crop, from other crops and mirrored ones too)"
    scale = f", divided by {spec.scale}" if spec.scale != (1.0, 1.0, 1.0) else ""
    return (f"Input: the shorter side rescaled to {spec.side} pixels, the center crop of {spec.crop}x{spec.crop}; "
            f"0..255, minus {mean}{scale}; channels in the order {spec.channels}. `{MEAN}` holds the mean, `{CONFIG}` "
            "everything else.")


def _measured(saved: Checkpoint) -> list[str]:
    errors = saved.errors
    if not errors:
        return ["It was not measured before it was exported."]
    rows = [f"| top-{k} | {error:.2%} | {low:.2%} to {high:.2%} |" for k, error, (low, high) in _top_errors(saved)]
    return [f"On {errors['images']:,} validation images, one central view:", "",
            "| | error | 95% interval |", "|---|---|---|", *rows, *_caveats(saved)]


def _top_errors(saved: Checkpoint) -> Iterator[tuple[int, float, Sequence[float]]]:
    """Top-1 error and, of six classes or more, top-5 error, each with its 95% interval."""
    errors, interval = saved.errors, saved.errors["interval"]
    yield 1, errors["top1_error"], interval["top1_error"]
    if has_top5(len(saved.classes)):
        yield 5, errors["top5_error"], interval["top5_error"]


def _caveats(saved: Checkpoint) -> list[str]:
    """Why the measured errors may be better than those on new images."""
    errors, chosen, unknown = saved.errors, len(saved.seen.selected_on), saved.seen.unknown
    overlap, found = Overlap.from_json(errors["images"], errors), []
    if overlap.describe():
        found.append(f"{overlap.describe()}, {overlap.verdict}.")
    if chosen:
        found.append(f"{chosen:,} images {describe_roles(saved.seen_in_roles.roles)}; as far as they are among "
                     "these, the errors are slightly optimistic.")
    if unknown:
        found.append(f"It is not known which images {' and '.join(unknown)} were trained on.")
    return ["", " ".join(found)] if found else []


def _origin(saved: Checkpoint) -> str:
    paragraphs, recipe, init = [], saved.recipe, saved.provenance.get("init")
    for origin in (saved.provenance, init.get("provenance") if init else None):
        if origin and "source" in origin:
            paragraphs.append(f"Weights of {origin['source']}, from `{origin['file']}` (SHA-256 `{origin['sha256']}`); "
                              "their owner's terms hold.")
    if init:
        paragraphs.append(f"Training began from a `{init['arch']}` of {init['classes']:,} classes (SHA-256 of its "
                          f"weights `{init['sha256']}`).")
    if recipe:
        paragraphs.append(
            f"Trained by the recipe `{recipe.name}`: {plural(recipe.epochs, 'epoch')} at most, batch size "
            f"{recipe.batch_size}, learning rate {recipe.learning_rate:g} ({recipe.schedule}), momentum "
            f"{recipe.momentum:g}, weight decay {recipe.weight_decay:g}.")
    return "\n\n".join(paragraphs) or "Its origin was not recorded."


def _license(saved: Checkpoint) -> str:
    note, starts_elsewhere = license_note(saved.provenance), "license" not in saved.provenance
    if not note:
        return "No license is stated here; the person who trained it chooses one."
    return f"{'The weights that training began from: ' if starts_elsewhere else 'The weights: '}{note}."
