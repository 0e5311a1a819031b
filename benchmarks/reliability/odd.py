"""Row 8: broken data folders and unusual images. Two tables say what is given and what must be the outcome.

A folder is given to `alexnet pack`; a rejection must be one sentence with the given words and exit code 2. An image is
decoded, for its middle pixel, and given to `alexnet predict`, which must name a rejected image and continue with the
others.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import ledger
import numpy as np
from commands import SMALL, Commands
from ledger import Finding
from pictures import class_folders, encoded, oriented, vast
from PIL import Image

from alexnet.data import images

# --- Data folders -----------------------------------------------------------------------------------------------------


def put(root: Path, *names: str, data: bytes | None = None) -> None:
    """Files of those names: each a small picture, unless `data` says what."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(Image.new("RGB", (40, 40), (9 * number, 50, 90)), "PNG") if data is None else data)


def pictures(root: Path, *folders: str, count: int = 2) -> None:
    put(root, *(f"{folder}/{number}.png" for folder in folders for number in range(count)))


def remake(root: Path, change: Callable[[Path], object]) -> None:
    """A sound data folder with one thing changed."""
    pictures(root, "train/ash", "train/birch", "val/ash", "val/birch")
    change(root)


def archive(name: str = "a.png") -> bytes:
    """A zip archive with one file: an image, or another archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr(name, archive() if name.endswith(".zip") else encoded(Image.new("RGB", (40, 40)), "PNG"))
    return out.getvalue()


def cifar_of_pickles() -> bytes:
    """The archive for Python, as far as its first name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("cifar-10-batches-py/data_batch_1"))
    return out.getvalue()


#: What is wrong, how it is made, and what `alexnet pack` must say of it; "" for what is packed all the same.
FOLDERS: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    ("is not there", lambda root: None, "there is no "),
    ("is empty", lambda root: root.mkdir(), "holds no class folders with images"),
    ("is a text file", lambda root: root.write_text("ash, birch"), "is not an image, nor an archive of images"),
    ("is one image", lambda root: put(root.parent, root.name + ".png"), "is one image; name the data"),
    ("is a broken link", lambda root: root.symlink_to(root / "nowhere"), "which does not exist"),
    ("holds images and no classes", lambda root: put(root, "a.png", "b.png"), "and no class folders; put the"),
    ("holds one class", lambda root: pictures(root, "ash"), "a classifier needs two or more"),
    ("is one class among several", lambda root: pictures(root.parent, f"{root.name}", "oak"), "did you mean "),
    ("is a level too high", lambda root: pictures(root, "deep/ash", "deep/birch"), ""),
    ("holds classes of no images", lambda root: put(root, "ash/a.txt", "birch/b.txt", data=b"x"),
     "holds no image, but 1 file (.txt)"),
    ("has a val/ and no train/", lambda root: pictures(root, "ash", "birch", "val"), "holds val/ beside ash/, birch/"),
    ("validates on a class unknown", lambda root: remake(root, lambda r: pictures(r, "val/cedar")),
     "has class 'cedar' and "),
    ("validates on a class misspelt", lambda root: remake(root, lambda r: (r / "val/ash").rename(r / "val/ahs")),
     "did you mean ash?"),
    ("validates on no classes", lambda root: remake(root, lambda r: [shutil.rmtree(r / "val"), put(r, "val/a.png")]),
     "has no class folders with images"),
    ("holds nothing that decodes", lambda root: put(root, "ash/a.png", "ash/b.png", "birch/c.png", data=b"<html>"),
     "images of "),
    ("holds more that does not decode than does", lambda root: remake(
        root, lambda r: put(r, *(f"train/ash/x{n}.jpg" for n in range(9)), data=b"")), "cannot be decoded, such as "),
    ("is a run", lambda root: put(root, "log.jsonl", data=b"{}\n"), "is a run or a checkpoint, not images"),
    ("is a checkpoint", lambda root: put(root, "checkpoint.json", data=b"{}"), "is a run or a checkpoint"),
    ("holds half of ImageNet's archives", lambda root: put(root, "ILSVRC2012_img_train.tar", data=b""), "ILSVRC2012"),
    ("is a part of CIFAR-10 for Python", lambda root: put(root.parent, root.name + ".tar.gz", data=cifar_of_pickles()),
     "holds no image, but 1 file"),
    ("holds some that does not decode", lambda root: remake(root, lambda r: put(r, "train/ash/x.jpg", data=b"x")), ""),
    ("holds an empty class", lambda root: remake(root, lambda r: (r / "train/cedar").mkdir()), ""),
    ("holds a loop of links", lambda root: remake(root, lambda r: (r / "train/ash/loop").symlink_to(r / "train")), ""),
    ("holds a pipe", lambda root: remake(root, lambda r: os.mkfifo(r / "train/ash/pipe.jpg")), ""),
    ("holds a broken link", lambda root: remake(root, lambda r: (r / "train/ash/x.jpg").symlink_to(r / "no")), ""),
    ("holds names outside UTF-8", lambda root: remake(
        root, lambda r: (r / "train/ash/0.png").rename(r / "train/ash" / os.fsdecode(b"\xff.png"))), ""),
    ("holds groups of classes", lambda root: pictures(root, "trees/ash", "trees/birch", "animals/cat", "animals/dog"),
     "it is not clear whether the classes in "),
    ("holds a class twice, but for case", lambda root: remake(root, lambda r: pictures(r, "train/Ash")),
     "have the same name but for case"),
    ("holds an archive for each class", lambda root: put(root, "ash.zip", "birch.zip", data=archive()),
     "unpack each into a folder of its own"),
    ("holds an archive in a class", lambda root: remake(root, lambda r: put(r, "train/ash/x.zip", data=archive())), ""),
    ("is an archive in an archive", lambda root: put(root.parent, root.name + ".zip", data=archive("inner.zip")),
     "name that archive, or unpack it"),
    ("holds one image of a class", lambda root: (pictures(root, "ash", "birch"), put(root, "oak/a.png")), ""),
    ("holds spaces, line ends and other scripts in names", lambda root: remake(
        root, lambda r: put(r, "train/ash/a\nb.png", "train/ash/ c .png", "train/ash/\u6a39.png")), ""),
    ("holds an empty val/", lambda root: (pictures(root, "train/ash", "train/birch"), (root / "val").mkdir()), ""),
    ("has a table that names an image twice", lambda root: (put(root, "a.png", "b.png"), put(
        root, "labels.csv", data=b"file_name;label\r\na.png;ash\r\nb.png;birch\r\na.png;birch\r\n")),
     "names a.png twice: 'ash', and 'birch'"),
    ("has a table of Windows", lambda root: (put(root, "a.png", "b.png", "c.png", "d.png"), put(
        root, "labels.csv", data="sep=;\r\nfile_name;label\r\nC:\\x\\a.png;ash\r\nb.png;b\u00fcche\r\n"
        "C.PNG;ash\r\nd.png;b\u00fcche\r\ngone.png;ash\r\n".encode("utf-8-sig"))), ""),
    ("holds hidden files and checkpoints of notebooks", lambda root: remake(
        root, lambda r: put(r, "train/.ipynb_checkpoints/a.png", "train/ash/._0.png", data=b"x")), ""),
)


def folder_holds(alexnet: Commands, place: Path, make: Callable[[Path], object], words: str) -> str:
    """Nothing where `alexnet pack` does as the table says; else what it did."""
    root = place / "images"
    make(root)
    source = next((path for path in (root, *place.glob("images.*")) if path.exists()), root)
    before = sorted(place.rglob("*"))
    done = alexnet("pack", source, place.parent / "packed", "--side", 16)
    written = (place.parent / "packed" / "manifest.json").exists()
    shutil.rmtree(place.parent / "packed", ignore_errors=True)
    right = done.refuses(words, place) and not written if words else done.code == 0 and written
    return "" if right and sorted(place.rglob("*")) == before else f"{done}"


# --- Pictures ---------------------------------------------------------------------------------------------------------

RED, GREY = (254, 0, 0), (128, 128, 128)


def red(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, (255, 0, 0)).convert(mode)


def halves(mode: str = "RGB") -> Image.Image:
    """Red on the left, and blue on the right."""
    picture = Image.new("RGB", (40, 30), "blue")
    picture.paste((255, 0, 0), (0, 0, 20, 30))
    return picture.convert(mode)


def inverted_cmyk() -> bytes:
    """As Photoshop writes it: the inks the other way round, with a mark of Adobe's that says so."""
    return encoded(red("CMYK"), "JPEG", quality=95)


def claims(width: int, height: int) -> bytes:
    """A small PNG whose header promises that many pixels."""
    header = b"IHDR" + struct.pack(">2I", width, height) + b"\x08\x02\x00\x00\x00"
    whole = encoded(red(), "PNG")
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


def moving(kind: str) -> bytes:
    return encoded(red(), kind, save_all=True, append_images=[Image.new("RGB", (40, 30), "blue")])


def glass(alpha: int) -> Image.Image:
    picture = red("RGBA")
    picture.putalpha(alpha)
    return picture


def deep(value: int) -> Image.Image:
    return Image.fromarray(np.full((30, 40), value, np.uint16))


#: What is given, its name, its bytes, and its middle pixel in RGB, within 3; or why it is refused.
PICTURES: tuple[tuple[str, str, Callable[[], bytes], tuple[int, int, int] | str], ...] = (
    ("a PNG called JPEG", "a.jpg", lambda: encoded(red(), "PNG"), RED),
    ("a JPEG called PNG", "b.png", lambda: encoded(red(), "JPEG", quality=95), RED),
    ("a CMYK JPEG, inverted as Adobe's are", "c.jpg", inverted_cmyk, RED),
    ("16 bits of gray", "d.png", lambda: encoded(deep(128 * 257), "PNG"), GREY),
    ("32 bits of floating point", "e.tif", lambda: encoded(
        Image.fromarray(np.full((30, 40), 0.502, np.float32)), "TIFF"), GREY),
    ("pixels that are not numbers", "f.tif", lambda: encoded(
        Image.fromarray(np.full((30, 40), np.nan, np.float32)), "TIFF"), "pixels that are not numbers"),
    ("a single pixel", "g.png", lambda: encoded(red(size=(1, 1)), "PNG"), RED),
    ("a strip of 20,000 x 1", "h.png", lambda: encoded(red(size=(20_000, 1)), "PNG"), RED),
    ("no bytes", "i.jpg", lambda: b"", "it is empty"),
    ("a web page", "j.jpg", lambda: b"<!DOCTYPE html><html><body>404</body>", "it begins with '<!DOCTYPE html>"),
    ("zeros", "k.jpg", lambda: bytes(5_000), "it begins with"),
    ("400 megapixels by its header", "l.png", lambda: claims(20_000, 20_000), "pixels"),
    ("79 megapixels, transparent", "m.gif", lambda: vast("GIF"), (255, 255, 255)),
    ("a camera on its side", "n.jpg", lambda: encoded(halves(), "JPEG", exif=oriented(6), quality=95), (0, 0, 254)),
    ("an animated GIF", "o.gif", lambda: moving("GIF"), RED),
    ("an animated WebP", "p.webp", lambda: moving("WEBP"), RED),
    ("a palette with a transparent color", "q.png", lambda: encoded(red("P"), "PNG", transparency=b"\0" * 256),
     (255, 255, 255)),
    ("gray and alpha", "r.png", lambda: encoded(Image.new("LA", (40, 30), (0, 128)), "PNG"), (127, 127, 127)),
    ("glass over nothing", "s.webp", lambda: encoded(glass(0), "WEBP", lossless=True), (255, 255, 255)),
    ("one bit", "t.tif", lambda: encoded(Image.new("1", (40, 30), 1), "TIFF", compression="group4"), (255, 255, 255)),
    ("half a JPEG", "u.jpg", lambda: encoded(halves(), "JPEG")[:400], "Truncated File Read"),
    ("half a PNG", "v.png", lambda: encoded(halves().resize((400, 300)), "PNG")[:300], "truncated"),
    ("a drawing", "w.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it begins with '<svg"),
    ("PostScript", "x.jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it begins with '%!PS"),
    ("an image of a telephone", "y.heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0",
     "the HEIC file is truncated or damaged"),
)


def close(pixel: np.ndarray, wanted: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - wanted).max() <= 3)


def decoded(data: bytes, wanted: tuple[int, int, int] | str) -> str:
    """Nothing where the picture comes out as the table says; else what came."""
    try:
        pixels_HWC = images.decode(data, "picture")
    except images.BadImage as reason:
        return "" if isinstance(wanted, str) and wanted in str(reason) else f"{reason}"
    height, width, _ = pixels_HWC.shape
    middle = pixels_HWC[height // 2, width // 2] if height <= width else pixels_HWC[3 * height // 4, width // 2]
    return "" if not isinstance(wanted, str) and close(middle, wanted) else f"{pixels_HWC.shape} {middle}"


def measure(folders: int, pictures: int) -> Finding:
    """Check the first entries of both tables."""
    wrong = []
    with tempfile.TemporaryDirectory() as place, Commands() as alexnet:
        work = Path(place)
        assert alexnet("train", class_folders(work / "sound"), *SMALL, "--epochs", 1, "--out", work / "run").code == 0
        for number, (what, make, words) in enumerate(FOLDERS[:folders]):
            (work / f"{number}").mkdir()
            if did := folder_holds(alexnet, work / f"{number}", make, words):
                wrong.append(f"a folder that {what}: {did}")
        asked = work / "asked"
        asked.mkdir()
        for what, name, make_bytes, wanted in PICTURES[:pictures]:
            (asked / name).write_bytes(make_bytes())
            if did := decoded((asked / name).read_bytes(), wanted):
                wrong.append(f"{what}: {did}")
        done = alexnet("predict", work / "run", asked, "--csv", "--top", 1)
        refused = [asked / name for _, name, _, wanted in PICTURES[:pictures] if isinstance(wanted, str)]
        told = len(done.said) == len(refused) and all(any(f"{path} " in line for line in done.said) for path in refused)
        answered = len(done.out.splitlines()) - 1
        if not (done.code == 2 and told and answered == min(pictures, len(PICTURES)) - len(refused)
                and "Traceback" not in done.err):
            wrong.append(f"predict: {done}")
    for line in wrong:
        print(line, file=sys.stderr)
    folders, pictures = min(folders, len(FOLDERS)), min(pictures, len(PICTURES))
    return Finding(
        "8", f"{folders} broken data folders packed, {pictures} unusual images decoded and given to predict",
        "what the script's table says of each; exit code 2, one sentence with path and remedy, no traceback",
        f"{folders + pictures - len(wrong)} of {folders + pictures} as expected", not wrong)


if __name__ == "__main__":
    ledger.main(measure, folders=len(FOLDERS), pictures=len(PICTURES))
