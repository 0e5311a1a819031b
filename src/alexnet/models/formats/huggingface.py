"""Hugging Face hub layout: write and read a folder with config.json, model.safetensors and a model card."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from alexnet.architecture.arithmetic import has_top5
from alexnet.data.class_names import printable
from alexnet.data.overlap import Overlap
from alexnet.errors import UserError, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.metadata import check_mean, checkpoint_of_facts, facts, license_metadata
from alexnet.models.formats.state_dict import check_state_dict
from alexnet.models.formats.training_checkpoint import parse_safetensors
from alexnet.models.provenance import license_note
from alexnet.models.seen import TENSORS, SeenImages

CONFIG, WEIGHTS, MEAN, CARD = "config.json", "model.safetensors", "preprocess.safetensors", "README.md"
"""The files of a folder."""


def write_huggingface(saved: Checkpoint, folder: Path) -> None:
    """Write a folder that can be uploaded to the hub: config, weights, mean image and model card.

    A model that is in the folder is replaced.

    Raises:
        UserError: the folder holds something else.
    """
    require(not folder.exists() or (folder.is_dir() and ((folder / WEIGHTS).is_file() or not any(folder.iterdir()))),
            f"{folder} holds something else", "name a new folder")
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in saved.weights.items()}
    license_ = license_metadata(saved)
    files = {WEIGHTS: safetensors.torch.save(weights, {"format": "pt", **license_}),
             MEAN: safetensors.torch.save({"mean_HWC": saved.mean_HWC.cpu().contiguous(), **saved.seen.to_tensors()})}
    config = facts(saved)
    config |= {
        "model_type": "alexnet", "architectures": ["AlexNet"], "library_name": "alexnet",
        "id2label": dict(enumerate(config.pop("classes"))), "trained_on_unknown": list(saved.seen.unknown), **license_,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    # File names need not be UTF-8.
    card = model_card(saved, Path(os.path.realpath(folder)).name).encode(errors="backslashreplace")
    files |= {CARD: card, CONFIG: json.dumps(config, indent=1).encode()}
    folder.mkdir(parents=True, exist_ok=True)
    temporaries = {folder / f"{name}.new": name for name in files}
    try:
        for path, name in temporaries.items():
            path.write_bytes(files[name])
        for path, name in temporaries.items():  # the config last: its checksums make the others valid
            path.replace(folder / name)
    finally:
        for path in temporaries:
            path.unlink(missing_ok=True)


def read_huggingface(folder: Path) -> Checkpoint:
    """Read a folder that `write_huggingface` wrote.

    Raises:
        UserError: a file is missing, damaged, or not from this package; the error names it.
    """
    for name in (CONFIG, WEIGHTS, MEAN):
        require((folder / name).is_file(), f"{folder} has no {name}",
                "it is not a model that alexnet exported, or its download is incomplete; if it holds torchvision's "
                f"alexnet, name its {WEIGHTS}")
    tensors = {name: (folder / name).read_bytes() for name in (WEIGHTS, MEAN)}
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        names, unknown = config["id2label"], tuple(map(str, config["trained_on_unknown"]))
        config["classes"] = [names[str(index)] for index in range(len(names))]
        saved = checkpoint_of_facts(config, SeenImages(unknown=unknown))
        damaged = [name for name, data in tensors.items()
                   if hashlib.sha256(data).hexdigest() != config["sha256"][name]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{folder / CONFIG} does not describe a network of this package ({error})",
                        "download it again, or name a folder that alexnet export wrote") from error
    require(not damaged, f"{folder / ''.join(damaged[:1])} is damaged: its checksum is not the one in {CONFIG}",
            "download it again")
    weights, beside = (parse_safetensors(tensors[name], folder / name) for name in (WEIGHTS, MEAN))
    mean_HWC = beside.get("mean_HWC", torch.empty(0))
    check_mean(mean_HWC, saved.arch.input.side, folder / MEAN)
    require(set(TENSORS) <= beside.keys(), f"{folder / MEAN} does not say which images the network was "
            "trained on", "export it again with this version of alexnet")
    return replace(saved, weights=check_state_dict(weights, saved.arch, folder / WEIGHTS), mean_HWC=mean_HWC,
                   seen=SeenImages.from_tensors(beside, unknown))


# --- The model card ---------------------------------------------------------------------------------------------------

_LIMITS = """\
- It classifies every image as one of the classes above, whatever the image shows.
- It was measured on images like those it was trained on. Expect more errors on others, such as drawings, screenshots, \
or images from another camera or country.
- It repeats what its training images leave out or get wrong about people and places. Do not base a decision about a \
person on it."""


def model_card(saved: Checkpoint, name: str) -> str:
    """The README.md of a model on the hub: metadata, classes, input, measured errors, provenance, limits."""
    arch, classes = saved.arch, [*map(printable, saved.classes)]
    more = f" and {len(classes) - 8:,} others" if len(classes) > 8 else ""
    named = f"{', '.join(classes[:8])}{more}" if saved.class_names_known else "their names are unknown"
    lines = [
        # JSON is valid YAML, so the metadata needs no quoting rules.
        "---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _metadata(saved, name).items()),
        "---", "",
        f"# {name}", "",
        f"AlexNet in the form `{arch.name}`, for {len(classes):,} classes: {named}.", "",
        "```python", "import alexnet", "", f'model = alexnet.load("{name}")          # this folder',
        'print(model.predict("photo.jpg")[0])', "```", "",
        _input(saved), "",
        "## Measured", "", *_measured(saved), "",
        "## Where it comes from", "", _origin(saved), "",
        "## License", "", _license(saved), "",
        "## Limits", "", _calibration(saved), _LIMITS, ""]
    return "\n".join(lines)


def _calibration(saved: Checkpoint) -> str:
    """What a probability means."""
    if not (found := saved.calibration):
        return "- Its probabilities are a softmax and not calibrated: 99% does not mean right 99 times in 100."
    return (f"- Its logits are divided by the temperature {found['temperature']:.3f}, fitted on "
            f"{found['fitted_images']:,} images. On {found['measured_images']:,} others the expected calibration error "
            f"is {found['ece_after']:.1%} ({found['ece_before']:.1%} without the temperature). It is higher on images "
            "that differ from these.")


def _metadata(saved: Checkpoint, name: str) -> dict[str, object]:
    """The fields that the hub reads: huggingface.co/docs/hub/model-cards."""
    metadata: dict[str, object] = {
        "library_name": "alexnet", "pipeline_tag": "image-classification", "tags": ["alexnet", "image-classification"]}
    if license_note(saved.provenance):  # no license of the hub's list; the section License of the card has the note
        metadata |= {"license": "other", "license_name": "see-model-card"}
    if saved.errors:
        metrics = [{"type": "accuracy", "name": f"top-{k} accuracy", "value": round(1 - error, 6)}
                   for k, error in ((1, saved.errors["top1_error"]), (5, saved.errors["top5_error"]))
                   if k == 1 or has_top5(len(saved.classes))]
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
            f"0..255, less {mean}{scale}; channels in the order {spec.channels}. `{MEAN}` holds the mean, `{CONFIG}` "
            "everything else.")


def _measured(saved: Checkpoint) -> list[str]:
    errors = saved.errors
    if not errors:
        return ["It was not measured before it was exported."]
    interval = errors["interval"]
    rows = [f"| top-{k} | {error:.2%} | {low:.2%} to {high:.2%} |" for k, error, (low, high) in (
        (1, errors["top1_error"], interval["top1_error"]), (5, errors["top5_error"], interval["top5_error"]))
            if k == 1 or has_top5(len(saved.classes))]
    return [f"On {errors['photographs']:,} validation images, one central view:", "",
            "| | error | 95% interval |", "|---|---|---|", *rows, *_caveats(saved)]


def _caveats(saved: Checkpoint) -> list[str]:
    """Why the measured errors may be better than those on new images."""
    errors, chosen, unknown = saved.errors, len(saved.seen.selected_on), saved.seen.unknown
    overlap, found = Overlap.from_json(errors["photographs"], errors), []
    if overlap.describe():
        found.append(f"{overlap.describe()}, {overlap.verdict}.")
    if chosen:
        found.append(f"{chosen:,} images chose the best epoch or fitted the temperature; as far as they are among "
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
            f"Trained by the recipe `{recipe.name}`: {recipe.epochs} epochs at most, batch size {recipe.batch_size}, "
            f"learning rate {recipe.learning_rate:g} ({recipe.schedule}), momentum {recipe.momentum:g}, weight decay "
            f"{recipe.weight_decay:g}.")
    return "\n\n".join(paragraphs) or "Its origin was not recorded."


def _license(saved: Checkpoint) -> str:
    note, starts_elsewhere = license_note(saved.provenance), "license" not in saved.provenance
    if not note:
        return "No license is stated here; the person who trained it chooses one."
    return f"{'The weights that training began from: ' if starts_elsewhere else 'The weights: '}{note}."
