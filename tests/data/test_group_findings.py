"""A wrong --group is a finding, and hides none: groups of one image, images without a group, names on both sides."""

import pytest

from alexnet.data.catalog import Catalog
from alexnet.data.findings import pack_findings
from alexnet.data.group_findings import division_findings, grouping_findings
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from image_files import plant, said

ANIMALS = ("anna", "ben", "carl", "dora", "emil", "fred", "gina", "hans", "ida", "kim")


@pytest.fixture
def animals(tmp_path):
    """60 photos of 10 animals of two classes: anna_0.jpg to kim_5.jpg."""
    return plant(tmp_path / "animals", *(f"{('fox', 'owl')[number % 2]}/{animal}_{photo}.jpg"
                                         for number, animal in enumerate(ANIMALS) for photo in range(6)))


def found(folder, group=None) -> dict[str, str]:
    return {finding.kind: str(finding) for finding in division_findings(Catalog(open_dataset(folder, group=group)))}


def test_the_right_groups_have_no_finding(animals):
    assert found(animals, "{animal}_{n}.jpg") == {}


@pytest.mark.parametrize("group", ["{animal}_{x}.jpg", "{x}.jpg"])
def test_groups_of_one_image_are_found_and_the_names_are_compared_all_the_same(animals, group):
    assert found(animals).keys() == {"divided_names"}
    findings = found(animals, group)
    assert findings.keys() == {"single_groups", "divided_names"}
    assert findings["single_groups"].startswith(
        f"each of the 60 groups has 1 image with --group '{group}', such as that of ")
    assert "by their names, 6 validation images of 6 show the same object" in findings["divided_names"]
    assert f"--group '{{group}}_{{n}}.jpg' in place of '{group}'" in findings["divided_names"]


def test_two_animals_of_two_images_among_single_ones_are_nearly_none(animals):
    """58 groups of 60 images: 56 / 58 = 97% have one image."""
    plant(animals, "owl/anna_0.jpg", "owl/carl_0.jpg")
    for name in ("fox/anna_1.jpg", "fox/carl_1.jpg"):
        (animals / name).unlink()
    assert found(animals, "{animal}_{x}.jpg")["single_groups"].startswith("56 of the 58 groups have 1 image with")


def test_a_pack_has_the_findings_of_its_originals(animals, tmp_path):
    table = tmp_path / "half.csv"
    table.write_text("file_name,group\n" + "".join(
        f"{animal}_{photo}.jpg,{animal}\n" for animal in ANIMALS[:5] for photo in range(6)))
    for source in (dataset := open_dataset(animals, group=str(table)), pack(dataset, tmp_path / "packed", side=8)):
        (finding,) = grouping_findings(Catalog(source))
        assert (finding.kind, finding.problem.partition(", such as")[0]) == (
            "no_group", f"30 images of 60 have no group with --group {table}")
    assert "no_group" in [each.kind for each in pack_findings(source)]


def test_a_few_images_without_a_group_are_a_note(animals, tmp_path):
    table = tmp_path / "most.csv"
    table.write_text("file_name,group\n" + "".join(
        f"{animal}_{photo}.jpg,{animal}\n" for animal in ANIMALS for photo in range(6 - (animal == "kim"))))
    dataset = open_dataset(animals, group=str(table))
    assert grouping_findings(Catalog(dataset)) == []
    assert "1 of 60 images has no group" in said(dataset)


def test_blocks_of_frames_of_one_recording_are_taken_as_stated(tmp_path):
    """Two frames at the borders of a block are next to training images; the others are not."""
    plant(tmp_path, *(f"{name}/frame_{number:03}.jpg" for name in ("fox", "owl") for number in range(100)))
    assert "of one recording" in found(tmp_path)["divided_names"]
    assert found(tmp_path, r"(?P<group>.*?)\d\.\w+$") == {}


def test_an_option_that_is_given_already_is_not_suggested_again(animals):
    """anna-2.jpg belongs to anna_1.jpg, and the pattern does not match it."""
    for animal in ANIMALS:
        for path in animals.rglob(f"{animal}_[45].jpg"):
            path.rename(path.with_name(path.name.replace("_", "-")))
    remedy = found(animals, "{group}_{n}.jpg")["divided_names"].partition("; if so, ")[2]
    assert remedy == ("--group '{group}_{n}.jpg' does not match all of these names: rename the files, or give the "
                      "groups in a table with columns file_name and group")


def test_a_note_names_groups_with_their_sizes(animals):
    assert ("--group {animal}_{n}.jpg: 10 groups of 6 images, such as anna: 6 images, ben: 6 images, carl: 6 images"
            in said(open_dataset(animals, group="{animal}_{n}.jpg")))


@pytest.mark.parametrize(("option", "pattern", "pair"), [
    ("group", "{animal}{any}.jpg", "{animal}{any}"), ("group", "{any}{animal}.jpg", "{any}{animal}"),
    ("group", "{animal}{photo}_{n}.jpg", "{animal}{photo}"), ("labels", "{label}{any}.jpg", "{label}{any}"),
])
def test_fields_side_by_side_are_refused(animals, option, pattern, pair):
    with pytest.raises(UserError) as refusal:
        open_dataset(animals, **{option: pattern})
    assert refusal.value.problem.startswith(f"the {option.removesuffix('s')} pattern {pattern!r} has {pair} side by "
                                            "side")
    assert f"as in '{pair.replace('}{', '}_{')}'" in refusal.value.remedy


def test_a_field_beside_digits_ends_at_them(animals):
    plant(animals, *(f"fox/{animal}{photo}.jpg" for animal in "xyz" for photo in range(3)))
    dataset = open_dataset(animals, group="{animal}{n}.jpg")
    assert {"x", "y", "z"} <= set(dataset.grouping.groups.values())
