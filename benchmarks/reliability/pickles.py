"""Row 6: hostile pickles, given in many formats wherever weights or arrays are read, are rejected and never executed.

Each pickle would write a marker file. A careless reader, in a process of its own, first shows that it does.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import ledger
import numpy as np
import torch
from commands import SMALL, Commands, Outcome
from ledger import Finding
from pictures import class_folders

from alexnet.data import manifest as manifest_module
from alexnet.data import shards


class Calls:
    """Unpickled by Python's own unpickler, it calls."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


# --- Pickles ----------------------------------------------------------------------------------------------------------


def by_hand(marker: Path, opcodes: str) -> bytes:
    """A pickle written out: CODE stands for Python that leaves the marker, SHELL for a command that does."""
    return opcodes.replace("CODE", f"open({str(marker)!r}, 'w').close()").replace("SHELL", f"touch {marker}").encode()


def payloads(marker: Path) -> dict[str, object]:
    """By how each of them is set off: an object to pickle, or a pickle's bytes."""
    shell, code = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, shell), "eval": Calls(eval, code), "exec": Calls(exec, code),
        "subprocess": Calls(subprocess.run, ["touch", str(marker)]), "open": Calls(open, str(marker), "w"),
        "compile": Calls(exec, Calls(compile, code, "x", "exec")), "deep": [[{"a": (Calls(exec, code), 1)}]],
        "beside weights": {"classifier.6.weight": torch.zeros(7, 16), "x": Calls(exec, code)},
        "in a state dict": {"state_dict": {"classifier.6.weight": Calls(eval, code)}},
        "as a key": {(Calls(exec, code), 1): torch.zeros(1)}, "torch.load": Calls(torch.hub.os.system, shell),
        "GLOBAL": by_hand(marker, "cbuiltins\nexec\n(VCODE\ntR."),
        "INST": by_hand(marker, "(VSHELL\nios\nsystem\n."),
        "OBJ": by_hand(marker, "(cos\nsystem\nVSHELL\no."),
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + by_hand(marker, "(VSHELL\ntR."),
        "nested global": b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93" + by_hand(marker, "(VSHELL\ntR."),
        "behind weights": pickle.dumps({"a": 1}, 2)[:-1] + by_hand(marker, "0cbuiltins\nexec\n(VCODE\ntR."),
        "BUILD": by_hand(marker, "cbuiltins\nexec\n(VCODE\ntR}b."),
        "memo": by_hand(marker, "cbuiltins\nexec\np0\n0g0\n(VCODE\ntR."),
        "protocol 5": pickle.dumps(Calls(exec, code), 5),
    }


def is_armed(content: object, marker: Path) -> bool:
    """Whether a careless reader would run it: Python's own unpickler, in a process that is none of ours."""
    data = content if isinstance(content, bytes) else pickle.dumps(content)
    paths = [str(Path(__file__).parent), *sys.path]
    subprocess.run([sys.executable, "-c", f"import sys, pickle; sys.path[:0] = {paths!r}\n"
                    "pickle.loads(sys.stdin.buffer.read())"], input=data, capture_output=True)
    there = marker.exists()
    marker.unlink(missing_ok=True)
    return there


# --- What hides them --------------------------------------------------------------------------------------------------


def zipped(content: object) -> bytes:
    """As torch.save writes today; a pickle's bytes take the place of its data.pkl."""
    file = io.BytesIO()
    torch.save({} if isinstance(content, bytes) else content, file)
    if not isinstance(content, bytes):
        return file.getvalue()
    out = io.BytesIO()
    with zipfile.ZipFile(file) as good, zipfile.ZipFile(out, "w") as bad:
        for entry in good.infolist():
            bad.writestr(entry.filename, content if entry.filename.endswith("data.pkl") else good.read(entry))
    return out.getvalue()


def legacy(content: object) -> bytes:
    """As torch.save wrote until 1.6: four pickles in a row, of which the last is ours."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, facts))
    return head + bare(content) + pickle.dumps([], 2)


def bare(content: object) -> bytes:
    """The pickle, and nothing else."""
    return content if isinstance(content, bytes) else pickle.dumps(content, 2)


def array(content: object) -> bytes:
    """A .npy of objects: its header, and a pickle."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return file.getvalue() + bare(content)


@dataclass(frozen=True)
class Ground:
    """What is there to be asked with: a good run, a good packed folder, a folder to work in."""

    alexnet: Commands
    work: Path
    run: Path
    data: Path

    def weights(self, name: str, data: bytes, number: int) -> Iterator[Outcome]:
        """A file given where one of weights is taken."""
        path = self.work / name
        path.write_bytes(data)
        photo = next((self.work / "images").glob("val/*/*.png"))
        others = [["evaluate", path, self.data], ["export", path, self.work / "out.onnx"],
                  ["train", self.data, "--init", path, "--out", self.work / "out"]]
        for arguments in (["import", path, self.work / "out"], ["predict", path, photo], others[number % 3]):
            yield self.alexnet(*arguments)

    def folder(self, data: bytes) -> Iterator[Outcome]:
        """A folder in the hub's layout with it for weights, with a config that vouches for it."""
        place = self.work / "hub"
        assert self.alexnet("export", self.run, place).code == 0
        (place / "model.safetensors").write_bytes(data)
        config = json.loads((place / "config.json").read_text())
        config["sha256"]["model.safetensors"] = shards.describe_file(place / "model.safetensors").sha256
        (place / "config.json").write_text(json.dumps(config))
        for arguments in (["import", place, self.work / "out"], ["evaluate", place, self.data]):
            yield self.alexnet(*arguments)
        shutil.rmtree(place)

    def packed(self, name: str, data: bytes) -> Iterator[Outcome]:
        """A packed folder with it for one of the arrays, with a manifest that vouches for it."""
        place = self.work / "packed"
        shutil.copytree(self.data, place)
        (place / name).write_bytes(data)
        manifest = manifest_module.read_json(place / manifest_module.MANIFEST)
        manifest["files"][name] = asdict(shards.describe_file(place / name))
        manifest_module.write_json(place / manifest_module.MANIFEST, manifest)
        if name != manifest_module.MEAN:  # a trained network has a mean of its own
            yield self.alexnet("evaluate", self.run, place, "--split", "train")
        yield self.alexnet("train", place, *SMALL, "--epochs", 1, "--out", self.work / "out")
        shutil.rmtree(place)


def disguised(ground: Ground, content: object, number: int) -> Iterator[Outcome]:
    """The pickle in each of its disguises in turn, given to the commands: a few for each, all of them over 20."""
    disguises: list[Callable[[], Iterator[Outcome]]] = [
        *(partial(ground.weights, f"net.{ending}", hide(content), number) for ending, hide in (
            ("pth", zipped), ("pt", legacy), ("bin", bare), ("safetensors", bare), ("safetensors", zipped),
            ("caffemodel", bare), ("tar", zipped), ("npy", array), ("ckpt", zipped), ("pt2", zipped), ("onnx", bare))),
        *(partial(ground.folder, hide(content)) for hide in (bare, zipped)),
        *(partial(ground.packed, name, array(content)) for name in (
            "train-00000.labels.npy", manifest_module.MEAN, "train-00000.npy")),
    ]
    for place in range(3):
        yield from disguises[(3 * number + place) % len(disguises)]()


def measure(pickles: int) -> Finding:
    """Give that many pickles to the commands, each in three formats, and check whether one was executed."""
    with tempfile.TemporaryDirectory() as place, Commands() as alexnet:
        work = Path(place)
        images, marker = class_folders(work / "images"), work / "ran"
        assert alexnet("pack", images, work / "data", "--side", 32).code == 0
        assert alexnet("train", work / "data", *SMALL, "--epochs", 1, "--out", work / "run").code == 0
        ground, armed, ran, outcomes = Ground(alexnet, work, work / "run", work / "data"), 0, 0, []
        for number, (name, content) in enumerate([*payloads(marker).items()][:pickles]):
            if is_armed(content, marker):
                armed += 1
            else:
                print(f"{name} is a dud", file=sys.stderr)
            for outcome in disguised(ground, content, number):
                outcomes.append(outcome)
                ran += marker.exists()
                marker.unlink(missing_ok=True)
                if not outcome.refuses(work):
                    print(f"{name}: {outcome}", file=sys.stderr)
        # A run may have begun, and then holds no checkpoint yet.
        left = [*work.glob("out/**/*.safetensors"), *work.glob("out.onnx")]
    refused = sum(outcome.refuses(work) for outcome in outcomes)
    return Finding(
        "6", f"{pickles} hostile pickles as .pth, .pt, .bin, .tar, .ckpt, .npy, .pt2, .onnx, .safetensors, "
        ".caffemodel, hub folders and arrays of packed folders, given to import, evaluate, predict, export and train",
        "0 executed, each refused in a sentence",
        f"{ran} executed of {armed} effective ones; {refused} of {len(outcomes)} commands refused them in a sentence",
        ran == 0 and armed == pickles and refused == len(outcomes) and not left)


if __name__ == "__main__":
    ledger.main(measure, pickles=20)
