"""The `import` and `export` commands: weights of other projects -> a checkpoint, and a checkpoint -> other formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from alexnet.cli.app import WEIGHTS, app
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from alexnet.models.checkpoint import Checkpoint

FORMAT_OF = {".onnx": "onnx", ".pt2": "torch-export", ".pth": "torchvision", "": "safetensors"}
"""The format of `export` by the ending of its output."""


@app.command(name="import", group=WEIGHTS, sort_key=0)
def import_(
    file: str, out: Path, /, *,
    from_: Annotated[Literal["torchvision", "caffe"] | None, Parameter(name="--from")] = None,
    prototxt: Path | None = None, mean: str | None = None, classes: Path | None = None,
) -> None:
    """Convert weights of another project into a checkpoint, with preprocessing and classes. No code in them is run.

    Args:
        file: A state dict of torchvision's alexnet (alexnet-owt-*.pth is downloaded if there is no such file), a
            .caffemodel, or a folder in the layout of the Hugging Face hub that `alexnet export` wrote.
        out: Folder for the checkpoint.
        from_: Format of the file. Default: by its ending.
        prototxt: Caffe's description of the network. Default: the one inside the .caffemodel.
        mean: Caffe's mean: a .binaryproto file, or three numbers for blue, green and red, such as 104,117,123.
        classes: A text file with one class name a line. Default: ImageNet's, if the network has 1,000 classes.
    """
    from alexnet.data.class_names import read_class_names
    from alexnet.models import checkpoint

    written = [out / "log.jsonl", *(out / part / checkpoint.HEAD for part in ("", "best", "last"))]
    require(not any(path.exists() for path in written), f"{out} already holds a checkpoint", "name another folder")
    names = read_class_names(classes) if classes else None
    saved = _read_weights(Path(file), from_, prototxt, mean, names)
    checkpoint.save(saved, out)
    spec = saved.arch.input
    print(f"{out}: {saved.arch.name}, {sum(tensor.numel() for tensor in saved.weights.values()):,} parameters, "
          f"{len(saved.classes):,} classes ({saved.classes[0]}, ...); {spec.channels} crops of {spec.crop}x{spec.crop} "
          f"from {spec.side}x{spec.side}")


def _read_weights(
    path: Path, kind: str | None, prototxt: Path | None, mean: str | None, names: Sequence[str] | None,
) -> Checkpoint:
    from alexnet.models.formats.caffe import read_caffe
    from alexnet.models.formats.huggingface import read_huggingface
    from alexnet.models.formats.torchvision import fetch_torchvision, official_name, read_torchvision

    if path.is_dir():
        require(not (kind or prototxt or mean or names),
                f"{path} is a folder, which brings preprocessing and classes along",
                "leave out --from, --prototxt, --mean and --classes, or name a file")
        return read_huggingface(path)
    if kind == "caffe" or (not kind and path.suffix in (".caffemodel", ".prototxt", ".binaryproto")):
        return read_caffe(path, prototxt=prototxt, mean=_mean(mean), classes=names)
    require(not (prototxt or mean), "--prototxt and --mean are for Caffe's files",
            "leave them out: torchvision's mean is known")
    if not path.exists() and (official := official_name(str(path))):
        path = fetch_torchvision(official)
    return read_torchvision(path, names)


def _mean(text: str | None) -> Path | tuple[float, float, float] | None:
    """--mean as three numbers, or as a file."""
    try:
        blue, green, red = map(float, (text or "").split(","))
    except ValueError:
        return Path(text) if text else None
    return blue, green, red


@app.command(group=WEIGHTS, sort_key=1)
def export(
    checkpoint: str, out: Path, /, *, to: Literal["onnx", "torch-export", "torchvision", "safetensors"] | None = None,
    from_pixels: bool = False,
) -> None:
    """Write a network in a format that other software loads, and check that its outputs are the same.

    Args:
        checkpoint: A checkpoint or a run folder.
        out: File to write; for safetensors, a folder.
        to: onnx: an ONNX model. torch-export: a program for torch.export.load. torchvision: a state dict for
            torchvision's alexnet. safetensors: a folder in the layout of the Hugging Face hub with config, weights and
            model card. Default: by the ending of OUT: .onnx, .pt2, .pth, or none.
        from_pixels: For onnx and torch-export: include the preprocessing, so that the input is stored uint8 images.
    """
    from alexnet.models.formats.export import export as write
    from alexnet.models.formats.open_weights import open_weights

    if to is None and out.suffix not in FORMAT_OF:
        raise UserError(f"{out} has no ending that names the format (.onnx, .pt2, .pth, or none for a folder with "
                        "safetensors)", "add --to onnx, torch-export, torchvision or safetensors")
    print(write(open_weights(checkpoint), out, to or FORMAT_OF[out.suffix], from_pixels=from_pixels).describe())
