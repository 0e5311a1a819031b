"""The model card of the pretrained network, docs/pretrained.md, made from its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alexnet.models.packaged import Head, Measured


def model_card(head: Head, load_seconds: float | None = None) -> str:
    """The card in Markdown.

    Args:
        head: of the packaged network.
        load_seconds: what `import alexnet; alexnet.load()` takes; None if it was not measured.
    """
    network = head["network"]
    arch, recipe, spec = network["arch"], network["recipe"], network["arch"]["input"]
    training, classes = head["training"], network["classes"]
    limits, versions = _limits(head), ", ".join(f"{name} {version}" for name, version in training["software"].items())
    return f"""# Pretrained network: {head['name']}

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

A network of the preset `{arch['name']}` with {head['parameters']:,} parameters and {len(classes)} classes of ImageNet:
those of {training['data']}. Its input is {spec['crop']}x{spec['crop']} pixels, the center of an image whose shorter
side is rescaled to {spec['side']} pixels. The weights are stored in {head['storage']} ({head['bytes']:,} bytes) and
inference is in fp32. {_calibration(head)}

## Measured errors

These are errors of the stored weights. 95% intervals (Wilson) cover the choice of images, not the seed of training.
{_selection(head)}

{_table(head['measured'])}

ECE is the expected calibration error, on validation images that did not fit the temperature. The last column is of the
images whose likeliest class has a probability of at least 50%: how many they are, and their top-1 error. For the others
`alexnet predict` prints "not sure".
{_storages(head['storage_errors'])}
{_load_time(load_seconds)}
## Training

- Data: {training['data']}, {training['images']:,} training images that differ in their bytes, which
  are not part of the package.
- Recipe `{recipe['name']}`, {training['epochs']} epochs, batch size {training['batch_size']}, seed {training['seed']}.
{_scale(recipe)}- Machine: {training['device']}; {versions}.

To train it again (names of folders are those of your machine):

*Not run by the tests: it takes hours, and the data are not in the repository.*

```sh
{training['command']}
{training['package_command']}
```
{_changed_since(training['changed_since'])}
## Limits

{limits}

## License

The weights were {head['license']}.
"""


def _changed_since(changes: Sequence[str]) -> str:
    """Why the commands give other weights today."""
    return f"\nThe package has changed since, so the weights will differ: {'; '.join(changes)}.\n" if changes else ""


def _selection(head: Head) -> str:
    """Which validation images the errors are of."""
    measured, fitted = head["measured"][0]["images"], head["network"]["calibration"].get("fitted_images", 0)
    return (f"Validation images: {measured:,}, without exact copies of training images. {fitted:,} of them were used\n"
            "to fit the temperature, which changes no error.")


def _scale(recipe: Mapping[str, Any]) -> str:
    """How batch normalization was fitted to the larger views of evaluation."""
    side = recipe["train_crop"]
    return (f"- Training views had {side}x{side} pixels. Batch normalization's statistics were re-estimated on\n"
            "  larger center crops of training images, as evaluation has them.\n") * bool(side)


def _calibration(head: Head) -> str:
    found = head["network"]["calibration"]
    if not found:
        return "It is not calibrated."
    return (f"Its probabilities are calibrated: a temperature of {found['temperature']:.3f}, fitted on "
            f"{found['fitted_images']:,} validation images.")


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


def _limits(head: Head) -> str:
    lines = [
        f"- It knows {len(head['network']['classes'])} classes and answers with one of them for any image. An image of "
        "another class gets a wrong name, often with less than 50%, which `alexnet predict` marks as \"not sure\".",
        f"- It was trained on images of {head['network']['arch']['input']['side']} pixels: what is small in a photo is "
        "lost.",
        "- ImageNet's images come from the web of 2010 and before, mostly from North America and Europe."]
    if not head["look_alikes_recognized"]:
        lines.append("- `evaluate` recognizes copies of its training images, but not other images that look like them: "
                     "their perceptual hashes were left out to save space.")
    return "\n".join(lines)
