"""Row 14: the same images through evaluate, predict, ONNX Runtime and the server.

    python benchmarks/reliability/fourways.py --images 500

`evaluate` reads packed images; the other three read the image files. ONNX Runtime uses only the decoder and the square
crop of this package. The images are evenly spaced validation images of Imagenette. The network is untrained, with
weights that make its logits as large as those of a trained one.
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
from served import ServerProcess, post, send, untrained_run

from alexnet.data.images import read
from alexnet.data.packed import PackedSplit
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.data.square import square
from alexnet.inference.evaluate import predictions
from alexnet.inference.predictor import Model, load
from alexnet.models.formats.export import export
from alexnet.models.formats.open_weights import open_weights

IMAGENETTE = ledger.ROOT.parent / "shared" / "data" / "imagenette.tar"
"""Not part of the repository."""

TOLERANCE = 1e-4
IMAGES_PER_REQUEST = 10
LARGE_LOGITS = ("initialization=kaiming", "output_init_std=0.003")


def extract(count: int, folder: Path) -> None:
    """Extract validation images into val/, and one image of each class into train/, which a data set must have."""
    with tarfile.open(IMAGENETTE) as tar:
        files = sorted((member for member in tar.getmembers() if member.isfile()), key=lambda member: member.name)
        val = [member for member in files if "/val/" in f"/{member.name}"]
        one_per_class = {Path(member.name).parent: member for member in files if "/train/" in f"/{member.name}"}
        for member in [*one_per_class.values(), *(val[index * len(val) // count] for index in range(count))]:
            path = folder.joinpath(*Path(member.name).parts[-3:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]


def evaluated(model: Model, split: PackedSplit) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities and logits [N, K], as `alexnet evaluate` computes them."""
    outputs = predictions([(model.network, model.preprocess)], split)
    probabilities_NK = torch.cat([outputs_NK for outputs_NK, _ in outputs]).numpy()
    with torch.inference_mode():
        logits_NK = torch.cat([
            model.network(model.preprocess(torch.from_numpy(split.read(indices))))
            for indices in np.array_split(np.arange(len(split)), -(-len(split) // 64))]).numpy()
    return probabilities_NK, logits_NK


def predicted(model: Model, paths: list[Path]) -> NDArray[np.float64]:
    """Probabilities [N, K], as `Model.predict` returns them."""
    ranked = model.predict(paths, top=len(model.classes))
    return np.array([[{found.name: found.probability for found in row}[name] for name in model.classes]
                     for row in ranked])


async def served(port: int, paths: list[Path]) -> tuple[NDArray[np.float64], list[str]]:
    """Logits [N, K] and the most probable class of each image, from the server."""
    logits, classes = [], []
    for begin in range(0, len(paths), IMAGES_PER_REQUEST):
        body = form([(f'name="image"; filename="{path.name}"', path.read_bytes())
                     for path in paths[begin : begin + IMAGES_PER_REQUEST]])
        response = await send(port, post(body, "/predict?logits=true&top=1", FORM))
        assert response.status == 200, response
        for image in json.loads(response.body)["images"]:
            logits.append(image["logits"])
            classes.append(image["classes"][0]["name"])
    return np.array(logits), classes


def measure(images: int, preset: str = "paper", settings: tuple[str, ...] = ()) -> Finding:
    """Compare the four ways on `images` images and a network of `preset`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = untrained_run(folder / "run", preset, (*LARGE_LOGITS, *settings))
        saved, model = open_weights(run), load(run)
        extract(images, folder / "images")
        packed = pack(open_dataset(folder / "images"), folder / "packed", side=saved.arch.input.side, workers=1)
        split = packed.split("val")
        paths = [folder / "images" / "val" / name.removeprefix("val/") for name in split.names]

        probabilities_NK, logits_NK = evaluated(model, split)
        predicted_NK = predicted(model, paths)
        export(saved, folder / "net.onnx", "onnx", from_pixels=True)
        session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
        onnx_NK = np.concatenate([session.run(None, {"pixels": square(read(path), packed.side)[None]})[0]
                                  for path in paths])
        with ServerProcess(run) as server:
            served_NK, served_classes = asyncio.run(served(server.port, paths))

    best_N = logits_NK.argmax(1)
    unequal = sum(int((top_N != best_N).sum()) for top_N in (
        probabilities_NK.argmax(1), predicted_NK.argmax(1), onnx_NK.argmax(1), served_NK.argmax(1),
        np.array([model.classes.index(name) for name in served_classes])))
    differences = {
        "predict (probabilities)": np.abs(predicted_NK - probabilities_NK).max(),
        "ONNX (logits)": np.abs(onnx_NK - logits_NK).max(), "server (logits)": np.abs(served_NK - logits_NK).max()}
    text = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    return Finding(
        "14", f"{len(paths)} images through evaluate, predict, ONNX and the server; {preset}",
        f"logits or probabilities within {TOLERANCE:g} of evaluate's; the same top-1 class",
        f"at most: {text}; {unequal} of {5 * len(paths):,} top-1 classes differ, of {len(set(best_N))} classes; logits "
        f"up to {np.abs(logits_NK).max():.1f}",
        len(paths) == images and unequal == 0 and bool(max(differences.values()) <= TOLERANCE))


if __name__ == "__main__":
    ledger.main(measure, images=500)
