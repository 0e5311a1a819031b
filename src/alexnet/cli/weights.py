"""The `import` command: weights of other projects -> a checkpoint, with preprocessing and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from alexnet._runtime.hub_address import is_hub_address
from alexnet._runtime.local_files import require_writable
from alexnet._runtime.notes import say
from alexnet.cli.app import WEIGHTS, Classes, app, at_least_1, class_names
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.models.formats.own_state_dict import Size


@app.command(name="import", group=WEIGHTS, sort_key=0)
def import_(
    file: str, out: Path, /, *,
    from_: Annotated[Literal["torchvision", "caffe"] | None, Parameter(name="--from")] = None,
    prototxt: Path | None = None, mean: str | None = None, side: int | None = None, crop: int | None = None,
    classes: Classes = None, arch: str | None = None,
) -> None:
    """Convert weights of another project into a checkpoint, with preprocessing and classes, without running code in it.

    Args:
        file: A state dict of torchvision's alexnet (alexnet-owt-*.pth is downloaded if there is no such file), as a
            training script saved it; a state dict of this package's layer names; a .caffemodel; bvlc_alexnet.npy;
            what `alexnet export` wrote; or hf://USER/NAME, a network on the Hugging Face Hub.
        out: Folder for the checkpoint.
        from_: Format of the file. Default: by its ending.
        prototxt: Caffe's description of the network. Default: the one inside the .caffemodel.
        mean: Caffe's mean: a .binaryproto file, or three numbers for blue, green and red, such as 104,117,123.
        side: Side of the images before the crop, where a state dict does not say it. Default: 256, or the crop; of a
            state dict of this package's layer names, that of its network.
        crop: Side of the network's input, where a state dict does not say it. Default: 224; of a state dict of this
            package's layer names, that of its network.
        arch: Network of a state dict of this package's layer names, where several have tensors of these shapes.
    """
    from alexnet.models import checkpoint

    written = [out / "log.jsonl", *(out / part / checkpoint.JSON_FILE for part in ("", "best", "last"))]
    require(not any(path.exists() for path in written), f"{out} already holds a checkpoint", "name another folder")
    require_writable(out, is_folder=True)
    names = class_names(classes)
    at_least_1(side=side, crop=crop)
    size = (side, crop) if side or crop else None
    saved = _read_weights(file, from_, prototxt, mean, size, names, arch)
    checkpoint.save(saved, out)
    for note in saved.notes:
        say(f"note: {note}")
    spec = saved.arch.input
    print(f"{out}: {saved.arch.name}, {saved.parameter_count:,} parameters, "
          f"{len(saved.classes):,} classes ({saved.classes[0]}, ...); {spec.channels} crops of {spec.crop}x{spec.crop} "
          f"from {spec.side}x{spec.side}")


def _read_weights(
    file: str, kind: str | None, prototxt: Path | None, mean: str | None, size: Size | None,
    names: Sequence[str] | None, arch: str | None,
) -> Checkpoint:
    from alexnet.models.formats.caffe import read_caffe
    from alexnet.models.formats.hub import read_hub
    from alexnet.models.formats.huggingface import read_huggingface
    from alexnet.models.formats.open_weights import is_state_dict, open_weights, read_state_dict
    from alexnet.models.formats.state_dict import rename_classes
    from alexnet.models.formats.tensorflow_npy import read_npy
    from alexnet.models.formats.torchvision import fetch_torchvision
    from alexnet.models.known_weights import official_name

    path = Path(file)
    require(path.suffix != ".npz", f"{path} is an archive of NumPy, which is not read as weights",
            "save its arrays as a state dict: torch.save({name: torch.from_numpy(array) for name, array in "
            f"numpy.load({str(path)!r}).items()}}, 'weights.pth')")
    require(arch is None or (not kind and is_state_dict(path)), f"--arch is for state dicts, and {path} is not one",
            "leave it out")
    if path.is_dir() or is_hub_address(file):
        kind_of_path = "an address" if is_hub_address(file) else "a folder"
        require(not (kind or prototxt or mean or size), f"{file} is {kind_of_path}, which states its preprocessing",
                "leave out --from, --prototxt, --mean, --side and --crop, or name a file")
        saved = read_hub(file) if is_hub_address(file) else read_huggingface(path)
        return rename_classes(saved, names) if names else saved
    if kind == "caffe" or (not kind and path.suffix in (".caffemodel", ".prototxt", ".binaryproto")):
        return read_caffe(path, prototxt=prototxt, mean=_mean(mean), classes=names)
    if not kind and path.suffix == ".npy":
        require(not (prototxt or size), f"{path} needs no --prototxt, --side or --crop", "leave them out")
        color = _mean(mean)
        if isinstance(color, Path):
            raise UserError(f"the mean of {path} must be three numbers", "write --mean 104,117,124, for example")
        return read_npy(path, names, color)
    require(not (prototxt or mean), "--prototxt and --mean are for Caffe's files",
            "leave them out: torchvision's mean is known")
    if not kind and path.suffix in (".onnx", ".pt2"):
        require(not size, f"the input of {path} is known", "leave out --side and --crop")
        return open_weights(path, names)
    if not path.exists() and (official := official_name(str(path))):
        path = fetch_torchvision(official)
    return read_state_dict(path, names, size, arch)


def _mean(text: str | None) -> Path | tuple[float, float, float] | None:
    """--mean as three numbers, or as a file."""
    try:
        blue, green, red = map(float, (text or "").split(","))
    except ValueError:
        return Path(text) if text else None
    return blue, green, red
