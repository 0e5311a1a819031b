"""A table that seems to label the images and cannot be used: it is named, and never dropped for the folders."""

from pathlib import Path

import pytest

from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from image_files import plant, said


def cameras(root: Path, table: str, second: str = "cam2/IMG") -> Path:
    """20 photos of each of two cameras, with equal names unless `second` says otherwise, and a table of species."""
    plant(root, *(f"{stem}_{number:04}.jpg" for stem in ("cam1/IMG", second) for number in range(20)))
    (root / "labels.csv").write_text(table)
    return root


SPECIES = "file_name,label\n" + "".join(f"IMG_{number:04}.jpg,{('fox', 'owl')[number % 2]}\n" for number in range(20))


def test_a_table_of_names_that_several_images_have_is_refused(tmp_path):
    root = cameras(tmp_path / "amb", SPECIES)
    with pytest.raises(UserError) as refusal:
        open_dataset(root)
    assert refusal.value.problem == (
        f"{root} has folders of images, and labels.csv has other labels (fox, owl), but labels.csv names IMG_0000.jpg, "
        "which may be cam1/IMG_0000.jpg or cam2/IMG_0000.jpg")
    assert refusal.value.remedy == ("give paths relative to the data in the table, and add --labels labels.csv, or add "
                                    "--labels folders for the folders")
    assert open_dataset(root, labels="folders").classes == ("cam1", "cam2")


def test_a_table_with_two_labels_of_one_image_is_refused(tmp_path):
    rows = [f"{stem}_{number:04}.jpg,{('fox', 'owl')[number % 2]}\n" for stem in ("IMG", "DSC") for number in range(20)]
    root = cameras(tmp_path / "twice", "".join(["file_name,label\n", *rows, "IMG_0000.jpg,owl\n"]), "cam2/DSC")
    with pytest.raises(UserError, match=r"has other labels \(fox, owl\), but labels.csv names IMG_0000.jpg twice: "
                                        "'fox', and 'owl'; leave one of the rows out in the table, and add --labels"):
        open_dataset(root)


def test_a_table_whose_labels_are_the_folders_is_only_said_to_be_unused(tmp_path):
    root = cameras(tmp_path / "same", SPECIES.replace(",fox", ",cam1").replace(",owl", ",Cam2"))
    assert "a table beside them is not used: labels.csv names IMG_0000.jpg, which may be" in said(open_dataset(root))


def test_a_table_of_objects_in_the_images_is_no_table_of_labels(tmp_path):
    """Several rows of an image, as annotations have for its objects."""
    table = "filename,class\n" + "".join(f"IMG_{number:04}.jpg,{name}\n" for number in range(20)
                                         for name in ("fox", "owl", "elk"))
    root = cameras(tmp_path / "objects", table, "cam2/DSC")
    assert open_dataset(root).classes == ("cam1", "cam2")
    assert "a table beside them is not used: labels.csv names IMG_0000.jpg twice" in said(open_dataset(root))


# --- Without class folders --------------------------------------------------------------------------------------------

LOOSE = [f"{name}_{number:04}.jpg" for name in ("fox", "owl") for number in range(20)]


@pytest.mark.parametrize(("table", "reason", "remedy"), [
    ("Bild;Art;Ort;Datum\n" + "".join(f"{file};{file[:3]};Ort{number % 3};{number % 28 + 1}.5.2024\n"
                                      for number, file in enumerate(LOOSE)),
     "labels.csv has several columns that may be the labels: Art, Ort, Datum",
     "rename its columns of file names and classes to file_name and label"),
    ("file_name,label\n" + "".join(f"{file},{file[:3]}\n" for file in LOOSE) + "fox_0000.jpg,owl\n",
     "labels.csv names fox_0000.jpg twice: 'fox', and 'owl'", "for the table: leave one of the rows out"),
])
def test_the_first_error_says_why_a_table_is_not_used_even_if_the_names_are_a_pattern(tmp_path, table, reason, remedy):
    plant(tmp_path / "x", *LOOSE)
    (tmp_path / "x" / "labels.csv").write_text(table)
    with pytest.raises(UserError) as refusal:
        open_dataset(tmp_path / "x")
    assert refusal.value.problem == (
        f"{tmp_path / 'x'} holds 40 images and no class folders, and no table labels them: {reason}")
    assert remedy in refusal.value.remedy
    assert refusal.value.remedy.endswith(", or if the labels are in the file names, add --labels '{label}_{n}.jpg'")


def test_labels_that_differ_in_case_are_named_with_their_own_other_spelling(tmp_path):
    """Cells are read without the blanks around them, so `Fox ` is Fox."""
    plant(tmp_path / "x", *LOOSE)
    spellings = ("fox", "Fox ", "owl", "Owl ")
    (tmp_path / "x" / "labels.csv").write_text("file_name,label\n" + "".join(
        f"{file},{spellings[number // 10]}\n" for number, file in enumerate(LOOSE)))
    with pytest.raises(UserError, match="the labels 'Fox' and 'fox' differ in upper and lower case only"):
        open_dataset(tmp_path / "x")
