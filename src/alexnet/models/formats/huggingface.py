"""A folder as the Hugging Face hub has it: config.json, model.safetensors and a model card, written and read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from alexnet.architecture.overrides import from_json, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.errors import require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.state_dict import dtype_of, fit, name_classes, parse_safetensors, shape_of

#: The files of a folder in the layout of the Hugging Face hub.
CONFIG, WEIGHTS, MEAN, CARD = "config.json", "model.safetensors", "preprocess.safetensors", "README.md"


# --- The Hugging Face hub's layout ------------------------------------------------------------------------------------


def write_hub(saved: Checkpoint, folder: Path) -> None:
    """A folder that can be uploaded as it is: config.json, model.safetensors, the mean image, and a model card.

    A model that is there already is replaced. Raises ValueError for a folder that holds something else.
    """
    require(not folder.exists() or (folder.is_dir() and ((folder / WEIGHTS).is_file() or not any(folder.iterdir()))),
          f"{folder} holds something else; name a new folder")
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in saved.weights.items()}
    files = {WEIGHTS: safetensors.torch.save(weights, {"format": "pt"}),
             MEAN: safetensors.torch.save({"mean_HWC": saved.mean_HWC.cpu().contiguous()})}
    config = {
        "model_type": "alexnet", "architectures": ["AlexNet"], "library_name": "alexnet",
        "id2label": dict(enumerate(saved.classes)), "arch": to_json(saved.arch),
        "recipe": to_json(saved.recipe) if saved.recipe else None, "errors": saved.errors,
        "provenance": saved.provenance, "trained_on": saved.training.get("source", ""),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    files |= {CARD: model_card(saved, folder.resolve().name).encode(), CONFIG: json.dumps(config, indent=1).encode()}
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = {folder / f"{name}.new": name for name in files}
    try:
        for path, name in unfinished.items():
            path.write_bytes(files[name])
        for path, name in unfinished.items():  # the config last: it tells whether the others are its own
            path.replace(folder / name)
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)


def read_hub(folder: Path) -> Checkpoint:
    """What `write_hub` wrote. Raises ValueError naming the file that is missing, damaged or not ours."""
    for name in (CONFIG, WEIGHTS, MEAN):
        require((folder / name).is_file(), f"{folder} has no {name}; it is not a model that alexnet exported, or a "
              "download that was cut off")
    tensors = {name: (folder / name).read_bytes() for name in (WEIGHTS, MEAN)}
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        arch, names = from_json(Arch, config["arch"]), config["id2label"]
        damaged = [name for name, data in tensors.items()
                   if hashlib.sha256(data).hexdigest() != config["sha256"][name]]
        others: dict[str, Any] = {
            "classes": name_classes(arch.classes, [str(names[str(place)]) for place in range(len(names))]),
            "recipe": from_json(Recipe, config["recipe"]) if config["recipe"] else None,
            "training": {"source": str(config["trained_on"])},
            "errors": dict(config["errors"]), "provenance": dict(config["provenance"])}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} does not describe a network of this package ({error}); download it "
                         "again, or name a folder that alexnet export wrote") from error
    require(not damaged, f"{folder / ''.join(damaged[:1])} is damaged: it is not the file that {CONFIG} speaks of; "
          "download it again")
    weights, mean = (parse_safetensors(tensors[name], folder / name) for name in (WEIGHTS, MEAN))
    return Checkpoint(arch=arch, weights=fit(weights, arch, folder / WEIGHTS),
                      mean_HWC=_fitting_mean(mean, arch.input.side, folder / MEAN), **others)


def _fitting_mean(tensors: Mapping[str, Tensor], side: int, path: Path) -> Tensor:
    mean_HWC = tensors.get("mean_HWC", torch.empty(0))
    require(mean_HWC.shape in ((1, 1, 3), (side, side, 3)) and mean_HWC.dtype == torch.float32
          and bool(mean_HWC.isfinite().all()), f"{path}: mean_HWC is {shape_of(mean_HWC)} {dtype_of(mean_HWC)}, and "
          f"images of {side} pixels want finite float32 of {side}x{side}x3 or 1x1x3")
    return mean_HWC


def model_card(saved: Checkpoint, name: str) -> str:
    """The README.md of a model on the hub: what it is, how to ask it, what was measured, what it cannot do."""
    arch, spec, errors = saved.arch, saved.arch.input, saved.errors
    mean = {"pixel": "its training set's mean of each pixel", "channel": "its training set's mean color"}.get(
        str(spec.mean), f"the mean {spec.mean}")
    head: dict[str, Any] = {
        "library_name": "alexnet", "pipeline_tag": "image-classification", "tags": ["alexnet", "image-classification"]}
    if errors:
        head["model-index"] = [{"name": name, "results": [{
            "task": {"type": "image-classification"},
            "dataset": {"name": f"validation images of {len(saved.classes)} classes", "type": "imagefolder"},
            "metrics": [{"type": "accuracy", "name": f"top-{k} accuracy",
                         "value": round(1 - errors[f"top{k}_error"], 6)} for k in (1, 5)]}]}]
    lines = [
        # JSON is YAML, and nothing in it needs quoting rules of its own.
        "---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()), "---", "",
        f"# {name}", "",
        f"AlexNet in the form `{arch.name}`, for {len(saved.classes):,} classes: {', '.join(saved.classes[:8])}"
        f"{f' and {len(saved.classes) - 8:,} others' if len(saved.classes) > 8 else ''}.", "",
        "```python", "import alexnet", "", f'model = alexnet.load("{name}")          # this folder',
        'print(model.predict("photo.jpg")[0])', "```", "",
        f"Input: the shorter side rescaled to {spec.side} pixels, the central square, of it {spec.crop}x{spec.crop}; "
        f"0..255, less {mean}" + (f", divided by {spec.scale}" if spec.scale != (1.0, 1.0, 1.0) else "")
        + f"; channels in the order {spec.channels}. `{MEAN}` holds the mean, `{CONFIG}` everything else.", "",
        "## Measured", "", *_measured(saved), "",
        "## Where it comes from", "", *_origin(saved), "",
        "## Limits", "",
        "- It knows the classes above and no others: whatever it is shown, it names one of them.",
        "- Its probabilities are a softmax, not calibrated: 99% does not mean right 99 times in 100.",
        "- It was measured on images like those it was trained on; expect more errors on others, such as "
        "drawings, screenshots, or images from another camera or country.",
        "- What its training images leave out or get wrong about people and places, it does too; it is no basis "
        "for a decision about a person.", ""]
    return "\n".join(lines)


def _measured(saved: Checkpoint) -> list[str]:
    errors = saved.errors
    if not errors:
        return ["Nothing was measured by the one who exported it."]
    rows = [f"| top-{k} | {errors[f'top{k}_error']:.2%} | {low:.2%} to {high:.2%} |"
            for k in (1, 5) for low, high in (errors["interval"][f"top{k}_error"],)]
    return [f"On {errors['photographs']:,} validation images, one central view:", "",
            "| | error | 95% interval |", "|---|---|---|", *rows]


def _origin(saved: Checkpoint) -> list[str]:
    lines, recipe = [], saved.recipe
    for origin in (saved.provenance, saved.provenance.get("init", {}).get("provenance", {})):
        if "source" in origin:
            lines.append(f"Weights of {origin['source']}, from `{origin['file']}` (SHA-256 `{origin['sha256']}`); "
                         "their owner's terms hold.")
    if init := saved.provenance.get("init"):
        lines.append(f"Training began from a `{init['arch']}` of {init['classes']:,} classes (SHA-256 of its weights "
                     f"`{init['sha256']}`).")
    if recipe:
        lines.append(f"Trained by the recipe `{recipe.name}`: {recipe.epochs} epochs at most, batches of "
                     f"{recipe.batch_size}, rate {recipe.learning_rate:g} ({recipe.schedule}), momentum {recipe.momentum:g}, "
                     f"weight decay {recipe.weight_decay:g}. Who trained it decides on a licence; none is stated here.")
    return ["\n\n".join(lines) or "Its origin was not recorded."]
