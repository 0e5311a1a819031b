"""--group: photos that belong together are in one split and one fold; what was drawn is said and recorded."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet.data.catalog import Catalog
from alexnet.data.findings import pack_findings
from alexnet.data.folds import folded, join_groups
from alexnet.data.group_findings import group_findings
from alexnet.data.hold_out import deal_groups, hold_out, hold_out_groups
from alexnet.data.open import open_or_pack
from alexnet.data.packed import open_packed
from alexnet.data.packing import pack
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import open_dataset
from alexnet.data.subset import tuning_images
from alexnet.errors import UserError
from alexnet.inference.data_check import check
from alexnet.training.head import held_out
from image_files import names, per_class, plant, said
from sample_images import draw

BURST = "{animal}_{n}.jpg"


def bursts(root: Path, classes: tuple[str, ...] = ("fox", "owl"), groups: int = 10, size: int = 4) -> Path:
    return plant(root, *(f"{name}/{name}{group}_{number}.jpg" for name in classes for group in range(groups)
                         for number in range(size)))


def animal_of(name: str) -> str:
    return name.rpartition("/")[2].rpartition("_")[0]


def animals(dataset, split: str) -> set[str]:
    return {animal_of(name) for name in names(dataset, split)}


# --- What a group is ----------------------------------------------------------------------------------------------


def test_whole_groups_are_held_out_a_tenth_of_each_class(tmp_path):
    dataset = open_dataset(bursts(tmp_path), group=BURST)
    assert not animals(dataset, "train") & animals(dataset, "val")
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([36, 36], [4, 4])
    assert dataset.notes[-1] == ("--group {animal}_{n}.jpg: 20 groups of 4 images, such as fox0: 4 images, "
                                 "fox1: 4 images, fox2: 4 images")
    assert dataset.division == (
        "there is no validation split: 8 of 80 images are held out for validation, in whole groups (--group "
        "{animal}_{n}.jpg): 10.0% of each class")


def test_without_groups_the_same_photos_are_divided(tmp_path):
    dataset = open_dataset(bursts(tmp_path))
    assert animals(dataset, "train") & animals(dataset, "val")


@pytest.mark.parametrize(("pattern", "groups"), [
    ("{animal}_{any}", {"a", "b"}), ("{site}-{animal}_{n}.jpg", set()), ("(?P<x>[ab])_", {"a", "b"}),
    ("{class}/{animal}_{n}.jpg", {"fox\0a", "fox\0b", "owl\0a", "owl\0b"}), ("{animal}_{n}.JPG", {"a", "b"})])
def test_fields_of_a_pattern_name_the_group(tmp_path, pattern, groups):
    """Without a slash the pattern is compared with the file's name, so that an animal in two classes is one group."""
    plant(tmp_path, *(f"{name}/{animal}_{number}.jpg" for name in ("fox", "owl") for animal in "ab"
                      for number in range(3)))
    if not groups:
        with pytest.raises(UserError, match=r"matches none of the 12 images of .*, such as fox/a_0.jpg"):
            open_dataset(tmp_path, group=pattern, labels="folders")
        return
    dataset = open_dataset(tmp_path, group=pattern, labels="folders")
    assert set(dataset.grouping.groups.values()) == groups


def test_folders_below_the_class_folders_are_groups_and_the_same_site_of_two_classes_is_one(tmp_path):
    plant(tmp_path, *(f"{name}/site{site}/day{site % 2}/{number}.jpg" for name in ("fox", "owl") for site in range(6)
                      for number in range(3)))
    dataset = open_dataset(tmp_path, group="folder", held_out=0.3)
    sites = [{name.split("/")[1] for name in names(dataset, split)} for split in ("train", "val")]
    assert not sites[0] & sites[1]
    assert "--group folder: 6 groups of 6 images" in said(dataset)


def test_a_table_names_the_groups_and_images_without_one_are_said(tmp_path):
    bursts(tmp_path / "photos", groups=4)
    rows = [f"{name}{group}_{number}.jpg,{name}-{group // 2}" for name in ("fox", "owl") for group in range(4)
            for number in range(4) if (name, group, number) != ("owl", 3, 3)]
    (tmp_path / "photos" / "who.csv").write_text("\n".join(["file_name,patient", *rows, "elk.jpg,elk-1"]) + "\n")
    for place in ("who.csv", str(tmp_path / "photos" / "who.csv")):
        dataset = open_dataset(tmp_path / "photos", group=place, labels="folders")
        assert set(dataset.grouping.groups.values()) == {"fox-0", "fox-1", "owl-0", "owl-1"}
        assert f"--group {place}: 4 groups of 7 to 8 images (median 8)" in said(dataset)
        assert f"left out: 1 row of {place} without an image in the data: elk.jpg" in said(dataset)
        assert "1 of 32 images has no group, and is a group of its own: owl/owl3_3.jpg" in said(
            dataset)


def test_a_column_group_is_preferred_and_several_others_are_refused(tmp_path):
    bursts(tmp_path / "photos")
    table = tmp_path / "table.csv"
    rows = [f"fox{group}_{number}.jpg,{group},x{number}" for group in range(10) for number in range(4)]
    table.write_text("\n".join(["file,site,camera", *rows]))
    with pytest.raises(UserError, match=r"several columns that may be the groups: site, camera; copy the table, "):
        open_dataset(tmp_path / "photos", group=str(table))
    table.write_text("\n".join(["file,Group,camera", *rows]))
    assert len(set(open_dataset(tmp_path / "photos", group=str(table)).grouping.groups.values())) == 10


@pytest.mark.parametrize(("group", "sentence"), [
    ("{animal}-{n}.jpg", "the pattern of --group '{animal}-{n}.jpg' matches none of the 80 images of"),
    ("{animal}_{n}.JPEG", "the names of these images end with .jpg: write --group '{animal}_{n}.jpg'"),
    ("{n}_{n}.jpg", "names no group; write one in braces"),
    ("{a}_{a}_{n}.jpg", "has {a} twice"),
    ("(?P<a", "is not a regular expression"),
    ("folder", "no image of .* lies in a folder below its class folder"),
    ("sites.csv", "--group sites.csv: there is no such table on disk or in"),
    ("animal", "there is no such table on disk or in .*, and it is not a pattern"),
    ("{any}{kind}.jpg", "has {any}{kind} side by side"),
    ("(?P<all>)", "matches none"),
    ("{end}", None),
])
def test_a_group_that_groups_nothing_is_refused(tmp_path, group, sentence):
    bursts(tmp_path)
    if sentence is None:
        open_dataset(tmp_path, group=group)
        return
    with pytest.raises(UserError, match=sentence.replace("{", "\\{").replace("(?P", "\\(?P") if "[" not in sentence
                       else sentence):
        open_dataset(tmp_path, group=group)


def test_one_group_of_all_images_is_refused(tmp_path):
    plant(tmp_path, *(f"{name}/x_{number}.jpg" for name in ("fox", "owl") for number in range(5)))
    with pytest.raises(UserError, match="makes one group of all 10 images"):
        open_dataset(tmp_path, group=BURST)


def test_a_class_that_is_one_group_keeps_its_images_for_training_and_is_named(tmp_path):
    bursts(tmp_path)
    plant(tmp_path, *(f"elk/e_{number}.jpg" for number in range(8)))
    dataset = open_dataset(tmp_path, group=BURST)
    assert per_class(dataset, "val") == [0, 4, 4]  # elk, fox, owl
    assert dataset.division.endswith("between 0.0% of elk and 10.0% of fox; nothing of elk is held out, as one group "
                                     "has all or nearly all images of the class")


# --- The draw -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=80),
       st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_no_draw_empties_a_class_and_each_is_held_out_if_its_groups_allow(images, fraction, seed):
    groups, labels = [f"g{group}" for group, _ in images], [label for _, label in images]
    held = hold_out_groups(groups, labels, fraction, seed)
    total, out = Counter(labels), Counter(label for group, label in zip(groups, labels, strict=True) if group in held)
    assert all(out[label] < total[label] for label in total)
    for label in total:
        own = {group for group, other in zip(groups, labels, strict=True) if other == label}
        alone = all(len({other for group, other in zip(groups, labels, strict=True) if group == each}) == 1
                    for each in own)
        assert out[label] or len(own) == 1 or not alone


def test_groups_of_one_image_are_held_out_as_images_are():
    """40 images of each of two classes, a tenth: exactly 4 of each."""
    labels = [0] * 40 + [1] * 40
    held = hold_out_groups([f"{index}" for index in range(80)], labels, 0.1, 0)
    assert Counter(labels[int(index)] for index in held) == {0: 4, 1: 4}


@given(st.integers(2, 60), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_adding_images_moves_one_into_training_only_where_an_added_one_takes_its_place(before, added, seed):
    files = [f"a/{number}.jpg" for number in range(before)]
    more = [f"a/x{number}.jpg" for number in range(added)]
    old = set(hold_out({"a": files}, 0.1, seed, "a")["val"]["a"])
    new = set(hold_out({"a": files + more}, 0.1, seed, "a")["val"]["a"])
    assert len(old - new) <= len(new & set(more))
    assert len(new) == min(before + added - 1, max(1, round(0.1 * (before + added))))


def test_the_size_of_the_held_out_part_is_a_fraction_of_each_class(tmp_path):
    bursts(tmp_path / "photos", groups=10, size=4)
    plant(tmp_path / "photos", *(f"elk/{number}.jpg" for number in range(5)))
    assert per_class(open_dataset(tmp_path / "photos", held_out=0.25), "val") == [1, 10, 10]
    for wrong in (20, 1, -0.1):
        with pytest.raises(UserError, match=r"must be at least 0 and below 1; give 0.2 for a fifth of each class"):
            open_dataset(tmp_path / "photos", held_out=wrong, group=BURST)


# --- Packed data, folds, tuning --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 10 groups of 2 to 4 different images."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("groups") / "photos"
    for label, name in enumerate(("fox", "owl")):
        (root / name).mkdir(parents=True)
        for group in range(10):
            for number in range(2 + group % 3):
                Image.fromarray(draw(rng, label)).save(root / name / f"{name}{group}_{number}.jpg", quality=95)
    return root


@pytest.fixture(scope="module")
def grouped(photos, tmp_path_factory):
    return pack(open_dataset(photos, group=BURST), tmp_path_factory.mktemp("packed") / "data", side=32, codec="jpeg",
                shard_images=7)


def test_a_packed_folder_records_its_groups(photos, grouped):
    assert grouped.manifest.grouped_by == open_packed(grouped.path).manifest.grouped_by == BURST
    assert grouped.division == open_dataset(photos, group=BURST).division
    numbers: dict[str, set[int]] = {}
    for split in ("train", "val"):
        images = grouped.split(split)
        for name, number in zip(images.names, images.groups.tolist(), strict=True):
            numbers.setdefault(animal_of(name), set()).add(number)
    assert {len(each) for each in numbers.values()} == {1}
    assert len(set.union(*numbers.values())) == 20
    streamed = open_stream(grouped.path).split("train")
    assert (streamed.groups == grouped.split("train").groups).all()
    assert (grouped.split("train").subset(np.array([1, 4])).groups == grouped.split("train").groups[[1, 4]]).all()


def test_data_without_groups_has_none(photos, tmp_path):
    packed = pack(open_dataset(photos), tmp_path / "data", side=32)
    assert packed.manifest.grouped_by is None
    assert packed.split("train").groups is None
    assert not list(packed.path.glob("*groups*"))


def test_another_grouping_is_packed_into_another_place_of_the_cache(photos):
    paths = {group: open_or_pack(str(photos), 32, group=group, progress=False).path
             for group in (None, BURST, "{animal}_{any}")}
    assert len(set(paths.values())) == 3
    assert open_or_pack(str(photos), 32, group=BURST, progress=False).path == paths[BURST]


def test_groups_of_packed_data_cannot_be_stated_again(grouped):
    for use in (lambda: open_or_pack(str(grouped.path), 32, group=BURST), lambda: check(grouped.path, group="folder")):
        with pytest.raises(UserError, match=r"is packed already, and --group .* would have no effect"):
            use()


def test_no_group_is_in_two_folds_and_folds_are_of_about_equal_size(grouped):
    held: list[set[str]] = []
    for number in range(1, 6):
        fold = folded(grouped, number, 5)
        train, val = ({animal_of(name) for name in fold.split(split).names} for split in ("train", "val"))
        assert not train & val
        assert 9 <= len(fold.split("val")) <= 13  # of 58; look-alikes join some groups
        assert f"whole groups (--group {BURST})" in fold.division
        held.append(val)
    assert sum(map(len, held)) == len(set.union(*held)) == 20


def test_no_group_is_in_the_tuning_split_and_beside_it(grouped):
    is_tuning_N, train = tuning_images(grouped), np.array([animal_of(name) for name in grouped.split("train").names])
    assert 0 < is_tuning_N.sum() < len(train) / 3
    assert not set(train[is_tuning_N]) & set(train[~is_tuning_N])


def test_no_group_chooses_the_weight_decay_of_the_output_layer_and_is_fitted_too(grouped):
    train = grouped.split("train")
    held_N = held_out(train.labels, train.groups)
    assert 0.1 < held_N.mean() < 0.35
    assert not set(train.groups[held_N].tolist()) & set(train.groups[~held_N].tolist())


def test_folds_are_dealt_evenly():
    """Sizes 4, 3, 2, 2, 1 of one class into two folds: 6 and 6."""
    groups = [group for group, size in zip("abcde", (4, 3, 2, 2, 1), strict=True) for _ in range(size)]
    assert Counter(deal_groups(groups, [0] * 12, 2)) == {0: 6, 1: 6}


def test_groups_that_share_an_image_are_joined_over_others():
    first, second = np.array([[7, 7, 5, 9, 3], [1, 2, 2, 4, 1]], np.uint64)
    joined = join_groups(first, second)
    assert len(set(joined[[0, 1, 2, 4]].tolist())) == 1
    assert joined[3] != joined[0]


# --- What is found ----------------------------------------------------------------------------------------------------


def test_a_group_on_both_sides_of_the_datas_own_split_is_a_finding(tmp_path):
    bursts(tmp_path / "train", groups=8)
    bursts(tmp_path / "val", groups=2, size=3)
    dataset = open_dataset(tmp_path, group=BURST)
    (finding,) = group_findings(Catalog(dataset))
    assert (finding.kind, finding.subject) == ("groups_across_splits", "val")
    assert finding.problem == ("12 images of 12 belong to a group that has training images, such as "
                               "val/fox/fox0_0.jpg and train/fox/fox0_0.jpg")
    assert dataset.held_out == 0
    assert not group_findings(Catalog(open_dataset(tmp_path)))


def test_what_was_found_in_packed_data_is_the_same(tmp_path):
    bursts(tmp_path / "photos" / "train", groups=8)
    bursts(tmp_path / "photos" / "val", groups=2, size=3)
    packed = pack(open_dataset(tmp_path / "photos", group=BURST), tmp_path / "packed", side=16)
    assert "groups_across_splits" in [finding.kind for finding in pack_findings(packed)]
    assert "groups_across_splits" in [finding.kind for finding in check(packed.path).findings]


def test_look_alikes_that_were_held_out_by_chance_name_the_option(tmp_path):
    rng = np.random.default_rng(1)
    for label, name in enumerate(("fox", "owl")):
        (tmp_path / name).mkdir()
        for group in range(4):
            image = Image.fromarray(draw(rng, label)).resize((160, 160))
            for number in range(6):
                image.save(tmp_path / name / f"{name}{group}_{number}.jpg", quality=95 - 3 * number)
    hint = "photos of one animal, patient or burst that are no copies are kept on one side with --group"
    found = {finding.kind: finding.remedy for finding in check(tmp_path).findings}
    assert hint in found["near_copies_across_splits"]
    assert "near_copies_across_splits" not in {finding.kind for finding in check(tmp_path, group=BURST).findings}
