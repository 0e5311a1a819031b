"""`alexnet check` on Imagenette with 20 training images copied into val, and 10 near copies."""

import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import alexnet
from sample_images import IMAGES


@pytest.mark.slow
def test_the_copies_across_imagenettes_splits_are_found_and_no_others(tmp_path, monkeypatch):
    if not (IMAGES / "imagenette.tar").exists():
        pytest.skip(f"no images in {IMAGES}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(IMAGES / "imagenette.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data, rng = tmp_path / "imagenette", np.random.default_rng(0)
    chosen = rng.choice(sorted((data / "train").rglob("*.JPEG")), 30, replace=False)
    exact = {f"val/{path.parent.name}/copy_{path.name}" for path in chosen[:20]}
    for path in chosen[:20]:
        shutil.copy(path, data / "val" / path.parent.name / f"copy_{path.name}")
    near = {f"val/{path.parent.name}/near_{path.name}" for path in chosen[20:]}
    for path in chosen[20:]:
        Image.open(path).convert("RGB").resize((160, 160)).save(
            data / "val" / path.parent.name / f"near_{path.name}", "JPEG", quality=50)
    found = alexnet.check(data)

    for kind, copies in (("exact", exact), ("near", near)):
        groups = found.duplicates.across_splits(kind)
        assert {found.catalog.names_N[row] for group in groups for row in group.rows
                if found.catalog.names_N[row].startswith("val/")} == copies
