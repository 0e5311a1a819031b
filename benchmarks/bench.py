"""Peer and ours side by side, interleaved in one run: medians and ratios, which hold where absolute times do not.

    python benchmarks/bench.py [--photographs FOLDER] [--rounds 9] [--json]

Without --photographs, noise is encoded as JPEG at the size ImageNet's photographs have. The peer of packing is what
most loaders do: Pillow decodes, resizes and crops. The peer of LRN is `F.local_response_norm`.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from alexnet.config import LRN
from alexnet.images import decode, square
from alexnet.model import ResponseNorm


def interleaved(peer: Callable[[], object], ours: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median seconds of each, and the median over rounds of peer / ours with its quartiles."""
    peer()  # warm
    ours()
    pairs = [(_seconds(peer), _seconds(ours)) for _ in range(rounds)]
    low, ratio, high = statistics.quantiles([p / o for p, o in pairs], n=4)
    return {"peer_seconds": statistics.median(p for p, _ in pairs),
            "ours_seconds": statistics.median(o for _, o in pairs),
            "ratio": ratio, "ratio_low": low, "ratio_high": high}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def jpegs(folder: Path | None, count: int = 40) -> list[bytes]:
    """Encoded photographs."""
    if folder:
        return [path.read_bytes() for path in sorted(folder.rglob("*.[jJ][pP]*[gG]"))[:count]]
    rng, encoded = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
        encoded.append(file.getvalue())
    return encoded


def by_pillow(data: bytes, side: int = 256) -> np.ndarray:
    """§2 by Pillow alone."""
    photo = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = photo.size
    scale = side / min(width, height)
    photo = photo.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return np.asarray(photo.crop((left, top, left + side, top + side)))


def lrn_pass(norm: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
    """Forward and backward."""
    x.grad = None
    norm(x).sum().backward()


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEG files")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    encoded = jpegs(options.photographs)
    x = torch.randn(16, 96, 55, 55, requires_grad=True)
    ours_lrn = ResponseNorm(LRN(divide_by_n=True), 96, towers=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = {"packing a photograph, one core, against Pillow": interleaved(
        lambda: [by_pillow(data) for data in encoded], lambda: [square(decode(data, "jpeg"), 256) for data in encoded],
        options.rounds)}
    torch.set_num_threads(threads)
    rows["response normalisation of conv1, batch 16, against F.local_response_norm"] = interleaved(
        lambda: lrn_pass(lambda t: F.local_response_norm(t, 5, 1e-4, 0.75, 2.0), x), lambda: lrn_pass(ours_lrn, x),
        options.rounds)
    machine = {"machine": platform.machine(), "cores": torch.get_num_threads(), "python": platform.python_version(),
               "torch": torch.__version__, "rounds": options.rounds}
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, row in rows.items():
        print(f"{row['ratio']:6.2f}x  ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})  "
              f"{1e3 * row['peer_seconds']:8.1f} ms -> {1e3 * row['ours_seconds']:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
