"""The model card of the pretrained network, docs/pretrained.md, made from its JSON file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet.models.packaged import Measured, PackagedJson

FEW_IMAGES = 100
"""Below this, the card gives counts beside percentages."""


def model_card(tree: PackagedJson, hash_bytes: int, load_seconds: float | None = None) -> str:
    """The card in Markdown.

    Args:
        tree: the packaged network's JSON file.
        hash_bytes: how many bytes of the file of the tensors are hashes of images.
        load_seconds: what `import alexnet; alexnet.load()` takes; None if it was not measured.
    """
    network = tree["network"]
    arch, recipe, spec = network["arch"], network["recipe"], network["arch"]["input"]
    training, classes = tree["training"], network["classes"]
    limits, versions = _limits(tree), ", ".join(f"{name} {version}" for name, version in training["software"].items())
    return f"""# Pretrained network: {tree['name']}

The package contains one trained network. It is used where no checkpoint is named, offline (`serve` needs the extra
`serve`):

```sh
alexnet predict photo.jpg
alexnet serve
alexnet train PHOTOS --init pretrained
alexnet list weights pretrained        # its facts and all of its classes
```

```python
import alexnet

model = alexnet.load()
model.predict("photo.jpg")
```

## What it is

A network of the preset `{arch['name']}` with {tree['parameters']:,} parameters and {len(classes)} classes of ImageNet:
those of {training['data']}. Its input is {spec['crop']}x{spec['crop']} pixels, the center of an image whose shorter
side is rescaled to {spec['side']} pixels. The file of {tree['bytes']:,} bytes holds the weights in {tree['storage']} \
({(tree['bytes'] - hash_bytes) / 1e6:.2f} MB)
and hashes of the training and validation images ({hash_bytes / 1e6:.2f} MB), by which `evaluate` leaves training images
out. Inference is in fp32.
{_calibration(tree)}

## Measured errors

These are errors of the stored weights. 95% intervals (Wilson) cover the choice of images, not the seed of training:
one network was trained, with seed {training['seed']}, and the spread over seeds is unknown.
{_selection(tree)}

{_table(tree['measured'])}

ECE is the expected calibration error, on validation images that did not fit the temperature. The last column is of the
images whose likeliest class has a probability of at least 50%: how many they are, and their top-1 error. For the others
`alexnet predict` prints "not sure". Look-alikes have nearly the perceptual hash of a training image, as an image that
was saved again has.
{_several_views(tree)}{_few_images(tree['measured'])}{_storages(tree['storage_errors'])}
{_load_time(load_seconds)}
## Training

- Data: {training['data']}, {training['images']:,} training images that differ in their bytes, which
  are not part of the package.
- Recipe `{recipe['name']}`, {training['epochs']} epochs, batch size {training['batch_size']}, seed {training['seed']}.
{_scale(recipe)}- Machine: {training['device']}; {versions}. The training may have used fewer of the cores:
  [its time, and on how many](results.md#training-runs).

To train it again (names of folders are those of your machine):

<!-- Not run by the tests: it takes hours, and the data are not in the repository. -->

```sh
{training['command']}
{training['package_command']}
```
{_changed_since(training['changed_since'])}
## Limits

{limits}

## License

The weights were {tree['license']}.
"""


def _changed_since(changes: Sequence[str]) -> str:
    """Why the commands give other weights today."""
    return f"\nThe package has changed since, so the weights will differ: {'; '.join(changes)}.\n" if changes else ""


def _selection(tree: PackagedJson) -> str:
    """Which validation images the errors are of."""
    found, measured = tree["network"]["calibration"], tree["measured"][0]
    alike = f"; {measured['look_alikes'] or 'none'} of them look like one" if "look_alikes" in measured else ""
    fitted = (f"Validation images: {measured['images']:,}, without exact copies of training images{alike}.\n"
              f"{found.get('fitted_images', 0):,} of them were used ")
    if "ten_views" not in found:
        return fitted + "to fit the temperature, which changes no error."
    return fitted + "to fit the temperatures. That of one view changes no error, and that of ten views few of them."


def _scale(recipe: Mapping[str, Any]) -> str:
    """How batch normalization was fitted to the larger views of evaluation."""
    side = recipe["train_crop"]
    return (f"- Training views had {side}x{side} pixels. Batch normalization's statistics were re-estimated on\n"
            "  larger center crops of training images, as evaluation has them.\n") * bool(side)


def _calibration(tree: PackagedJson) -> str:
    found = tree["network"]["calibration"]
    if not found:
        return "It is not calibrated."
    ten = f", and of {found['ten_views']['temperature']:.3f} for ten views" if "ten_views" in found else ""
    return (f"Its probabilities are calibrated: a temperature of {found['temperature']:.3f} for one view{ten}, fitted "
            f"on {found['fitted_images']:,}\nvalidation images.")


def _table(measured: Sequence[Measured]) -> str:
    rows = ["| images | number | views | top-1 error | top-5 error | ECE | top-1 probability >= 50%: images, error |",
            "|---|---|---|---|---|---|---|"]
    for each in measured:
        ece = f"{each['ece']:.1%}" if "ece" in each else ""
        rows.append(f"| {each['data']} | {each['images']:,} | {each['views']} | "
                    f"{_with_interval(each['top1_error'], each['top1_interval'])} | "
                    f"{_with_interval(each['top5_error'], each['top5_interval'])} | {ece} | "
                    f"{each['sure_images']:,}, {each['sure_error']:.1%} |")
    return "\n".join(rows)


def _with_interval(error: float, interval: Sequence[float]) -> str:
    return f"{error:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


def _several_views(tree: PackagedJson) -> str:
    """What the temperature of ten views changes, or how badly that of one view fits them."""
    found = {each["views"]: each["ece"] for each in tree["measured"] if "ece" in each}
    own = tree["network"]["calibration"].get("ten_views")
    if 1 not in found:
        return ""
    if own:
        return (
            f"\nThe mean over ten views has a temperature of its own, which divides each view's logits, fitted on the "
            f"same\n{own['fitted_images']:,} images. On the other {own['measured_images']:,} the ECE with ten views "
            f"is {own['ece_after']:.1%}; with the temperature of one view\nit is {own['ece_before']:.1%}.\n")
    return "".join(
        f"\nThe temperature was fitted for one view. With {views} views the same temperature is used, and the ECE is "
        f"{ece:.1%}\nin place of {found[1]:.1%}; `alexnet predict --views {views}` says so.\n"
        for views, ece in found.items() if views > 1)


def _few_images(measured: Sequence[Measured]) -> str:
    """Sets of fewer than 100 images in counts, whose errors in percent look more precise than they are."""
    by_images: dict[str, list[Measured]] = {}
    for each in measured:
        if each["images"] < FEW_IMAGES:
            by_images.setdefault(_these(each), []).append(each)
    return "".join("\n" + textwrap.fill(f"{these} {_counts(of_views)}.", 120) + "\n"
                   for these, of_views in by_images.items())


def _counts(of_views: Sequence[Measured]) -> str:
    """How many images have the right class, with each number of views."""
    words = ("have the right class first and", "among five"), *[("and", "")] * (len(of_views) - 1)
    return "; ".join(
        " ".join(filter(None, (f"{_right(each, each['top1_error'])}", first, f"{_right(each, each['top5_error'])}",
                               five))) + f", with {each['views']} view{'s' * (each['views'] != 1)}"
        for each, (first, five) in zip(of_views, words, strict=True))


def _these(each: Measured) -> str:
    """Of how many images, and how many of them were left out."""
    left_out = each.get("left_out", 0)
    return f"Of the {each['images']} {each['data']}," if not left_out else (
        f"Of {each['images'] + left_out} {each['data'].partition(',')[0]}, {left_out} look like training images. "
        f"Of the other {each['images']},")


def _right(each: Measured, error: float) -> int:
    return round(each["images"] * (1 - error))


def _storages(errors: Mapping[str, Any]) -> str:
    """What storing the weights in fewer bits costs."""
    if not errors:
        return ""
    rows = [f"| {kind} | {found['top1_error']:.2%} | {found['top5_error']:.2%} | {found['loss']:.4f} |"
            for kind, found in errors.items()]
    return "\n".join(["", "Effect of quantization, on the validation images with one view, before calibration:", "",
                      "| weights | top-1 error | top-5 error | loss |", "|---|---|---|---|", *rows, ""])


def _load_time(seconds: float | None) -> str:
    return "" if seconds is None else (
        f"\n`import alexnet` and `alexnet.load()` take {seconds:.2f} s after torch's own import, the best of five.\n")


def _limits(tree: PackagedJson) -> str:
    lines = [
        f"- It knows {len(tree['network']['classes'])} classes and answers with one of them for any image. An image of "
        "another class gets a wrong name, often with less than 50%, which `alexnet predict` marks as \"not sure\".",
        f"- It was trained on images of {tree['network']['arch']['input']['side']} pixels: what is small in a photo is "
        "lost.",
        "- ImageNet's images come from the web of 2010 and before, mostly from North America and Europe.",
        "- What bounds its error is unknown: the error of the final weights on the training images was not recorded, "
        "which would tell underfitting from overfitting."]
    if not tree["look_alikes_recognized"]:
        lines.append("- `evaluate` recognizes copies of its training images, but not other images that look like them: "
                     "their perceptual hashes were left out to save space.")
    return "\n".join(textwrap.fill(line, 120, subsequent_indent="  ") for line in lines)
