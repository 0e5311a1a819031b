"""Findings about which images are on one side of a split: groups that --group states, groups that names suggest.

Shapes: N images.
"""

from __future__ import annotations

import shlex

import numpy as np

from alexnet._runtime.cache import cache_folder
from alexnet.data.catalog import Catalog
from alexnet.data.content import contained, distinct_hashes
from alexnet.data.folds import FoldedDataset
from alexnet.data.name_groups import NameGroups, suggest_groups
from alexnet.data.packed import PackedDataset
from alexnet.errors import Finding, plural, such_as

SINGLE_GROUPS = 0.9
"""Fraction of the groups that have one image, from which --group keeps hardly any images together."""

UNGROUPED = 0.1
"""Fraction of the images without a group, from which a finding is made; `open_dataset` has a note on fewer."""


def division_findings(catalog: Catalog) -> list[Finding]:
    """All findings of this module."""
    return [*group_findings(catalog), *grouping_findings(catalog), *name_findings(catalog)]


def group_findings(catalog: Catalog) -> list[Finding]:
    """Images of the data's own validation or test split that are of a group of training images."""
    if catalog.groups_N is None or not len(train := catalog.rows_of("train")):
        return []
    found, trained = [], distinct_hashes(catalog.groups_N[train])
    for split in catalog.splits:
        rows = catalog.rows_of(split)
        if split != "train" and len(shared := rows[contained(catalog.groups_N[rows], trained)]):
            partner = train[catalog.groups_N[train] == catalog.groups_N[shared[0]]][0]
            found.append(Finding(
                "groups_across_splits", split, f"{plural(len(shared), 'image')} of {len(rows):,} "
                f"{'belongs' if len(shared) == 1 else 'belong'} to a group that has training images"
                + such_as(len(shared), f"{catalog.names_N[shared[0]]} and {catalog.names_N[partner]}"),
                f"move each group to one side, or measure with --folds; otherwise the error on {split} looks better "
                "than it is"))
    return found


def grouping_findings(catalog: Catalog) -> list[Finding]:
    """Groups of --group that keep nothing together: nearly all have one image, or many images have no group."""
    if catalog.groups_N is None:
        return []
    found, option = [], f"--group {shlex.quote(catalog.grouped_by or '')}"
    ungrouped = np.flatnonzero(catalog.ungrouped_N)
    named = np.flatnonzero(~catalog.ungrouped_N)
    _, first, sizes = np.unique(catalog.groups_N[named], return_index=True, return_counts=True)
    single = first[sizes == 1]
    if len(sizes) and len(single) >= SINGLE_GROUPS * len(sizes):
        which = f"each of the {len(sizes):,} groups has" if len(single) == len(sizes) else \
            f"{len(single):,} of the {len(sizes):,} groups have"
        found.append(Finding(
            "single_groups", "", f"{which} 1 image with {option}, such as that of "
            f"{catalog.names_N[named[single.min()]]}, so it keeps hardly any images together",
            "compare the pattern or table with the file names: a group is all images of one object, patient or scene"))
    if len(ungrouped) >= UNGROUPED * len(catalog):
        found.append(Finding(
            "no_group", "", f"{plural(len(ungrouped), 'image')} of {len(catalog):,} "
            f"{'has' if len(ungrouped) == 1 else 'have'} no group with {option}"
            f"{such_as(len(ungrouped), catalog.names_N[ungrouped[0]])}; each of them is a group of its own",
            "let the pattern or the table name a group for each image"))
    return found


def name_findings(catalog: Catalog) -> list[Finding]:
    """Images that by their names belong together, of which some were held out by chance (name_groups.py).

    The split is judged as it is, so groups that --group states wrongly hide nothing.
    """
    source, val = catalog.source, catalog.rows_of("val")
    is_divided = bool(catalog.held_out) or isinstance(source, FoldedDataset)
    if not is_divided or not len(val):
        return []
    held_N = np.zeros(len(catalog), bool)
    held_N[val] = True
    suggested = suggest_groups(catalog.names_N, catalog.labels_N, held_N, source.wnids or source.classes)
    if suggested is None or (catalog.groups_N is not None and suggested.is_recording
                             and 2 * suggested.divided < len(val)):  # the borders of blocks of frames
        return []
    return [Finding(
        "divided_names", "", f"by their names, {plural(suggested.divided, 'validation image')} of {len(val):,} "
        f"{suggested.what} training images{such_as(suggested.divided, ' and '.join(suggested.example))}; then the "
        "error looks better than it is", _keep_together(catalog, suggested))]


def _keep_together(catalog: Catalog, suggested: NameGroups) -> str:
    """The remedy for groups that names suggest and that are on both sides."""
    if suggested.option and suggested.option == catalog.grouped_by:  # it leaves out names of another form
        return (f"if so, --group {shlex.quote(suggested.option)} does not match all of these names: rename the files, "
                "or give the groups in a table with columns file_name and group")
    source, option = catalog.source, f"--group {shlex.quote(suggested.option)}"
    if catalog.grouped_by:
        option += f" in place of {shlex.quote(catalog.grouped_by)}"
    sizes = f"{suggested.smallest:,}" + (f" to {suggested.largest:,}" if suggested.largest > suggested.smallest else "")
    remedy = f"if so, keep each group on one side: {option} ({suggested.groups:,} groups of {sizes} images)"
    if suggested.is_recording:
        blocks = f", or keep blocks of {suggested.block} consecutive frames on one side: {option}"
        remedy = "put whole recordings into a folder val/ beside train/" + (blocks if suggested.option else "")
    if isinstance(source, PackedDataset) and source.path.parent != cache_folder() / "packed":  # the user packed it
        remedy += "; it is an option of alexnet pack, so pack the images again" if suggested.option else ""
    return remedy
