"""Row 16: coverage-guided fuzzing with atheris of a reader (decoder, shards, caffe) or of the server (request).

    python benchmarks/reliability/fuzz.py decoder --seconds 300

Whatever the bytes, a reader must return, or raise the one exception that its docstring names, with a message that names
the file. The seeds are generated; the input of a finding is kept as a file. A new reader is a line in TARGETS: what to
do with the bytes, and valid files as seeds.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import ledger
import numpy as np
from ledger import Finding
from pictures import FORMATS, damaged, seeds

from alexnet.data import images, shards
from alexnet.data import manifest as manifest_module
from alexnet.data import packed as packed_module
from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.packing import pack
from alexnet.data.square import square
from alexnet.models.formats import caffe, caffe_proto

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

SIDE = 12
"""Of the packed images that the reader of shards is shown."""


def names_it(what: str, error: Exception) -> None:
    """Raises AssertionError where a refusal does not name what was refused."""
    if what not in str(error):
        raise AssertionError(f"{error!r} does not name {what}") from error


# --- The targets: what is done with the bytes -------------------------------------------------------------------------


def decoder(data: bytes) -> None:
    """`images.decode` gives RGB pixels or raises BadImage."""
    try:
        pixels_HWC = images.decode(data, "fuzz")
    except images.BadImage as error:
        return names_it("fuzz cannot be decoded: ", error)
    assert pixels_HWC.dtype == np.uint8
    assert pixels_HWC.ndim == pixels_HWC.shape[2] == 3
    assert square(pixels_HWC, 8).shape == (8, 8, 3)
    return None


def packed_folder(data: bytes) -> None:
    """A packed folder with one file replaced is read whole, or refused with a ValueError.

    The first byte says which file, and whether the manifest vouches for it, as a hostile one would.
    """
    if not data:
        return
    with tempfile.TemporaryDirectory(dir=_memory()) as place:
        folder = Path(place) / "data"
        shutil.copytree(_packed()[data[0] & 1], folder)
        names = sorted(path.name for path in folder.iterdir())
        name = names[(data[0] >> 2) % len(names)]
        (folder / name).write_bytes(data[1:])
        if data[0] & 2:
            _vouch_for(folder, name)
        try:
            read_all(packed_module.open_packed(folder))
        except ValueError as error:
            names_it(str(folder), error)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _vouch_for(folder: Path, name: str) -> None:
    """Give the file the checksum that the manifest has of it; to a manifest, its own."""
    path = folder / manifest_module.MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        if name != manifest_module.MANIFEST:
            manifest["files"][name] = asdict(shards.describe_file(folder / name))
        manifest.pop("checksum", None)
        manifest_module.write_json(path, manifest)
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass  # then it stays as it is


def read_all(packed: packed_module.PackedDataset) -> None:
    """Read everything that a packed folder has."""
    assert packed.mean_HWC.shape == (packed.side, packed.side, 3)
    for what in ("classes", "wnids", "source", "credits", "notes", "splits", "counts",
                 "quarantined", "rgb_mean", "rgb_covariance", "fingerprint"):
        getattr(packed, what)
    for name in packed.manifest.splits:
        split = packed.split(name)
        assert len(split.labels) == len(split.names) == len(split)
        if len(split) and packed.side <= 64:
            split.read(np.arange(min(len(split), 8)))
            if packed.codec == "raw":
                split.mapped(np.arange(min(len(split), 8))).tensor()
    packed.verify()


def caffe_files(data: bytes) -> None:
    """A .caffemodel, a .prototxt or a mean is read, or refused with a ValueError. The first byte says which it is."""
    if not data:
        return
    with tempfile.TemporaryDirectory(dir=_memory()) as place:
        path = Path(place) / "file"
        path.write_bytes(data[1:])
        read: Callable[[], object] = {
            0: lambda: caffe.read_caffe(path), 1: lambda: caffe_proto.read_prototxt(path),
            2: lambda: caffe_proto.read_binaryproto(path),
            3: lambda: caffe.read_caffe(_caffemodel(), prototxt=path)}[data[0] % 4]
        try:
            read()
        except ValueError as error:
            names_it(str(_caffemodel()) if str(_caffemodel()) in str(error) else place, error)


def request(data: bytes) -> None:
    """What comes on a connection of the server is answered with a status that its interface promises, or not at all."""
    import wire  # torch and the server, which the others need not load

    wire.checked_statuses(data)


# --- Their seeds ------------------------------------------------------------------------------------------------------


_made: dict[str, list[Path]] = {}


def _packed() -> list[Path]:
    """Two small packed folders, raw and jpeg."""
    if "packed" not in _made:
        root, rng = Path(tempfile.mkdtemp(prefix="fuzz")), np.random.default_rng(0)
        photos = {split: [ArrayImage(f"{split}/{n}.png", n % 2, rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
                          for n in range(count)] for split, count in (("train", 5), ("val", 2))}
        dataset = Dataset("fuzz", ("ash", "birch"), photos, "made up")
        _made["packed"] = [pack(dataset, root / codec, side=SIDE, codec=codec, shard_images=4, workers=1).path
                           for codec in manifest_module.CODECS]
    return _made["packed"]


def _caffemodel() -> Path:
    if "caffe" not in _made:
        path = Path(tempfile.mkdtemp(prefix="fuzz")) / "net.caffemodel"
        path.write_bytes(_caffe_seeds()[0][1:])
        _made["caffe"] = [path]
    return _made["caffe"][0]


def _shard_seeds() -> list[bytes]:
    return [bytes([place << 2 | vouched << 1 | codec]) + path.read_bytes()
            for codec, folder in enumerate(_packed()) for place, path in enumerate(sorted(folder.iterdir()))
            for vouched in (0, 1)]


def _caffe_seeds() -> list[bytes]:
    from caffefiles import MEAN_VALUES, alexnet, blob, net_bytes, net_text

    layers = [*MEAN_VALUES, *alexnet(widths=(2, 2, 2, 2, 2), hidden=2, classes=2)]
    models = [b"\0" + net_bytes(layers, form) for form in ("current", "v1", "double")]
    texts = [head + net_text(layers, form).encode() for head in (b"\1", b"\3") for form in ("current", "v1")]
    means = [b"\2" + blob(np.ones((3, 4, 4), np.float32), form) for form in ("legacy", "current", "double")]
    return models + texts + means


def _request_seeds() -> list[bytes]:
    import wire

    return wire.seeds()


@dataclass(frozen=True)
class Target:
    what: str
    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    """Valid inputs."""


TARGETS = {
    "decoder": Target("image decoder", decoder,
                      lambda: [file for kind in FORMATS for file in seeds(kind) if len(file) < 20_000]),
    "shards": Target("reader of shards", packed_folder, _shard_seeds),
    "caffe": Target("Caffe import", caffe_files, _caffe_seeds),
    "request": Target("parsing of requests", request, _request_seeds),
}


# --- Running ----------------------------------------------------------------------------------------------------------

#: In a process of its own, since libFuzzer ends it; what is imported within is what it is guided by.
_CHILD = """
import sys, atheris
sys.path[:0] = {paths!r}
with atheris.instrument_imports(include=["alexnet", "PIL", "h11"]):
    import fuzz{also}
fuzz.run({target!r}, {options!r})
"""


def run(name: str, options: list[str]) -> None:
    """Fuzz a target with libFuzzer, which ends the process."""
    import atheris

    target, everything = TARGETS[name], tuple(TARGETS[name].seeds())

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        """Half of the time what `damaged` does, which knows of lengths and checksums."""
        rng = random.Random(seed)
        made = damaged(data, rng, everything) if data and rng.random() < 0.5 else atheris.Mutate(data, largest)
        return made[:largest]

    with tempfile.TemporaryDirectory(prefix="corpus") as corpus:
        for number, seed in enumerate(everything):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], target.read, custom_mutator=mutate)
        atheris.Fuzz()


def measure(target: str, seconds: float) -> Finding:
    """Fuzz a target for a time, or until a finding: its input is kept as a file, its traceback printed.

    A warning is a finding too.
    """
    began = time.monotonic()
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # which a child has for its own from the start
    options = [f"-max_total_time={seconds:g}", "-max_len=65536", "-timeout=60", f"-rss_limit_mb={3000 + ours}",
               f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{target}-"]
    child = _CHILD.format(paths=[p for p in sys.path if p], target=target, options=options,
                          also=", wire" if target == "request" else "")
    done = subprocess.run([sys.executable, "-W", "error", "-c", child], capture_output=True, text=True,
                          errors="replace")
    ran = [int(count) for count in re.findall(r"^(?:Done |#)(\d+)", done.stderr, re.MULTILINE)]
    sound = done.returncode == 0 and bool(ran)
    if not sound:
        print(done.stdout[-4_000:], done.stderr[-1_000:], file=sys.stderr)
    return Finding(
        f"16{'abcdef'[list(TARGETS).index(target)]}",
        f"coverage-guided fuzzing by atheris of the {TARGETS[target].what}",
        "nothing but an answer or the documented exception",
        f"{max(ran, default=0):,} executions in {time.monotonic() - began:.0f} s, {0 if sound else 1} findings", sound)


if __name__ == "__main__":
    ledger.main(measure, {"target": TARGETS}, seconds=300.0)
