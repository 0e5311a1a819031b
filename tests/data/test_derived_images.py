"""Copies of images that names give away: no class of their own, and not held out in silence apart from the original."""

import pytest

from alexnet.data.derived_images import held_out_copies, is_derived_folder, original_class, original_stem
from alexnet.data.sources.detect import open_dataset
from image_files import plant, said


@pytest.mark.parametrize(("stem", "original"), [
    ("cat", "cat"), ("cat_aug", "cat"), ("cat_aug_3", "cat"), ("cat-flip", "cat"), ("cat_rot90", "cat"),
    ("cat_flip_rot90", "cat"), ("aug_cat", "cat"), ("cat-150x150", "cat"), ("cat_jpg.rf.0a1b2c", "cat_jpg"),
    ("IMG_1-edited", "IMG_1"), ("cat (1)", "cat (1)"), ("cat_12", "cat_12"), ("crop", "crop"), ("carrot_1", "carrot_1"),
    ("robocopy", "robocopy"), ("aug_0_123", "0_123"),
    ("cat copia", "cat"), ("cat - Kopie", "cat"), ("cat - Copy (2)", "cat"), ("Copy of cat", "cat"),
    ("Kopie von cat", "cat"), ("Copy (3) of cat", "cat"), ("cat \u2014 \u043a\u043e\u043f\u0438\u044f", "cat"),
    ("cat - \u526f\u672c", "cat"), ("cat - Co\u0301pia", "cat"), ("1___GH_HL Leaf 1_newPixel25", "1___GH_HL Leaf 1"),
    ("1_new30degFlipLR", "1"), ("1_90deg", "1"), ("photocopy", "photocopy"), ("copper_1", "copper_1"),
])
def test_the_name_of_the_original(stem: str, original: str):
    assert original_stem(stem) == original


@pytest.mark.parametrize(("name", "original"), [
    ("dog_aug", "Dog"), ("augmented dog", "Dog"), ("dog-test", "Dog"), ("DOG_validation", "Dog"), ("dog", None),
    ("cat_aug", None), ("grey dog", None), ("dog train", None), ("dogtest", None), ("hot dog", None),
])
def test_a_class_that_is_a_form_or_a_part_of_another_one(name: str, original: str | None):
    assert original_class(name, {"dog": "Dog", "wolf": "wolf"}) == original


def test_folders_of_copies():
    assert all(map(is_derived_folder, ("thumbs", "Thumbnails", "augmented", "resized_224", "aug images", "_cropped")))
    assert not any(map(is_derived_folder, ("2019", "grey", "rotation", "copy shop", "small")))


def test_held_out_copies_are_those_of_the_same_folder():
    train = ["cat/a.jpg", "cat/b_flip.jpg", "dog/c.png", "cat/d.jpg"]
    held_out = ["cat/a_flip.jpg", "cat/b.jpg", "dog/a_flip.jpg", "dog/c.jpg", "cat/e.jpg"]
    assert held_out_copies(train, held_out) == [
        ("cat/a_flip.jpg", "cat/a.jpg"), ("cat/b.jpg", "cat/b_flip.jpg"), ("dog/c.jpg", "dog/c.png")]


def test_a_number_in_brackets_makes_a_copy_of_an_image_with_the_bare_name():
    assert held_out_copies(["cat/a.jpg", "cat/b(2).jpg"], ["cat/a (1).jpg", "cat/B.jpg"]) == [
        ("cat/a (1).jpg", "cat/a.jpg"), ("cat/B.jpg", "cat/b(2).jpg")]
    assert not held_out_copies(["cat/a.jpg", "ill/benign (1).jpg"], ["dog/a (1).jpg", "ill/benign (2).jpg"])


def test_many_downloads_of_one_name_are_no_copies():
    downloads = ["cat/images.jpg", *(f"cat/images ({number}).jpg" for number in range(1, 9))]
    assert not held_out_copies(downloads[:6], downloads[6:])


def test_augmented_copies_are_said_if_a_fraction_is_held_out(tmp_path):
    stems = [f"{name}{number}{end}" for name in "cd" for number in range(6) for end in ("", "_aug")]
    folders = plant(tmp_path / "folders", *(f"{stem[0]}/{stem}.jpg" for stem in stems))
    assert "by their names, 2 of the 2 images held out may be copies" in said(open_dataset(folders))
    table = plant(tmp_path / "table", *(f"{stem}.jpg" for stem in stems))
    (table / "labels.csv").write_text("file_name,label\n" + "".join(f"{stem}.jpg,{stem[0]}\n" for stem in stems))
    assert "by their names, 2 of the 2 images held out may be copies" in said(open_dataset(table))
    split = plant(tmp_path / "split", *(f"train/{stem[0]}/{stem}.jpg" for stem in stems), "val/c/x.jpg", "val/d/y.jpg")
    assert "by their names" not in said(open_dataset(split))
