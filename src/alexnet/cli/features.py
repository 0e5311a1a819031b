"""The `features` and `map` commands: a layer's output for every image as a file, or as a page of points."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.notes import say
from alexnet.api.opening import open_data
from alexnet.cli.app import (
    HTML_FILE,
    INTERPRET,
    Classes,
    Device,
    GroupBy,
    Json,
    Labels,
    Overwrite,
    app,
    at_least_1,
    check_output,
    class_names,
)
from alexnet.cli.default_checkpoint import split_checkpoint
from alexnet.cli.image_arguments import figure_files
from alexnet.errors import plural

MOST_POINTS = 3000
"""Images in a map by default: t-SNE of them takes about 20 seconds."""


@app.command(name="features", group=INTERPRET, sort_key=4)
def features_(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] DATA OUT")], labels: Labels = None, group: GroupBy = None,
    layer: str | None = None, pool: bool = False, split: str | None = None, overwrite: Overwrite = False,
    device: Device = "auto", classes: Classes = None, json_: Json = False,
) -> None:
    """Write a layer's output for every image, with names and labels, for other software: NumPy (.npz) or Parquet.

    The file holds float32 features of the center crops, one row an image. It is written batch by batch, so it may be
    larger than the memory. Parquet needs pyarrow (the extra `parquet`). Under torchrun the processes share the images,
    and rank 0 writes the file.

    Args:
        paths: A checkpoint, a run folder or a name of weights; a folder or archive of images, a packed folder, or a
            name such as cifar10; the file to write, .npz or .parquet. Without a checkpoint: the pretrained network
            of the package.
        layer: A layer's name, such as conv5, fc6 or relu7; see `alexnet explain`. Default: the activations of the last
            hidden layer.
        pool: Average each feature map over its rows and columns, instead of flattening the maps.
        split: A split such as train or val. Default: all of them.
    """
    from alexnet.inference import features

    if paths:
        check_output(Path(paths[-1]), features.ENDINGS, overwrite=overwrite)
    checkpoint, (data, file) = split_checkpoint("features", paths, "DATA", "OUT")
    out = Path(file)
    if out.suffix == ".parquet":
        features.require_parquet()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.predictor import model_from_checkpoint
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.training.parallel.shared_job import require_same_job, shared_job

    with shared_job(choose_device(device)) as processes:
        saved = processes.local_rank0_first(lambda: open_weights(checkpoint, class_names(classes)))
        model = model_from_checkpoint(saved, str(processes.device))
        layer = layer or model.feature_layer
        features.check_layer(model, layer, pool)
        if (line := features.output_layer_note(model, layer)) and processes.first:
            say(f"note: {line}")
        packed = processes.local_rank0_first(
            lambda: open_data(data, model.preprocess.spec.side, labels=labels, group=group,
                              division=split is not None, splits=(split,) if split else ()))
        splits = (split,) if split else packed.splits
        require_same_job(processes, [model], {
            "data": packed.fingerprint, "--layer, --pool or --split": [layer, pool, *splits]})
        with Bar(f"features of {layer}", "images") if processes.first else nullcontext() as bar:
            written = features.write_features(
                out, model, packed, splits, checkpoint=saved.describe()["sha256"], layer=layer, pool=pool,
                on_progress=bar, ranks=processes)
    if not processes.first:
        return
    if json_:
        print(json.dumps({"file": str(out), "images": written.images, "features": written.features, "layer": layer,
                          "pooled": pool}))
    else:
        print(f"{out}: {plural(written.images, 'image')}, {written.features:,} features each ({layer}"
              f"{', averaged over each map' if pool else ''}), {out.stat().st_size / 1e6:,.1f} MB")


@app.command(name="map", group=INTERPRET, sort_key=5)
def map_(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] DATA")], labels: Labels = None, group: GroupBy = None,
    out: Path | None = None, overwrite: Overwrite = False, layer: str | None = None, split: str | None = None,
    images: int = MOST_POINTS, device: Device = "auto", classes: Classes = None, json_: Json = False,
) -> None:
    """Draw a map of images by their features (PCA, then t-SNE): an offline page with thumbnails and class colors.

    It needs scikit-learn (the extra `map`).

    Args:
        paths: A checkpoint, a run folder or a name of weights; then a folder or archive of images, a packed folder, or
            a name such as cifar10. Without a checkpoint: the pretrained network of the package.
        out: Page to write, .html. Default: figures/map.html, with a number if it exists.
        layer: Layer whose output is mapped. Default: the activations of the last hidden layer.
        split: A split such as train or val. Default: val, or all images of data without a validation split.
        images: Images on the map at most, evenly spaced in the split.
    """
    at_least_1(images=images)
    (out,) = figure_files(out, "map.html", overwrite=overwrite, endings=HTML_FILE)

    from alexnet.inference.image_map import embed, require_map

    require_map()
    set_openmp_defaults()

    import numpy as np

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.data.content import contained
    from alexnet.inference.features import check_layer, feature_batches, output_layer_note
    from alexnet.inference.predictor import load
    from alexnet.models.packaged import shown_name
    from alexnet.reproduce.pages.image_map import write_image_map

    checkpoint, (data,) = split_checkpoint("map", paths, "DATA")
    model = load(checkpoint, choose_device(device), classes=class_names(classes))
    layer = layer or model.feature_layer
    check_layer(model, layer, pool=False)
    if line := output_layer_note(model, layer):
        say(f"note: {line}")
    packed = open_data(data, model.preprocess.spec.side, labels=labels, group=group, division=split is not None,
                       splits=(split,) if split else ())
    splits = (split,) if split else packed.test_splits
    shown = packed.split(*splits)
    indices = shown.sample(images)
    batches = []
    with Bar(f"features of {layer}", "images") as bar:
        for batch in feature_batches(model, shown, layer, indices=indices):
            batches.append(batch)
            bar(sum(map(len, batches)), len(indices))
    say(f"t-SNE of {len(indices):,} images")
    write_image_map(out, embed(np.concatenate(batches)), shown, indices, packed.classes,
                    trained_N=contained(shown.content_hashes[indices], model.seen.trained),
                    title=f"{packed.source}, {' and '.join(splits)}, by {shown_name(checkpoint)}", layer=layer)
    if json_:
        print(json.dumps({"page": str(out), "images": len(indices), "all_images": len(shown), "layer": layer,
                          "splits": splits}))
    else:
        left_out = f" of {len(shown):,}; the others are left out (--images)" if len(indices) < len(shown) else ""
        print(f"page: {out}, {plural(len(indices), 'image')}{left_out}")
