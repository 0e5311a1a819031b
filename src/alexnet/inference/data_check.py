"""Check a data set before training on it (`alexnet check`): what it is, and what needs attention.

Every image is decoded once (`data.scan`). With a trained network, labels are checked too (`label_check`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet._runtime.arguments import data_name, optional_text, weights_name, whole_number
from alexnet._runtime.progress import Bar
from alexnet.architecture.overrides import Json
from alexnet.data.catalog import Catalog
from alexnet.data.duplicates import Duplicates, find_duplicates, find_exact_duplicates
from alexnet.data.findings import Baseline, baseline, in_order, scan_findings
from alexnet.data.packed import PackedDataset
from alexnet.data.quarantine import Quarantined
from alexnet.data.scan import UNKNOWN, Scan, scan
from alexnet.data.summary import DataSummary, open_source, summarize
from alexnet.data.url_images import is_url
from alexnet.errors import Finding, require

if TYPE_CHECKING:  # imports torch, which a check without a network does without
    from torch import device as Device

    from alexnet.inference.label_check import LabelCheck
    from alexnet.inference.predictor import Model

    Weights = str | PathLike[str] | Model

INPUT_SIDE = 224
"""Input of the paper's network, in pixels (§3.5)."""


@dataclass(frozen=True)
class Sizes:
    """Widths and heights of the images, in pixels."""

    median: tuple[int, int]
    """Median width, and median height."""
    smallest: tuple[int, int]
    """Of the image with the shortest shorter side."""
    largest: tuple[int, int]
    """Of the image with the most pixels."""
    known: int
    """The number of images whose size is known."""


@dataclass(frozen=True, kw_only=True)
class DataCheck(DataSummary):
    """What a data set is, and what was found in it. `notes` count files, `images` those that can be decoded."""

    baseline: Baseline
    """The errors of classifiers that look at no image, with which a network's error compares."""
    findings: tuple[Finding, ...]
    """What needs attention, the most harmful first."""
    broken: tuple[Quarantined, ...]
    """Images that cannot be decoded."""
    sizes: Sizes | None
    """None if no size is known."""
    formats: dict[str, int]
    """Images of each file format, of those that can be decoded; empty if it is not known."""
    duplicates: Duplicates | None
    """None if the images were not compared."""
    labels: LabelCheck | None
    """Suspicious labels; None if no network was given."""
    not_checked: tuple[str, ...]
    """What could not be checked, and why."""
    catalog: Catalog
    """The images, in whose rows duplicates are."""
    scan: Scan | None
    """What was found in each image; None if they were not read."""

    @property
    def shown_notes(self) -> tuple[str, ...]:
        """The notes, and why they have other numbers than `images` if that is so."""
        if not self.broken or isinstance(self.catalog.source, PackedDataset):
            return self.notes
        return *self.notes, "numbers in notes are of files, also of those that cannot be decoded"

    def to_json(self) -> dict[str, Json]:
        """All that was found, as plain values."""
        tree: dict[str, Any] = super().to_json() | {
            "baseline": asdict(self.baseline), "findings": [asdict(finding) for finding in self.findings],
            "sizes": asdict(self.sizes) if self.sizes else None, "formats": self.formats,
            "broken": [asdict(image) for image in self.broken], "duplicates": None, "suspects": None,
            "not_checked": list(self.not_checked)}
        if self.duplicates:
            tree["duplicates"] = [group.to_json(self.catalog) for group in self.duplicates.groups]
        if self.labels:
            tree |= {"suspects": [suspect.to_json() for suspect in self.labels.suspects],
                     "suspects_method": self.labels.method}
        return tree


def check(
    data: str | PathLike[str], *, labels: str | PathLike[str] | None = None, group: str | PathLike[str] | None = None,
    run: Weights | Iterable[Weights] | None = None, classes: Sequence[str] | None = None, quick: bool = False,
    side: int | None = None, device: str | Device = "auto", workers: int | None = None, progress: bool = True,
) -> DataCheck:
    """Check what a data set is understood to be, and what needs attention before training on it.

    Every image is decoded once; the result is kept in the user's cache. Nothing is written to the data.

    Args:
        data: A folder or archive of images, a packed folder, `cifar10`, `cifar100`, `embedded`, or the URL of a
            packed folder.
        labels, group: As for `alexnet.train`.
        run: A trained network, with whose features suspicious labels are found: a run folder, a checkpoint or a loaded
            model. Several networks, or the folder of `train --seeds` or `--folds`, find a few more of them.
        classes: Names of the networks' outputs. Default: those that come with the weights.
        quick: Read no image; count and list only.
        side: Images with a shorter side below this are named. Default: the input of the run's network, else 224.
        device: Of the network: `auto`, `cpu`, `cuda` or `cuda:1`.
        workers: Threads that decode. Default: one for each core.
        progress: Print notes and a progress bar on standard error.

    Raises:
        UserError: The data does not exist or has no classes, or the run is not a trained network.
    """
    data, labels, group = data_name(data), optional_text("labels", labels), optional_text("group", group)
    side, workers = (value if value is None else whole_number(name, value) for name, value in (
        ("side", side), ("workers", workers)))
    runs = _listed(run)
    require(bool(runs) or classes is None, "--classes names the outputs of the network of --run", "leave it out")
    require(not (runs and quick), "a quick check reads no image, and labels are checked on images",
            "leave out --quick or --run")
    label_check, trained_side = (
        _check_labels(data, labels, group, runs, classes, device, progress) if runs else (None, None))
    source = open_source(data, labels, group)
    catalog, found, duplicates = Catalog(source), None, None
    if not quick and not is_url(data):
        with Bar("checking", "images") if progress else nullcontext() as bar:
            found = scan(catalog, workers=workers, on_progress=bar)
        duplicates = find_duplicates(catalog, found)
    elif isinstance(source, PackedDataset):
        duplicates = find_exact_duplicates(catalog, catalog.packed_hashes_N)
    broken, unusable = _broken(catalog, found), found.broken if found else ()
    findings = scan_findings(catalog, found, duplicates, broken, side or trained_side or INPUT_SIDE)
    if label_check:
        findings = in_order([*findings, *_label_findings(label_check)])
    return DataCheck(
        **vars(summarize(source, data, unusable)), baseline=baseline(catalog, unusable),
        findings=tuple(findings), broken=broken, sizes=_sizes(found), formats=_formats(found), duplicates=duplicates,
        labels=label_check, catalog=catalog, scan=found,
        not_checked=tuple(_not_checked(data, catalog, found, duplicates, quick, label_check)))


# --- Parts ------------------------------------------------------------------------------------------------------------


def _listed(run: Weights | Iterable[Weights] | None) -> list[str | Model]:
    """The networks as a list. Raises UserError for an object that is none."""
    if run is None:
        return []
    several = isinstance(run, Iterable) and not isinstance(run, str | bytes)
    given: list[Any] = list(run) if several else [run]  # type: ignore[arg-type]
    # A loaded model is recognized without importing its class, which needs torch.
    return [each if hasattr(each, "preprocess") and hasattr(each, "seen") else weights_name(each) for each in given]


def _check_labels(
    data: str, labels: str | None, group: str | None, runs: Sequence[str | Model],
    classes: Sequence[str] | None, device: str | Device, progress: bool,
) -> tuple[LabelCheck, int]:
    """The suspicious labels, and the side of the largest network's input."""
    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.notes import say, silent
    from alexnet.data.open import open_or_stream
    from alexnet.inference.label_check import check_labels
    from alexnet.inference.predictor import load
    from alexnet.models.formats.recognize import runs_of_series

    models: list[Model] = []
    for run in runs:
        if isinstance(run, str):
            paths: list[str | Path] = [*runs_of_series(Path(run))] or [run]
            models += [load(path, choose_device(device), classes=classes) for path in paths]
        else:
            models.append(run)
    packed = {side: open_or_stream(data, side, say=say if progress else silent, notes="none", labels=labels,
                                   group=group)
              for side in sorted({model.preprocess.spec.side for model in models})}
    with Bar("features", "images") if progress else nullcontext() as bar:
        found = check_labels([(model, packed[model.preprocess.spec.side]) for model in models], bar)
    return found, max(model.preprocess.spec.crop for model in models)


def _label_findings(labels: LabelCheck) -> list[Finding]:
    if not labels.suspects:
        return []
    from alexnet.inference.classifier import probability_text

    first, count = labels.suspects[0], len(labels.suspects)
    if labels.weak:
        return [Finding(
            "uncertain_labels", "", f"this network is too weak to judge labels: it disagrees with {labels.error:.1%} "
            f"of all {labels.images:,}, so most of the {count:,} suspects are its own mistakes",
            "look at the first few, or give a better network with --run")]
    return [Finding(
        "suspicious_labels", "", f"{count:,} label{'s' * (count > 1)} of {labels.images:,} may be wrong, first of all "
        f"{first.name}, labeled {first.label} ({probability_text(first.label_probability)}) and predicted "
        f"{first.predicted} ({probability_text(first.probability)})",
        f"look at the first ones; the network disagrees with {labels.error:.1%} of all labels, and some of these are "
        "its own mistakes")]


def _broken(catalog: Catalog, found: Scan | None) -> tuple[Quarantined, ...]:
    if isinstance(catalog.source, PackedDataset):
        return tuple(image for images in catalog.source.quarantined.values() for image in images)
    return tuple(Quarantined(catalog.names_N[row], fault) for row, fault in found.broken.items()) if found else ()


def _sizes(found: Scan | None) -> Sizes | None:
    if found is None or not found.sizes_N2.any():
        return None
    sizes_N2 = found.sizes_N2[found.sizes_N2.min(1) > 0].astype(np.int64)

    def size(row: int) -> tuple[int, int]:
        return int(sizes_N2[row, 0]), int(sizes_N2[row, 1])

    width, height = np.median(sizes_N2, 0).round().astype(int).tolist()
    return Sizes((width, height), size(int(sizes_N2.min(1).argmin())), size(int(sizes_N2.prod(1).argmax())),
                 len(sizes_N2))


def _formats(found: Scan | None) -> dict[str, int]:
    if found is None:
        return {}
    decoded = np.delete(found.formats_N, list(found.broken)).tolist()
    return {kind: count for kind, count in Counter(decoded).most_common() if kind != UNKNOWN}


def _not_checked(
    data: str, catalog: Catalog, found: Scan | None, duplicates: Duplicates | None, quick: bool,
    labels: LabelCheck | None,
) -> list[str]:
    """What could not be checked, and why: a sentence each."""
    packed, missing = isinstance(catalog.source, PackedDataset), []
    if packed:
        missing.append("the original files are not in a packed folder: their sizes and formats are not known; check "
                       f"the data that was packed, {catalog.source.source}")
    if found is None and is_url(data):
        missing.append("the images at a URL were not read: near duplicates and blank images are not known")
    elif found is None:
        missing.append("the images were not read (--quick): "
                       + ("" if packed else "broken images, exact duplicates, sizes, formats, ")
                       + "near duplicates and blank images are not known")
    if "JPEG" in _formats(found):
        missing.append("damage in the middle of a JPEG that leaves no trace in its data: look at the images, too")
    if labels is None and not quick:
        missing.append("labels were not checked: that takes a trained network, --run RUN")
    return missing
