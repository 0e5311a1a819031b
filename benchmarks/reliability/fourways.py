"""Row 14: the same images through evaluate, predict, ONNX Runtime and the server.

    python benchmarks/reliability/fourways.py --images 500

evaluate reads what was packed of the files; the other three read the files themselves, ONNX Runtime with nothing of
ours but the decoder and the square. Imagenette's validation images, evenly spaced; a network as it begins, with
weights that make its logits as large as a trained one's.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
import tempfile
from pathlib import Path

import ledger
import numpy as np
import onnxruntime
import torch
from attack import FORM, form
from ledger import Finding
from numpy.typing import NDArray
from served import Served, ask, post, untrained

from alexnet.data import images
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.inference.evaluate import predictions
from alexnet.inference.predictor import load
from alexnet.models.formats.onnx import export
from alexnet.models.formats.open_weights import open_weights

IMAGES = ledger.ROOT.parent / "shared" / "data" / "imagenette.tar"
"""Not part of the repository."""

TOLERANCE = 1e-4
IN_A_FORM = 10
WIDE = ("initialization=kaiming", "output_init_std=0.003")


def take(count: int, folder: Path) -> None:
    """Validation images into val/, and one of each class into train/, without which there is no data set."""
    with tarfile.open(IMAGES) as tar:
        files = sorted((member for member in tar.getmembers() if member.isfile()), key=lambda member: member.name)
        val = [member for member in files if "/val/" in f"/{member.name}"]
        one_of_each = {Path(member.name).parent: member for member in files if "/train/" in f"/{member.name}"}
        for member in [*one_of_each.values(), *(val[place * len(val) // count] for place in range(count))]:
            path = folder.joinpath(*Path(member.name).parts[-3:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]


async def served(port: int, paths: list[Path]) -> tuple[NDArray[np.float64], list[str]]:
    """Logits NK and the likeliest class of each."""
    logits, best = [], []
    for at in range(0, len(paths), IN_A_FORM):
        body = form([(f'name="p"; filename="{path.name}"', path.read_bytes()) for path in paths[at : at + IN_A_FORM]])
        got = await ask(port, post(body, "/predict?logits=true&top=1", FORM))
        assert got.status == 200, got
        for result in json.loads(got.body)["images"]:
            logits.append(result["logits"])
            best.append(result["classes"][0]["name"])
    return np.array(logits), best


def measure(samples: int, preset: str = "paper", settings: tuple[str, ...] = ()) -> Finding:
    """Ask that many of a network of that preset."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = untrained(folder / "run", preset, (*WIDE, *settings))
        saved, model = open_weights(run), load(run)
        take(samples, folder / "images")
        packed = pack(open_dataset(folder / "images"), folder / "packed", side=saved.arch.input.side, workers=1)
        split = packed.split("val")
        paths = [folder / "images" / "val" / name.removeprefix("val/") for name in split.names]

        members = [(model.network, model.preprocess)]
        probabilities_NK = torch.cat([some for some, _ in predictions(members, split)]).numpy()
        with torch.inference_mode():
            logits_NK = torch.cat([model.network(model.preprocess(torch.from_numpy(split.read(places))))
                                   for places in np.array_split(np.arange(len(split)), -(-len(split) // 64))]).numpy()

        guesses = model.predict(paths, top=len(model.classes))
        predicted_NK = np.array([[{guess.name: guess.probability for guess in row}[name] for name in model.classes]
                                 for row in guesses])

        export(saved, folder / "net.onnx", "onnx", from_pixels=True)
        session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
        onnx_NK = np.concatenate([session.run(None, {"pixels": images.square(images.read(path), packed.side)[None]})[0]
                                  for path in paths])

        with Served(run) as server:
            served_NK, named = asyncio.run(served(server.port, paths))

    best_N = logits_NK.argmax(1)
    unequal = sum(int((other_N != best_N).sum()) for other_N in (
        probabilities_NK.argmax(1), predicted_NK.argmax(1), onnx_NK.argmax(1), served_NK.argmax(1),
        np.array([model.classes.index(name) for name in named])))
    differences = {
        "predict (probabilities)": np.abs(predicted_NK - probabilities_NK).max(),
        "ONNX (logits)": np.abs(onnx_NK - logits_NK).max(), "server (logits)": np.abs(served_NK - logits_NK).max()}
    told = ", ".join(f"{way} {difference:.1e}" for way, difference in differences.items())
    return Finding(
        "14", f"{len(paths)} images through evaluate, predict, ONNX and the server; {preset}",
        f"logits, or probabilities, within {TOLERANCE:g} of evaluate's; the same top-1",
        f"at most: {told}; {unequal} of {5 * len(paths):,} top-1 differ, of {len(set(best_N))} classes; logits up to "
        f"{np.abs(logits_NK).max():.1f}",
        len(paths) == samples and unequal == 0 and bool(max(differences.values()) <= TOLERANCE))


if __name__ == "__main__":
    ledger.main(measure, samples=500)
