"""Findings about a data set: broken images, duplicates across splits or classes, class imbalance, small images.

`pack_findings` makes those that need no pass over the images: `train` prints and logs them. `scan_findings` makes all
that a scan shows: `alexnet check` prints them, the most harmful first.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from alexnet.data.catalog import Catalog, class_counts
from alexnet.data.duplicates import DuplicateGroup, Duplicates, Kind, find_exact_duplicates
from alexnet.data.finding_kinds import KINDS
from alexnet.data.group_findings import division_findings
from alexnet.data.packed import PackedDataset
from alexnet.data.quarantine import Quarantined
from alexnet.data.remarks import ELONGATED, remark_findings
from alexnet.data.scan import Scan, image_remarks
from alexnet.data.sources.embedded import SOURCE as EMBEDDED
from alexnet.errors import Finding, plural, some, such_as

IMBALANCE = 10
"""Training images of the largest class for each one of the smallest, above which a finding is made."""

FEW_IMAGES = 10
"""Training images of a class below which a finding is made."""

_NAMED = 5
"""Classes that a finding names."""

_NAMED_IMAGES = 3
"""Images that a finding names, where the worst few say more than one."""

FEW_FOR_SCRATCH = 500
"""Training images of a class, on average, below which pretrained weights are recommended."""

@dataclass(frozen=True)
class Baseline:
    """The top-1 errors of two classifiers that look at no image."""

    split: str
    """The split on which they are measured: val, or train if there is no other."""
    chance_error: float
    """Of a class drawn at random: (K - 1) / K."""
    largest_class: str
    """The class with the most training images; "" if several have the most."""
    largest_class_error: float
    """Of always answering the largest class, or the first of several."""

    @property
    def sentence(self) -> str:
        """Both errors; chance alone if several classes are the largest."""
        chance = f"{self.chance_error:.1%} top-1 error on {self.split} by chance"
        if not self.largest_class:
            return chance
        return f"{chance}; {self.largest_class_error:.1%} by always answering {self.largest_class}"


def baseline(catalog: Catalog, broken: Collection[int] = ()) -> Baseline:
    """Chance, and always answering the largest class. The rows `broken` are not counted."""
    split = next((name for name in ("val", "test") if name in catalog.splits), next(iter(catalog.splits)))
    train_K = class_counts(catalog, "train" if "train" in catalog.splits else split, broken)
    counts_K, largest = class_counts(catalog, split, broken), int(train_K.argmax())
    name = catalog.classes[largest] if (train_K == train_K.max()).sum() == 1 else ""
    return Baseline(split, 1 - 1 / len(catalog.classes), name, float(1 - counts_K[largest] / max(counts_K.sum(), 1)))


def pack_findings(packed: PackedDataset, weighted: bool = False) -> list[Finding]:
    """What is known of a packed data set without reading its images: class counts, copies across splits or classes.

    Args:
        packed: the data set.
        weighted: whether the run that is begun has class weights, so that they are not recommended to it.
    """
    catalog = Catalog(packed)
    copies = find_exact_duplicates(catalog, catalog.packed_hashes_N)
    found = [*count_findings(catalog, weighted=weighted), *duplicate_findings(catalog, copies),
             *division_findings(catalog)]
    return in_order([finding for finding in found if finding.kind != "copies"])


def scan_findings(
    catalog: Catalog, scan: Scan | None, duplicates: Duplicates | None, quarantined: Sequence[Quarantined], side: int,
) -> list[Finding]:
    """All findings about a data set.

    Args:
        catalog: its images.
        scan: what was found in each; None if they were not read.
        duplicates: groups of copies; None if they are not known.
        quarantined: images that cannot be decoded.
        side: of the network's input; images whose shorter side is smaller are named.
    """
    broken = scan.broken if scan else ()
    found = [*broken_findings(quarantined, len(catalog)), *count_findings(catalog, broken),
             *_few_in_all_findings(catalog, broken), *remark_findings(image_remarks(catalog, scan)),
             *division_findings(catalog)]
    if duplicates:
        found += duplicate_findings(catalog, duplicates, broken)
    if scan:
        found += [*_emptied_findings(catalog, scan), *_small_findings(catalog, scan, side),
                  *_elongated_findings(catalog, scan), *_blank_findings(catalog, scan)]
    return in_order(found)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The most harmful kind first."""
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


# --- Counts -----------------------------------------------------------------------------------------------------------


def count_findings(catalog: Catalog, broken: Collection[int] = (), weighted: bool = False) -> list[Finding]:
    """Few images of a class, and classes of very different sizes. The rows `broken` are not counted."""
    split = "train" if "train" in catalog.splits else next(iter(catalog.splits))
    counts = class_counts(catalog, split, broken)
    found, present = [], np.flatnonzero(counts)
    few = present[counts[present] < FEW_IMAGES]
    if len(few):
        smallest = few[counts[few].argmin()]
        found.append(Finding(
            "few_images", "", f"{plural(len(few), 'class', 'classes')} of {len(catalog.classes):,} "
            f"{'have' if len(few) > 1 else 'has'} fewer than {FEW_IMAGES} {split} images"
            + such_as(len(few), f"{catalog.classes[smallest]} with {counts[smallest]:,}"),
            "add images, merge the class with another one, or leave it out"))
    found += unmeasured_findings(catalog, broken)
    largest, smallest = int(counts.argmax()), int(present[counts[present].argmin()])
    if counts[largest] > IMBALANCE * counts[smallest]:
        ratio = counts[largest] / counts[smallest]
        found.append(Finding(
            "imbalance", "", f"{catalog.classes[largest]} has {counts[largest]:,} {split} images and "
            f"{catalog.classes[smallest]} {counts[smallest]:,}, {ratio:,.0f} times fewer; always answering "
            f"{catalog.classes[largest]} would be wrong for {baseline(catalog, broken).largest_class_error:.1%}",
            "see errors class by class with evaluate --per-class"
            + ("" if weighted else "; give small classes more weight with --set recipe.class_weights=auto")))
    return found


def unmeasured_findings(catalog: Catalog, broken: Collection[int] = ()) -> list[Finding]:
    """Trained classes of which a split that measures the network has no image, or of all but one.

    The rows `broken` are not counted.
    """
    found, trained_K = [], class_counts(catalog, "train") > 0
    for measured in ("val", "test"):
        if measured not in catalog.splits:
            continue
        if len(only := np.flatnonzero(class_counts(catalog, measured, broken))) == 1:
            found.append(Finding(
                "one_class_measured", measured, f"all images are of one class, {catalog.classes[only[0]]}: always "
                "answering this class has no error on them", _add_images(catalog, measured, "the other classes")))
        elif len(missing := np.flatnonzero(trained_K & (class_counts(catalog, measured) == 0))):
            names = some([catalog.classes[label] for label in missing], _NAMED)
            found.append(Finding(
                "unmeasured_classes", measured, f"there is no image of {names} ({len(missing):,} of "
                f"{plural(len(catalog.classes), 'class', 'classes')}), so the error says nothing of "
                f"{'it' if len(missing) == 1 else 'them'}",
                _add_images(catalog, measured, "it" if len(missing) == 1 else "them")))
    return found


def _add_images(catalog: Catalog, split: str, classes: str) -> str:
    """The remedy for a split without images of some classes. A split that is held out has no folder to add them to."""
    if split != "val" or not catalog.held_out:
        return f"add images of {classes} to {split}"
    return f"add images of {classes} to the data{', in other groups' if catalog.grouped_by else ''}: " + (
        f"{catalog.held_out:.0%} of each class are then held out as val")


def _few_in_all_findings(catalog: Catalog, broken: Collection[int]) -> list[Finding]:
    """Few training images for random initial weights. `train` has the same finding, with the options of the run.

    Patches of the package's photographs have none: features of objects are not meant for them.
    """
    counts = class_counts(catalog, "train", broken)
    if catalog.source.source == EMBEDDED or not 0 < counts.mean() < FEW_FOR_SCRATCH:
        return []
    return [Finding("few_images_in_all", "", f"{plural(counts.sum(), 'training image')} ({counts.mean():,.0f} a class "
                    "on average) are few for training from scratch",
                    "start from trained weights: train --init pretrained (in this package, 64 pixels), --init "
                    "torchvision (224 pixels, 244 MB to download), or --init RUN with a run of yours")]


# --- Images -----------------------------------------------------------------------------------------------------------


def broken_findings(quarantined: Sequence[Quarantined], total: int) -> list[Finding]:
    """Images that cannot be decoded."""
    if not quarantined:
        return []
    first = quarantined[0]
    return [Finding("broken", "", f"{plural(len(quarantined), 'image')} of {total:,} cannot be decoded"
                    + such_as(len(quarantined), f"{first.name} ({first.cause})"),
                    "replace or delete them; training leaves them out")]


def _emptied_findings(catalog: Catalog, scan: Scan) -> list[Finding]:
    """Classes of which no image can be decoded, with which packing refuses the data: one finding for each split."""
    decodable_N = np.ones(len(catalog), bool)
    decodable_N[list(scan.broken)] = False
    found, count = [], len(catalog.classes)
    for number, split in enumerate(catalog.splits):
        in_split_N = catalog.split_N == number
        left = np.bincount(catalog.labels_N[in_split_N & decodable_N], minlength=count)
        if len(emptied := np.flatnonzero((left == 0) & (class_counts(catalog, split) > 0))):
            found.append(Finding(
                "emptied_class", split, f"no image of {plural(len(emptied), 'class', 'classes')} can be decoded"
                + such_as(len(emptied), catalog.classes[emptied[0]]) + "; training refuses that",
                "repair or replace the images"))
    return found


def _small_findings(catalog: Catalog, scan: Scan, side: int) -> list[Finding]:
    """Images that are enlarged for the network."""
    shorter_N = scan.sizes_N2.min(1)
    known = np.flatnonzero(shorter_N)
    small = known[shorter_N[known] < side]
    if not len(small):
        return []
    smallest = int(small[shorter_N[small].argmin()])
    width, height = scan.sizes_N2[smallest]
    median = float(np.median(shorter_N[known]))
    remedy = "find larger versions, or leave them out"
    if median < side / 2:  # it is not a matter of some images
        remedy = f"--arch {'cifar' if median <= 40 else 'small'} is made for images of this size"
    return [Finding("small_images", "", f"{plural(len(small), 'image')} of {len(known):,} "
                    f"{'are' if len(small) > 1 else 'is'} smaller than {side} pixels and enlarged for the "
                    "network"
                    + such_as(len(small), f"{catalog.names_N[smallest]} with {width:,} x {height:,}"), remedy)]


def _elongated_findings(catalog: Catalog, scan: Scan) -> list[Finding]:
    """Images of which the stored square (square.py) leaves out most, and of these the worst."""
    rows = scan.elongated
    if not len(rows):
        return []
    worst = [f"{_percent(shorter / longer)} of {catalog.names_N[row]} with {width:,} x {height:,}"
             for row, (width, height) in zip(rows, scan.sizes_N2[rows], strict=True)
             for shorter, longer in [sorted((int(width), int(height)))]]
    seen = some(worst, _NAMED_IMAGES)
    return [Finding("elongated", "", f"{plural(len(rows), 'image')} of {np.count_nonzero(scan.sizes_N2.min(1)):,} "
                    f"{'have' if len(rows) > 1 else 'has'} one side more than {ELONGATED} times as long as the other, "
                    f"and the network sees the central square at most: {seen}",
                    "cut out the parts that matter")]


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%"


def _blank_findings(catalog: Catalog, scan: Scan) -> list[Finding]:
    blank = scan.blank
    return [Finding("blank", "", f"{plural(len(blank), 'image')} of {len(catalog):,} "
                    f"{'have' if len(blank) > 1 else 'has'} one color and nothing else"
                    + such_as(len(blank), catalog.names_N[blank[0]]),
                    "delete them, unless that is what they should show")
            ] if len(blank) else []


# --- Duplicates -------------------------------------------------------------------------------------------------------


def duplicate_findings(catalog: Catalog, duplicates: Duplicates, broken: Collection[int] = ()) -> list[Finding]:
    """Copies across splits and classes, and within one class of one split; exact and near."""
    found: list[Finding] = []
    prefixes: dict[Kind, str] = {"exact": "", "near": "near_"}
    for kind, prefix in prefixes.items():
        found += _across_splits(
            catalog, duplicates.across_splits(kind), f"{prefix}copies_across_splits", broken)
        found += _across_classes(catalog, duplicates.across_classes(kind), f"{prefix}copies_across_classes")
        found += _within(catalog, duplicates.within(kind), f"{prefix}copies")
    return found


def _across_splits(
    catalog: Catalog, groups: Sequence[DuplicateGroup], kind: str, broken: Collection[int],
) -> list[Finding]:
    """Images of the other splits of which training images are copies: one finding for each split."""
    found, train = [], list(catalog.splits).index("train") if "train" in catalog.splits else -1
    for number, split in enumerate(catalog.splits):
        rows = [(row, group) for group in groups for row in group.rows if catalog.split_N[row] == number != train]
        if not rows:
            continue
        row, group = rows[0]
        partner = next(other for other in group.rows if catalog.split_N[other] == train)
        apart = sum(len(group.classes) > 1 for _, group in rows)
        what, rather = ("is also a training image, byte for byte", "are also training images, byte for byte"), ""
        if kind.startswith("near"):
            what = ("looks the same as a training image", "look the same as training images")
            rather = ", or evaluate with --exclude-look-alikes"
        of_them = f"; {apart:,} of {len(rows):,} {'has' if apart == 1 else 'have'} a copy in another class"
        found.append(Finding(
            kind, split, f"{plural(len(rows), 'image')} of {class_counts(catalog, split, broken).sum():,} "
            f"{what[len(rows) > 1]}{such_as(len(rows), f'{catalog.names_N[row]} and {catalog.names_N[partner]}')}"
            f"{of_them if apart else ''}",
            f"delete one copy{', the one in the wrong class' if apart else ''}{rather}; otherwise the error on {split} "
            f"looks better than it is{_keep_together(catalog, kind)}"))
    return found


def _keep_together(catalog: Catalog, kind: str) -> str:
    """The hint on --group, for look-alikes of which some were held out by chance."""
    if not (kind.startswith("near") and catalog.held_out and catalog.groups_N is None):
        return ""
    return "; photos of one animal, patient or burst that are no copies are kept on one side with --group"


def _across_classes(catalog: Catalog, groups: Sequence[DuplicateGroup], kind: str) -> list[Finding]:
    if not groups:
        return []
    rows = groups[0].rows
    other = next(row for row in rows if catalog.labels_N[row] != catalog.labels_N[rows[0]])
    count = len(groups)
    what = f"{plural(count, 'image')} {'is' if count == 1 else 'are'} in more than one class, byte for byte"
    if kind.startswith("near"):
        what = f"{plural(count, 'group')} of images that look the same {'is' if count == 1 else 'are'} in more than " \
               "one class"
    example = (f"{catalog.names_N[rows[0]]} ({catalog.classes[catalog.labels_N[rows[0]]]}) and "
               f"{catalog.names_N[other]} ({catalog.classes[catalog.labels_N[other]]})")
    return [Finding(kind, "", what + such_as(count, example),
                    "keep each image in the class that is right")]


def _within(catalog: Catalog, groups: Sequence[DuplicateGroup], kind: str) -> list[Finding]:
    if not groups:
        return []
    extra = sum(len(group.rows) - 1 for group in groups)
    what = ("is an exact copy", "are exact copies")[extra > 1] + " of another one"
    if kind.startswith("near"):
        what = ("looks", "look")[extra > 1] + " the same as another one"
    first, second = groups[0].rows[:2]
    return [Finding(kind, "", f"{plural(extra, 'image')} {what} of the same class and split"
                    + such_as(extra, f"{catalog.names_N[first]} and {catalog.names_N[second]}"),
                    "delete the copies: these images count more than once")]
