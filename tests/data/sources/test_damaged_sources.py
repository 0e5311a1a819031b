"""Whatever is damaged in an archive, table or file of labels: it is read, or refused with a UserError."""

import contextlib
import gzip
import io
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from image_files import jpeg, tar_of

FILES = {f"{split}/{name}/{number}.jpg": jpeg(40 * label + number) for split in ("train", "val")
         for label, name in enumerate(("ash", "birch")) for number in range(3)}
BATCH = pickle.dumps({b"data": np.zeros((5, 3072), np.uint8), b"labels": [0, 1, 2, 3, 4]}, 2)


def zip_of(files: dict[str, bytes], compression: int) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return memory.getvalue()


def loose(*names: str) -> dict[str, bytes]:
    return {f"{name}.jpg": jpeg(3) for name in names}


SOURCES: dict[str, dict[str, bytes]] = {
    "deflated.zip": {"": zip_of(FILES, zipfile.ZIP_DEFLATED)}, "stored.zip": {"": zip_of(FILES, zipfile.ZIP_STORED)},
    "plain.tar": {"": tar_of(FILES)}, "compressed.tar.gz": {"": tar_of(FILES, "w:gz")},
    "table": loose(*"abcd") | {
        "labels.csv": b'file_name,label,split\na.jpg,x,train\nb.jpg,y,val\nc.jpg,"y",train\nd.jpg,x,train\n'},
    "lines": loose(*"ab") | {
        "metadata.jsonl": b'{"file_name":"a.jpg","label":"x"}\n{"file_name":"b.jpg","label":"y"}\n'},
    "idx": {"train-images-idx3-ubyte": struct.pack(">4B3I", 0, 0, 8, 3, 4, 2, 2) + bytes(16),
            "train-labels-idx1-ubyte.gz": gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes([0, 1, 2, 3]))},
    "cifar": {"batches.meta": pickle.dumps({b"label_names": [b"c%d" % number for number in range(10)]}, 2),
              "test_batch": BATCH, **{f"data_batch_{number}": BATCH for number in range(1, 6)}},
    "tiny": {"train/n00000001/images/a.JPEG": jpeg(), "train/n00000002/images/a.JPEG": jpeg(),
             "val/images/v.JPEG": jpeg(), "val/val_annotations.txt": b"v.JPEG\tn00000001\t0\t0\t1\t1\n",
             "words.txt": b"n00000001\tx\n"},
    "imagenet": {"train/n00000001/a.JPEG": jpeg(), "train/n00000002/a.JPEG": jpeg(),
                 "val/ILSVRC2012_val_00000001.JPEG": jpeg(),
                 "LOC_val_solution.csv": b"ImageId,PredictionString\nILSVRC2012_val_00000001,n00000001 1 2 3 4\n"},
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[place : place + rng.randrange(1, 50)]
            case 2:
                changed[place:place] = rng.randbytes(rng.randrange(1, 20))
            case 3:
                changed = changed[:place]
    return bytes(changed)


@pytest.mark.parametrize("source", SOURCES)
def test_damaged_sources_are_read_or_refused(tmp_path: Path, source: str):
    rng = random.Random(source)
    targets = [name for name in SOURCES[source] if not name.lower().endswith((".jpg", ".jpeg"))]
    for number in range(25):
        root = tmp_path / str(number) / source
        files = SOURCES[source] | {(name := rng.choice(targets)): damaged(SOURCES[source][name], rng)}
        for file, data in files.items():
            path = root / file if file else root
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            dataset = open_dataset(root)
        except UserError:
            continue
        for image in [image for images in dataset.splits.values() for image in images]:
            with contextlib.suppress(UserError):
                image.pixels()
