"""The `export` command: ONNX (float or int8), OpenVINO, torch.export, torchvision, a web page, or Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from alexnet._runtime.hub_address import is_hub_address
from alexnet._runtime.local_files import require_writable
from alexnet._runtime.notes import say
from alexnet.cli.app import HTML_FILE, WEIGHTS, Groups, Overwrite, app, check_output, require_new
from alexnet.cli.default_checkpoint import split_checkpoint
from alexnet.errors import UserError, plural, require

if TYPE_CHECKING:
    from alexnet.models.checkpoint import Checkpoint

FORMAT_OF = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch-export", ".pth": "torchvision", ".html": "web",
             "": "safetensors"}
"""The format of `export` by the ending of its output."""


@app.command(group=WEIGHTS, sort_key=1)
def export(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] OUT")],
    to: Literal["onnx", "openvino", "torch-export", "torchvision", "safetensors", "web"] | None = None,
    from_pixels: bool = False, int8: bool = False, data: str | None = None, group: Groups = None,
    runtime: Path | None = None,
    private: bool = False, no_training_hashes: bool = False, overwrite: Overwrite = False,
) -> None:
    """Write a network in a format that other software loads. Files that compute are run and compared with the network.

    Args:
        paths: A checkpoint or a run folder, then the file to write; for safetensors and web, a folder; or
            hf://USER/NAME, to upload what safetensors writes to the Hugging Face Hub. Without a checkpoint: the
            pretrained network of the package.
        to: onnx: an ONNX model. openvino: an .xml file, and a .bin file beside it. torch-export: a program for
            torch.export.load. torchvision: a state dict for torchvision's alexnet. safetensors: a folder in the layout
            of the Hugging Face hub with config, weights and model card. web: a folder of static files, or one .html
            file, that classifies images in a browser and shows every layer. Default: by the ending of OUT: .onnx, .xml,
            .pt2, .pth, .html, or none for safetensors.
        from_pixels: For onnx, openvino and torch-export: include the preprocessing, so that the input is stored uint8
            images.
        int8: For onnx: compute in 8 bits, and print how often the answer is the same. Needs --data.
        data: For --int8: images to calibrate and to measure on. A folder or archive, or a packed folder.
        runtime: For web: the tarball of onnxruntime-web from npm. Default: it is downloaded once (33 MB).
        private: For hf://USER/NAME: only you can see a repository that the upload creates. Default: the setting of your
            account, which is public if you have not changed it.
        no_training_hashes: Leave out the hashes of the training and validation images. With them, anyone who has a
            photo can find out whether it was among them; without them, `evaluate` cannot leave these images out.
    """
    name, out = split_checkpoint("export", paths, "OUT")
    path = Path(out[0])
    if is_hub_address(out[0]):
        require(to in (None, "safetensors") and not (from_pixels or int8 or data or group or runtime or overwrite),
                f"the upload to {out[0]} has a format of its own",
                "leave out all options but --private and --no-training-hashes")
        print(_export_to_hub(name, out[0], private, no_training_hashes))
        return
    require(not private, "--private is for an upload to hf://USER/NAME", "leave it out")
    kind = _format(path, to)
    _check_int8(path, kind, int8, data, group)
    require(runtime is None or kind == "web", "--runtime is for --to web", "leave it out")
    require(not from_pixels or kind != "web", "--from-pixels has no effect with --to web, whose page "
            "preprocesses images itself", "leave it out")
    require(not no_training_hashes or not (int8 or kind in ("openvino", "web")),
            f"{'an int8 file' if int8 else f'the format {kind}'} never has hashes of training images",
            "leave out --no-training-hashes")
    require_new(_written(path, kind), overwrite)
    require_writable(path, is_folder=False)  # of a folder, too: the formats say what may be in one that exists
    if kind == "web":
        print(_export_web(name, path, runtime))
        return
    from alexnet.models.formats.open_weights import open_weights

    saved = open_weights(name)
    if data is not None:
        print(_export_int8(saved, path, data, group, from_pixels))
        return
    from alexnet.models.formats.export import export as write

    if no_training_hashes:
        saved = _without_hashes(saved, path.name)
    print(write(saved, path, kind, from_pixels=from_pixels).describe())


def _check_int8(path: Path, kind: str, int8: bool, data: str | None, group: str | None) -> None:
    """Raise UserError where --int8, --data and --group do not fit together, or --int8 not the format."""
    require(not int8 or kind == "onnx", f"--int8 works with ONNX files only, and {path} has the format {kind}",
            "name FILE.onnx")
    require(int8 == (data is not None), "--int8 needs images to calibrate on" if int8 else
            "--data has no effect without --int8", "add --data DATA" if int8 else "leave it out, or add --int8")
    require(int8 or group is None, "--group has no effect without --int8", "leave it out, or add --int8")


def _written(path: Path, kind: str) -> list[Path]:
    """The files that `export` writes, or the folder, if it holds an export; with other files it is refused later."""
    if kind == "safetensors" or (kind == "web" and path.suffix not in HTML_FILE):
        return [path] if any((path / name).exists() for name in ("model.safetensors", "index.html")) else []
    if path.is_dir():
        return []
    return [path, path.with_suffix(".bin")] if kind == "openvino" else [path]


def _format(path: Path, to: str | None) -> str:
    """The format that --to names, else that of the ending."""
    if to is None and path.suffix not in FORMAT_OF:
        raise UserError(f"{path} has no ending that names the format (.onnx, .xml, .pt2, .pth, .html, or none for a "
                        "folder with safetensors)",
                        "use one of these endings, or add --to onnx, torch-export, torchvision, safetensors or web")
    return to or FORMAT_OF[path.suffix]


def _without_hashes(saved: Checkpoint, name: str) -> Checkpoint:
    """The checkpoint to write to `name` without the hashes of its images. Says what is lost with them."""
    count = len(saved.seen.trained)
    say(f"note: {name} is written without hashes of its {plural(count, 'training image')}, so alexnet evaluate cannot "
        "exclude them, or copies of them, from a test")
    return replace(saved, seen=saved.seen.without_hashes(name))


def _export_to_hub(name: str, address: str, private: bool, no_training_hashes: bool) -> str:
    """Upload to the Hugging Face Hub, and say which commit it is."""
    from alexnet.models.formats.hub import check_upload_target, upload_to_hub
    from alexnet.models.formats.open_weights import open_weights

    target, saved = check_upload_target(address, private), open_weights(name)
    return upload_to_hub(_without_hashes(saved, address) if no_training_hashes else saved, target).describe()


def _export_int8(saved: Checkpoint, path: Path, data: str, group: str | None, from_pixels: bool) -> str:
    """Write an int8 ONNX file, and say what changes."""
    import numpy as np

    from alexnet._runtime.atomic_files import require_text_name
    from alexnet._runtime.progress import Bar
    from alexnet.api.evaluation import open_evaluation_set
    from alexnet.inference.calibration import halve
    from alexnet.inference.onnx_int8 import export_int8
    from alexnet.inference.predictor import model_from_checkpoint

    require_text_name(path)
    check_output(path, overwrite=True)
    images = open_evaluation_set([model_from_checkpoint(saved)], data, group=group)
    measured = images.images
    if "train" in images.packed.splits:
        calibration, kind = images.packed.split("train"), "training images"
    else:  # one half calibrates, the other is measured; groups and look-alikes are on one side
        kind, is_calibrating = "images of one half of the data, which have no training split", halve(measured).fit_N
        calibration, measured = (measured.subset(np.flatnonzero(half)) for half in (is_calibrating, ~is_calibrating))
    with Bar("comparing the answers", "images") as bar:
        found = export_int8(saved, path, calibration, measured, images.label_map, from_pixels=from_pixels,
                            on_progress=bar)
    apart = found.apart.describe()
    return (f"{path}: int8, {found.bytes / 1e6:.1f} MB, and {found.float_bytes / 1e6:.1f} MB in float32; calibrated on "
            f"{found.calibrated_on:,} {kind}. On {found.images:,} other images the top-1 class is the same for "
            f"{found.agreement:.1%}; top-1 error {found.top1_error:.1%}, and {found.float_top1_error:.1%} in float32."
            + (f" {apart[0].upper()}{apart[1:]}." if apart else ""))


def _page_title(name: str) -> str:
    """The name of a run or of a file for the title of its page; "" for weights that are named and not a path."""
    from alexnet.models.packaged import shown_name

    path = Path(name).absolute()
    if not path.exists() or shown_name(name) != name:
        return ""
    return path.parent.name if path.is_dir() and path.name in ("best", "last") else path.stem


def _export_web(name: str, path: Path, runtime: Path | None) -> str:
    """Write the page, and say what it is and how to open it."""
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.models.provenance import license_note
    from alexnet.serving.browser import runtime as engine
    from alexnet.serving.browser.network_file import make_network_file
    from alexnet.serving.browser.page import check_target, write_browser_page

    check_target(path)
    saved = open_weights(name)  # before the download, which a mistyped name must not cost
    if runtime is None and not engine.cached_tarball().is_file():
        say(f"downloading onnxruntime-web {engine.VERSION} (MIT License, {engine.MEGABYTES:.0f} MB), which runs the "
            f"network in the browser, from npm's registry into the cache: {engine.URL}")
    files = engine.read_runtime(runtime or engine.fetch_tarball())
    page = write_browser_page(path, saved, make_network_file(saved), files, _page_title(name))
    megabytes = sum(page.files.values()) / 1e6
    where = ("open it in a browser, from the disk too" if page.is_one_file else
             f"put the folder on any web server, or: python -m http.server --directory {path}")
    note = license_note(saved.provenance)
    return (f"{path}: a page of {megabytes:.1f} MB that classifies images in the browser and shows every layer; "
            f"{where}. Weights in {page.network.precision}: its probabilities differ from the network's by "
            f"{page.network.difference:.1e} at most on {page.network.images} test images, by onnxruntime on this "
            "CPU, not in a browser. The page makes no request to another host."
            + (f" License note of the weights, which it also carries: {note}." if note else ""))
