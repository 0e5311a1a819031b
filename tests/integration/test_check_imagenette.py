"""`alexnet check` on Imagenette with 20 training images copied into val, 10 near copies, and 5 mislabeled images."""

import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import alexnet
from sample_images import IMAGES

EPOCHS = 12
"""Of `small`: 4 minutes on two cores, and 23.5% top-1 error (docs/performance.md)."""


@pytest.mark.slow
def test_imagenettes_copies_and_mislabeled_images_are_found(tmp_path, monkeypatch):
    if not (IMAGES / "imagenette.tar").exists():
        pytest.skip(f"no images in {IMAGES}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(IMAGES / "imagenette.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data, rng = tmp_path / "imagenette", np.random.default_rng(0)
    chosen = rng.choice(sorted((data / "train").rglob("*.JPEG")), 35, replace=False)
    exact = {f"val/{path.parent.name}/copy_{path.name}" for path in chosen[:20]}
    for path in chosen[:20]:
        shutil.copy(path, data / "val" / path.parent.name / f"copy_{path.name}")
    near = {f"val/{path.parent.name}/near_{path.name}" for path in chosen[20:30]}
    for path in chosen[20:30]:
        Image.open(path).convert("RGB").resize((160, 160)).save(
            data / "val" / path.parent.name / f"near_{path.name}", "JPEG", quality=50)
    folders, mislabeled = sorted((data / "train").iterdir()), set()
    for path in chosen[30:]:
        wrong = rng.choice([folder for folder in folders if folder != path.parent])
        path.rename(wrong / path.name)
        mislabeled.add(f"train/{wrong.name}/{path.name}")

    run = alexnet.train(data, arch="small", epochs=EPOCHS, out=tmp_path / "run", progress=False)
    found = alexnet.check(data, run=run.path)

    for kind, copies in (("exact", exact), ("near", near)):
        groups = found.duplicates.across_splits(kind)
        assert {found.catalog.names_N[row] for group in groups for row in group.rows
                if found.catalog.names_N[row].startswith("val/")} == copies
    ranks = {suspect.name: rank for rank, suspect in enumerate(found.labels.suspects, 1)}
    print({name: ranks.get(name) for name in mislabeled}, f"error {found.labels.error:.1%}")
    assert mislabeled <= {suspect.name for suspect in found.labels.suspects[:25]}
