"""--group where it was wrong once: patterns of paths, spellings of names, data of which no group can be held out."""

import unicodedata

import numpy as np
import pytest

from alexnet.data.folds import copies_and_groups
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.inference.calibration import fitting_half
from alexnet.inference.label_check import out_of_fold_logits
from image_files import names, plant, said

PATIENTS = [f"p{number:02}" for number in range(6)]


def patients(dataset, split: str) -> set[str]:
    return {name.split("/")[-2] for name in names(dataset, split)}


# --- Patterns with a slash ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["{patient}/{n}.jpg", "{any}/{patient}/{n}.jpg"])
def test_a_patient_with_photos_in_two_classes_is_one_group_by_a_pattern_of_the_path(tmp_path, pattern):
    plant(tmp_path, *(f"{name}/{patient}/{number}.jpg" for name in ("mel", "nevus") for patient in PATIENTS
                      for number in range(3)))
    dataset = open_dataset(tmp_path, group=pattern, labels="folders", held_out=0.3)
    assert set(dataset.grouping.groups.values()) == set(PATIENTS)
    assert patients(dataset, "val")
    assert not patients(dataset, "train") & patients(dataset, "val")


def test_a_patient_in_train_and_val_of_the_data_is_one_group_by_a_pattern_of_the_path(tmp_path):
    plant(tmp_path, *(f"{split}/{name}/p01/{split}{number}.jpg" for split in ("train", "val")
                      for name in ("mel", "nevus") for number in range(3)),
          *(f"train/mel/p02/x{number}.jpg" for number in range(3)))
    dataset = open_dataset(tmp_path, group="{patient}/{any}{n}.jpg", labels="folders")
    assert set(dataset.grouping.groups.values()) == {"p01", "p02"}
    both = open_dataset(tmp_path, group="{class}/{patient}/{any}.jpg", labels="folders")
    assert set(both.grouping.groups.values()) == {"mel\0p01", "mel\0p02", "nevus\0p01"}


# --- Groups that are the classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["{animal}_{n}.jpg", "labels.csv"])
def test_groups_of_which_none_can_be_held_out_are_refused_with_the_remedy(tmp_path, group):
    """A class needs a group to train on. A table of labels is no table of groups, though it can be read as one."""
    files = [f"{name}/{name}_{number}.jpg" for name in ("fox", "owl") for number in range(8)]
    plant(tmp_path / "photos", *files)
    (tmp_path / "photos" / "labels.csv").write_text(
        "\n".join(["file,label", *(f"{file},{file.split('/')[0]}" for file in files)]))
    with pytest.raises(UserError, match=r"leaves nothing to hold out for validation: each of its 2 groups has all "
                                        r"images of a class; give smaller groups, .* or put images of other groups "
                                        r"into a folder val/"):
        open_dataset(tmp_path / "photos", group=group, labels="folders")
    assert set(open_dataset(tmp_path / "photos", group=group, labels="folders", held_out=0).splits) == {"train"}


# --- Spellings ----------------------------------------------------------------------------------------------------


def test_the_class_folder_is_found_however_a_file_system_composes_its_accents(tmp_path):
    """macOS decomposes the accents of file names (NFD); the names of classes are composed (NFC)."""
    for form in ("NFC", "NFD"):
        files = [f"{name}/{site}/{number}.jpg" for name in ("bär", "löwe") for site in ("Höhle", "Wald", "Moor")
                 for number in range(3)]
        plant(tmp_path / form, *(unicodedata.normalize(form, file) for file in files))
        dataset = open_dataset(tmp_path / form, group="folder")
        assert set(dataset.grouping.groups.values()) == {"höhle", "wald", "moor"}


@pytest.mark.parametrize(("group", "files", "note"), [
    ("folder", ("fox/Site1/0.jpg", "fox/Site2/1.jpg", "owl/site1/2.jpg", "owl/site2/3.jpg"),
     "2 groups differ from another only in spelling (upper and lower case, or Unicode) and are one group with it, such "
     "as 'site1' and 'Site1'"),
    ("{animal}_{n}.jpg", ("fox/Rex_1.jpg", "fox/rex_2.jpg", "owl/Ben_1.jpg", "owl/Zoe_2.jpg"),
     "1 group differs from another only in spelling (upper and lower case, or Unicode) and is one group with "
     "it: 'rex' and 'Rex'"),
    ("who.csv", ("fox/0.jpg", "fox/1.jpg", "owl/2.jpg", "owl/3.jpg"),
     "1 group differs from another only in spelling (upper and lower case, or Unicode) and is one group with "
     "it: 'ANNA' and 'Anna'")])
def test_groups_that_differ_in_case_only_are_one_and_that_is_said(tmp_path, group, files, note):
    plant(tmp_path, *files)
    who = zip(files, ("Anna", "ANNA", "Ben", "Zoe"), strict=True)
    (tmp_path / "who.csv").write_text("\n".join(["file,group", *map(",".join, who)]))
    dataset = open_dataset(tmp_path, group=group, labels="folders", held_out=0)
    assert set(dataset.grouping.groups.values()) == {
        "folder": {"site1", "site2"}, "who.csv": {"anna", "ben", "zoe"}}.get(group, {"rex", "ben", "zoe"})
    assert note in said(dataset)


def test_a_pattern_matches_names_however_their_accents_are_composed(tmp_path):
    plant(tmp_path, *(unicodedata.normalize("NFD", f"{name}/für_{animal}_{number}.jpg")
                      for name in ("fox", "owl") for animal in "ab" for number in range(3)))
    dataset = open_dataset(tmp_path, group="für_{animal}_{n}.jpg", held_out=0, labels="folders")
    assert set(dataset.grouping.groups.values()) == {"a", "b"}


# --- Classifiers that are fitted to other images ------------------------------------------------------------------


def random_numbers(images: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**63, images, np.uint64)


def test_siblings_of_a_burst_do_not_vouch_for_each_others_labels():
    """Bursts of 5 images with features of their own and random labels: only a sibling can tell an image's label."""
    rng = np.random.default_rng(0)
    features_BD, labels_B = rng.normal(0, 1, (80, 100)), np.arange(80) % 2
    features_ND = np.repeat(features_BD, 5, 0).astype(np.float32) + rng.normal(0, 0.05, (400, 100)).astype(np.float32)
    labels_N, groups_N = np.repeat(labels_B, 5), np.repeat(random_numbers(80, 1), 5)
    right = {name: (out_of_fold_logits(features_ND, labels_N, random_numbers(400, 2), 2, given).argmax(1)
                    == labels_N).mean() for name, given in (("alone", None), ("groups", groups_N))}
    assert right["alone"] > 0.9
    assert right["groups"] < 0.65


def test_a_class_that_is_one_group_is_judged_by_classifiers_that_know_it():
    rng = np.random.default_rng(0)
    labels_N = np.repeat([0, 1, 2], 40)
    features_ND = (np.eye(3)[labels_N] + rng.normal(0, 0.1, (120, 3))).astype(np.float32)
    groups_N = np.concatenate([np.repeat(random_numbers(16, 3), 5), np.full(40, 7, np.uint64)])
    logits_NK = out_of_fold_logits(features_ND, labels_N, random_numbers(120, 4), 3, groups_N)
    assert (logits_NK.argmax(1) == labels_N).all()


def test_no_group_fits_a_temperature_and_measures_it():
    groups_N = np.repeat(random_numbers(20, 5), 10)
    content_N = random_numbers(200, 6)
    content_N[0] = content_N[199]  # copies in two groups join these
    fits_N = fitting_half(copies_and_groups(content_N, groups_N))
    assert 80 <= fits_N.sum() <= 120
    assert all(len(set(fits_N[groups_N == group].tolist())) == 1 for group in set(groups_N.tolist()))
    assert fits_N[0] == fits_N[199]
