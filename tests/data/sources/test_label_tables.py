"""Labels in a table beside the images, as Hugging Face, Kaggle and Roboflow write them; what is unclear is refused."""

from pathlib import Path

import pytest

from alexnet.data.dataset import Dataset
from alexnet.data.sources.detect import open_dataset
from image_files import names, plant, said, tar_of, trees


def with_table(root: Path, table: str | bytes, *files: str, name: str = "labels.csv") -> Path:
    plant(root, *files)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(table.encode() if isinstance(table, str) else table)
    return root


def labels(dataset: Dataset) -> dict[str, str]:
    return {image.name: dataset.classes[image.label] for split in dataset.splits.values() for image in split}


FILES = ("images/a1.jpg", "images/a2.png", "images/b1.jpg", "images/b2.jpg")
EXPECTED = {"images/a1.jpg": "ash", "images/a2.png": "ash", "images/b1.jpg": "birch", "images/b2.jpg": "birch"}


@pytest.mark.parametrize("table", [
    "file_name,label\nimages/a1.jpg,ash\nimages/a2.png,ash\nimages/b1.jpg,birch\nimages/b2.jpg,birch\n",
    "id,breed\ra1,ash\ra2,ash\rb1,birch\rb2,birch\r",  # line ends of old programs
    "id,breed\na1,ash\na2,ash\nb1,birch\nb2,birch\n",  # Kaggle: without folder and extension
    "id;label\na1;ash\na2;ash\nb1;birch\nb2;birch\n",
    "label\timage\nash\ta1.jpg\nash\ta2.png\nbirch\tb1.jpg\nbirch\tb2.jpg\n",
    "image_id,height,label\na1,10,ash\na2,20,ash\nb1,30,birch\nb2,40,birch\n",
    "filename, ash, birch\na1.jpg, 1, 0\na2.png, 1, 0\nb1.jpg, 0, 1\nb2.jpg, 0, 1\n",  # Roboflow
    "image,ash,birch\na1,1.0,0.0\na2,1.0,0.0\nb1,0.0,1.0\nb2,0.0,1.0\n",  # ISIC 2018
    "path,class_id,class_name\n/kaggle/input/x/images/a1.jpg,0,ash\n/kaggle/input/x/images/a2.png,0,ash\n"
    "/kaggle/input/x/images/b1.jpg,1,birch\n/kaggle/input/x/images/b2.jpg,1,birch\n",
    "images\\a1.jpg,ash\nimages\\a2.png,ash\nimages\\b1.jpg,birch\nimages\\b2.jpg,birch\n",  # no header, Windows
    'file_name,label\n"images/a1.jpg","ash"\n\nIMAGES/A2.PNG, ash \nb1.jpg,birch\nb2.jpg,birch\n,\n'])
def test_a_table_beside_loose_images_labels_them(tmp_path: Path, table: str):
    dataset = open_dataset(with_table(tmp_path / "trees", table, *FILES), held_out=0)
    assert (dataset.classes, labels(dataset)) == (("ash", "birch"), EXPECTED)
    assert "labeled by labels.csv (images in column " in said(dataset)


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "utf-16"),
                                                ("latin-1", "latin-1")])
def test_tables_in_the_encodings_of_spreadsheets(tmp_path: Path, encoding: str, shown: str):
    table = "file_name,label\na1.jpg,Lärche\na2.jpg,Lärche\nb1.jpg,Föhre\n".encode(encoding)
    dataset = open_dataset(with_table(tmp_path / "trees", table, "a1.jpg", "a2.jpg", "b1.jpg"), held_out=0)
    assert dataset.classes == ("Föhre", "Lärche")
    assert (f"read as {shown}" in said(dataset)) == bool(shown)


def test_rows_and_images_that_do_not_fit_are_counted_and_named(tmp_path: Path):
    table = "file_name,label\na1.jpg,ash\na2.jpg,\na3.jpg,ash\nb1.jpg,birch\nb1.jpg,birch\ngone.jpg,ash\nlost.jpg,x\n"
    dataset = open_dataset(with_table(tmp_path / "trees", table, "a1.jpg", "a2.jpg", "a3.jpg", "b1.jpg", "c1.jpg",
                                      "c2.jpg"), held_out=0)
    assert labels(dataset) == {"a1.jpg": "ash", "a3.jpg": "ash", "b1.jpg": "birch"}
    notes = said(dataset)
    assert "left out: 2 rows of labels.csv without an image in the data, such as gone.jpg" in notes
    assert "left out: 1 row of labels.csv without a label: a2.jpg" in notes
    assert "left out: 1 row of labels.csv equal to an earlier one: b1.jpg" in notes
    assert "left out: 3 images without a label, such as a2.jpg" in notes


def test_numbered_labels_are_in_the_order_of_their_numbers(tmp_path: Path):
    table = "id,label\n" + "".join(f"i{number},{number}\n" for number in range(12))
    dataset = open_dataset(with_table(tmp_path / "digits", table, *(f"i{number}.png" for number in range(12))),
                           held_out=0)
    assert dataset.classes == tuple(map(str, range(12)))


def test_rows_of_one_hot_tables_with_several_classes_are_left_out_and_counted(tmp_path: Path):
    table = "filename,ash,birch\na1.jpg,1,0\nb1.jpg,0,1\nb2.jpg,0,1\nab.jpg,1,1\nno.jpg,0,0\n"
    dataset = open_dataset(with_table(tmp_path / "trees", table, "a1.jpg", "b1.jpg", "b2.jpg", "ab.jpg", "no.jpg"),
                           held_out=0)
    assert set(labels(dataset)) == {"a1.jpg", "b1.jpg", "b2.jpg"}
    assert "left out: 2 rows of labels.csv without a single class, such as ab.jpg" in said(dataset)


# --- Splits -----------------------------------------------------------------------------------------------------------


def per_split(dataset: Dataset) -> dict[str, list[str]]:
    return {split: sorted(image.name for image in images) for split, images in dataset.splits.items()}


def test_a_column_of_splits(tmp_path: Path):
    table = ("file_name,label,split\na1.jpg,ash,Train\nb1.jpg,birch,training\na2.jpg,ash,valid\nb2.jpg,birch,val\n"
             "b3.jpg,birch,TEST\n")
    dataset = open_dataset(with_table(tmp_path / "trees", table, "a1.jpg", "b1.jpg", "a2.jpg", "b2.jpg", "b3.jpg"))
    assert per_split(dataset) == {"train": ["a1.jpg", "b1.jpg"], "val": ["a2.jpg", "b2.jpg"], "test": ["b3.jpg"]}
    assert dataset.held_out == 0


def test_a_column_of_validation_images_as_fastai_has_it(tmp_path: Path):
    table = "name,label,is_valid\na1.jpg,ash,False\nb1.jpg,birch,False\na2.jpg,ash,True\n"
    dataset = open_dataset(with_table(tmp_path / "trees", table, "a1.jpg", "b1.jpg", "a2.jpg"))
    assert per_split(dataset) == {"train": ["a1.jpg", "b1.jpg"], "val": ["a2.jpg"]}


def test_roboflow_has_a_one_hot_table_in_each_split(tmp_path: Path):
    root = tmp_path / "rocks"
    for split in ("train", "valid", "test"):
        with_table(root / split, "filename, Basalt, Granite\n" + "".join(
            f"{name}{n}.jpg, {int(name == 'b')}, {int(name == 'g')}\n" for name in "bg" for n in range(2)),
            *(f"{name}{n}.jpg" for name in "bg" for n in range(2)), name="_classes.csv")
    dataset = open_dataset(root)
    assert dataset.classes == ("Basalt", "Granite")
    assert per_split(dataset) == {split: [f"{folder}/{name}.jpg" for name in ("b0", "b1", "g0", "g1")]
                                  for split, folder in (("train", "train"), ("val", "valid"), ("test", "test"))}


def test_hugging_face_has_metadata_in_each_split_also_as_json_lines(tmp_path: Path):
    root = tmp_path / "trees"
    with_table(root / "train", "file_name,label\n0.png,ash\n1.png,birch\n", "0.png", "1.png", name="metadata.csv")
    lines = '{"file_name": "0.png", "label": "ash"}\n{"file_name": "1.png", "label": "birch"}\n'
    with_table(root / "validation", lines, "0.png", "1.png", name="metadata.jsonl")
    assert per_split(open_dataset(root)) == {"train": ["train/0.png", "train/1.png"],
                                             "val": ["validation/0.png", "validation/1.png"]}


def test_kaggle_has_a_table_for_the_training_images_and_a_form_for_predictions(tmp_path: Path):
    names = [f"{name}{number}" for name in "ab" for number in range(10)]
    root = with_table(tmp_path / "dogs", "id,breed\n" + "".join(f"{name},{name[0]}\n" for name in names),
                      *(f"train/{name}.jpg" for name in names), "test/x0.jpg", "test/x1.jpg")
    (root / "sample_submission.csv").write_text("id,a,b\nx0,1,0\nx1,1,0\n")
    dataset = open_dataset(root)
    assert (len(dataset.splits["train"]), len(dataset.splits["val"]), dataset.held_out) == (18, 2, 0.1)
    assert all(name.startswith("train/") for name in labels(dataset))
    assert "left out: 2 images without a label, such as test/x0.jpg" in said(dataset)
    assert "not used: sample_submission.csv is a form for predictions" in said(dataset)
    # The form, and not the table that is used.
    assert "ignored: sample_submission.csv, ./ (images without a label, 2 files)" in said(dataset)


def test_the_same_numbers_in_train_and_test_mean_the_training_images(tmp_path: Path):
    root = with_table(tmp_path / "x", "id,label\n1,ash\n2,birch\n", "train/1.png", "train/2.png", "test/1.png",
                      "test/2.png", name="train.csv")
    assert labels(open_dataset(root, held_out=0)) == {"train/1.png": "ash", "train/2.png": "birch"}


# --- The option, and refusals -----------------------------------------------------------------------------------------


def test_the_option_names_a_table_anywhere_or_within_an_archive(tmp_path: Path):
    plant(tmp_path / "trees", *FILES)
    table = "file_name,label\n" + "".join(f"{file},{label}\n" for file, label in EXPECTED.items())
    (tmp_path / "mine.csv").write_text(table)
    assert labels(open_dataset(tmp_path / "trees", held_out=0, labels=tmp_path / "mine.csv")) == EXPECTED
    files = {file: (tmp_path / "trees" / file).read_bytes() for file in FILES}
    (tmp_path / "trees.tar").write_bytes(tar_of(files | {"meta/mine.csv": table.encode()}))
    assert labels(open_dataset(tmp_path / "trees.tar", held_out=0, labels="meta/mine.csv")) == EXPECTED
    assert labels(open_dataset(tmp_path / "trees.tar", held_out=0)) == EXPECTED
    with pytest.raises(ValueError, match=r"there is no table none\.csv, on disk or in"):
        open_dataset(tmp_path / "trees", labels="none.csv")


def xray(root: Path, *folders: str) -> Path:
    """Four images in each folder; the table labels every second one `ill`."""
    trees(root, folders, 4)
    (root / "Data_Entry.csv").write_text("Image,Finding,label\n" + "".join(
        f"{folder}/{number:03}.jpg,x,{'ill' if number % 2 else 'well'}\n" for folder in folders for number in range(4)))
    return root


def test_a_table_that_contradicts_class_folders_is_not_chosen_in_silence(tmp_path: Path):
    root = xray(tmp_path / "xray", "berlin", "paris")
    with pytest.raises(ValueError, match=r"add --labels Data_Entry\.csv to use the table, or --labels folders"):
        open_dataset(root)
    assert open_dataset(root, labels="Data_Entry.csv").classes == ("ill", "well")
    assert open_dataset(root, labels="folders").classes == ("berlin", "paris")


def test_folders_that_are_parts_of_one_set_are_classes_only_on_request(tmp_path: Path):
    root = trees(tmp_path / "xray", ("images_001", "images_002"), 4)
    with pytest.raises(ValueError, match=r"are named as parts of one set of images.*add --labels folders"):
        open_dataset(root)
    assert open_dataset(root, labels="folders").classes == ("images_001", "images_002")


def test_a_table_labels_images_in_folders_that_are_no_classes(tmp_path: Path):
    """NIH's chest X-rays are in images_001/ to images_012/."""
    assert open_dataset(xray(tmp_path / "xray", "images_001", "images_002")).classes == ("ill", "well")


def test_a_table_that_repeats_the_class_folders_changes_nothing(tmp_path: Path):
    root = trees(tmp_path / "paddy", ("blast", "normal"), 4)
    (root / "train.csv").write_text("image_id,label,age\n" + "".join(
        f"{label}/{number:03}.jpg,{label},45\n" for label in ("blast", "normal") for number in range(4)))
    assert open_dataset(root).classes == ("blast", "normal")


@pytest.mark.parametrize(("table", "problem"), [
    ("file_name,color,size\na1.jpg,red,x\nb1.jpg,blue,y\nb2.jpg,blue,x\n",
     r"labels\.csv has several columns that may be the labels: color, size; copy the table, rename its columns"),
    ("file_name,label,species\na1.jpg,x,ash\nb1.jpg,x,birch\nb2.jpg,y,birch\n", ""),  # `label` is exact
    ("file_name,class,species\na1.jpg,x,ash\nb1.jpg,x,birch\nb2.jpg,y,birch\n", r"several columns .*class, species"),
    ("file_name\na1.jpg\nb1.jpg\n", r"labels\.csv has no column of labels \(columns: file_name\)"),
    ("file_name,label\nx.jpg,ash\ny.jpg,birch\n", r"no column that names images of the data \(columns: file_name"),
    ("file_name,label\na1.jpg,ash\na1.jpg,birch\n", r"labels\.csv names a1\.jpg twice: 'ash', and 'birch'"),
    ("file_name,label\na1.jpg,ash\nb1.jpg,ash\n", r"holds one class, 'ash'"),
    ("file_name,label\na1.jpg,Ash\nb1.jpg,ash\nb2.jpg,oak\n", r"'Ash' and 'ash' differ in upper and lower case only"),
    ("file_name,label\na1.jpg,ash,\nb1.jpg,birch\n", r"labels\.csv, row 2, has 3 cells and the header has 2"),
    ("# of last week\nfile_name,label\na1.jpg,ash\n", r"row 2, has 2 cells .* 1; delete the comment above the header"),
    ("file_name,label\n", r"labels\.csv holds no rows"), ("", r"labels\.csv holds no rows"),
    ("file_name,label\na1.jpg,a\0b\n", r"labels\.csv is not a table of text"),
    ("file_name,label,split\na1.jpg,ash,train\nb1.jpg,birch,somewhere\n",
     r"labels\.csv has 'somewhere' in its column 'split', which is not the name of a split; use train, val and test"),
    ("file_name,label,is_valid\na1.jpg,ash,True\nb1.jpg,birch,maybe\n", r"has 'maybe' in its column 'is_valid'"),
    ("file_name,label,split\na1.jpg,ash,train\na1.jpg,ash,val\n", r"a1\.jpg twice: 'ash' in train, and 'ash' in val"),
    ("file_name,label,set\na1.jpg,ash,x\nb1.jpg,birch,y\n", ""),  # no column of splits
    ("file_name,image,label\na1.jpg,b1.jpg,ash\nb1.jpg,b2.jpg,birch\n", ""),  # `file_name` is exact
    ("image,path,label\na1.jpg,b1.jpg,ash\nb1.jpg,b2.jpg,birch\n", r"several columns that name images: image, path"),
    ("id,image,label\na1,a1.jpg,ash\nb1,b1.jpg,birch\n", "")])  # both name the same images
def test_tables_that_are_unclear_are_refused_with_the_remedy(tmp_path: Path, table: str, problem: str):
    root = with_table(tmp_path / "trees", table, "a1.jpg", "b1.jpg", "b2.jpg")
    if problem:
        with pytest.raises(ValueError, match=problem):
            open_dataset(root, labels=root / "labels.csv")
    else:
        assert len(open_dataset(root, labels=root / "labels.csv").classes) == 2


def test_a_column_of_captions_or_numbers_is_no_column_of_classes(tmp_path: Path):
    table = "file_name,caption\n" + "".join(f"{number}.jpg,a tree {number}\n" for number in range(30))
    root = with_table(tmp_path / "x", table, *(f"{number}.jpg" for number in range(30)))
    with pytest.raises(ValueError, match=r"has 30 different labels for 30 images in .caption., so these are no"):
        open_dataset(root)


def test_a_name_that_may_mean_two_images_is_refused(tmp_path: Path):
    root = with_table(tmp_path / "x", "id,label\n1,ash\n2,birch\n", "one/1.png", "one/2.png", "two/1.png")
    with pytest.raises(ValueError, match=r"labels\.csv names 1, which may be one/1\.png or two/1\.png; give paths"):
        open_dataset(root, labels=root / "labels.csv")


def test_two_tables_that_disagree_are_refused(tmp_path: Path):
    root = with_table(tmp_path / "x", "id,label\na1,ash\nb1,birch\n", "a1.jpg", "b1.jpg")
    (root / "second.csv").write_text("id,label\na1,birch\nb1,birch\n")
    with pytest.raises(ValueError, match=r"two tables label a1\.jpg: 'ash', and 'birch' in second\.csv; name"):
        open_dataset(root)


def test_an_image_in_two_splits_by_two_tables_is_refused(tmp_path: Path):
    root = plant(tmp_path / "x", "a1.jpg", "a2.jpg", "b1.jpg", "b2.jpg")
    rows = {"a1": "ash", "a2": "ash", "b1": "birch", "b2": "birch"}
    (root / "train.csv").write_text("id,label\n" + "".join(f"{name},{label}\n" for name, label in rows.items()))
    (root / "val.csv").write_text("id,label\na1,ash\nb1,birch\n")
    with pytest.raises(ValueError, match=r"two tables have a1\.jpg in two splits: train, and val in val\.csv; leave"):
        open_dataset(root)
    (root / "train.csv").rename(root / "all.csv")  # which states no split
    dataset = open_dataset(root)
    assert (names(dataset, "train"), names(dataset, "val")) == (["a2.jpg", "b2.jpg"], ["a1.jpg", "b1.jpg"])


def test_labels_that_are_the_same_number_are_refused(tmp_path: Path):
    root = with_table(tmp_path / "x", "file_name,label\na1.jpg,1\na2.jpg,01\na3.jpg,2\n", "a1.jpg", "a2.jpg", "a3.jpg")
    with pytest.raises(ValueError, match="the labels '01' and '1' are the same number; give both the same spelling"):
        open_dataset(root)


def test_the_error_names_the_table_of_training_images_and_not_those_of_others(tmp_path: Path):
    """SIIM-ISIC's melanoma competition on Kaggle."""
    root = plant(tmp_path / "x", "jpeg/train/m1.jpg", "jpeg/train/m2.jpg", "jpeg/test/m3.jpg")
    (root / "train.csv").write_text("image_name,diagnosis,target\nm1,unknown,0\nm2,unknown,1\n")
    (root / "test.csv").write_text("image_name,patient\nm3,x\n")
    (root / "a_submission.csv").write_text("image_name,target\nm3,0\n")
    with pytest.raises(ValueError, match=r"no table labels them: train\.csv has several columns that may be the label"):
        open_dataset(root)


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "label,1x1,1x2", "label,pixel0,pixel1"])
def test_a_table_of_pixels_is_named(tmp_path: Path, header: str):
    (tmp_path / "fer").mkdir()
    (tmp_path / "fer/train.csv").write_text(f"{header}\n0,70 80,3\n1,60 90,4\n")
    with pytest.raises(ValueError, match=r"train\.csv seems to hold the images themselves, as numbers in its column .* "
                                         "save each row as an image"):
        open_dataset(tmp_path / "fer")


def test_the_error_for_loose_images_says_why_the_table_does_not_label_them(tmp_path: Path):
    root = with_table(tmp_path / "x", "file_name,color,size\na1.jpg,red,x\nb1.jpg,blue,y\nb2.jpg,blue,x\n",
                      "a1.jpg", "b1.jpg", "b2.jpg")
    with pytest.raises(ValueError, match=r"3 images and no class folders, and no table labels them: labels\.csv has "):
        open_dataset(root)


def test_a_table_of_a_few_images_does_not_replace_folders_that_are_refused(tmp_path: Path):
    root = trees(tmp_path / "x", ("cat", "dog", "test1"), 10)
    (root / "labels.csv").write_text("id,label\ntest1/000.jpg,cat\ntest1/001.jpg,dog\n")
    with pytest.raises(ValueError, match=r"test1/.*, or add --labels labels\.csv"):
        open_dataset(root)


def test_a_table_for_each_image_is_no_table_of_labels(tmp_path: Path):
    root = plant(tmp_path / "x", *(f"{number}.jpg" for number in range(60)))
    for number in range(60):
        (root / f"{number}.csv").write_text(f"file_name,label\n{number}.jpg,{number % 2}\n")
    with pytest.raises(ValueError, match=r"holds 60 tables, such as 0\.csv, and only up to 50 are read; put .*"
                       "or for the table: name the right one with --labels"):
        open_dataset(root)


@pytest.mark.parametrize(("rows", "problem"), [
    ("label cat cat|dog dog", r"labels\.csv gives an image several labels, 'cat|dog' in 'label', and it can have only"),
    ("label a;b b;c c;a", r"several labels, 'a;b'"), ("label ash ash,|birch birch", ""),
    ("age 0.0 1.5 3.0", r"labels\.csv has numbers such as 0\.0 in 'age', and these look like measurements, not class"),
    ("label 1.0 1.5 2.0", r"numbers such as 1\.0 in 'label'"), ("height 11 120 13", r"numbers such as 120 in 'height'"),
    ("label 1.0 0.0 1.0", ""), ("grade 1 2 1", ""), ("label 1 2 3", "")])
def test_several_labels_in_a_cell_and_measurements_are_no_classes(tmp_path: Path, rows: str, problem: str):
    column, *labels = rows.split()
    root = with_table(tmp_path / "x", f"file_name\t{column}\n" + "".join(
        f"{number}.jpg\t{label}\n" for number, label in enumerate(labels)), *(f"{n}.jpg" for n in range(3)))
    if problem:
        with pytest.raises(ValueError, match=problem):
            open_dataset(root, labels="labels.csv")
    else:
        assert set(open_dataset(root, labels="labels.csv", held_out=0).classes) == set(labels)


@pytest.mark.parametrize("missing", ["NaN", "nan", "NA", "N/A", "null", "<NA>"])
def test_a_missing_label_is_no_class(tmp_path: Path, missing: str):
    root = with_table(tmp_path / "x", f"file_name,label\na.jpg,ash\nb.jpg,None\nc.jpg,{missing}\n", "a.jpg", "b.jpg",
                      "c.jpg")
    dataset = open_dataset(root, held_out=0)
    assert dataset.classes == ("None", "ash")  # which may be the class of intact parts
    assert "left out: 1 row of labels.csv without a label: c.jpg" in said(dataset)


def test_columns_that_are_not_used_are_named(tmp_path: Path):
    root = with_table(tmp_path / "x", "file_name,label,fold\na.jpg,ash,0\nb.jpg,birch,1\n", "a.jpg", "b.jpg")
    assert "columns of labels.csv that are not used: fold" in said(open_dataset(root, held_out=0))


def test_a_table_that_swaps_the_folders_contradicts_them(tmp_path: Path):
    root = trees(tmp_path / "x", ("a", "b"), 4)
    (root / "labels.csv").write_text("file_name,label\n" + "".join(
        f"{folder}/{number:03}.jpg,{label}\n" for folder, label in ("ab", "ba") for number in range(4)))
    with pytest.raises(ValueError, match=r"labels\.csv gives these images other labels; add --labels labels\.csv"):
        open_dataset(root)


def test_a_table_beside_class_folders_is_named_as_not_used(tmp_path: Path):
    root = trees(tmp_path / "x", ("0", "1"), 4)
    (root / "labels.csv").write_text("file_name,label\n" + "".join(
        f"{folder}/{number:03}.jpg,{label}\n" for folder, label in (("0", "ash"), ("1", "birch"))
        for number in range(4)))
    assert ("the folders are the classes, so labels.csv is not used; --labels labels.csv would use its labels"
            in said(open_dataset(root)))


def test_a_table_beside_class_folders_that_is_unclear_is_said_to_be_unused_and_why(tmp_path: Path):
    files = ("ash/a1.jpg", "ash/a2.jpg", "birch/a1.jpg", "birch/b2.jpg")
    dataset = open_dataset(with_table(tmp_path / "trees", "file_name,label\na1.jpg,birch\na2.jpg,ash\n", *files))
    assert dataset.classes == ("ash", "birch")
    assert ("the folders are the classes, and a table beside them is not used: labels.csv names a1.jpg, which may be "
            "ash/a1.jpg or birch/a1.jpg") in said(dataset)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_that_tells_excel_the_delimiter_is_no_header(tmp_path: Path, first: str):
    table = f"{first}\r\nfile_name;label\r\na1.jpg;ash, white\r\nb1.jpg;birch\r\n".encode("utf-8-sig")
    dataset = open_dataset(with_table(tmp_path / "trees", table, "a1.jpg", "b1.jpg"), held_out=0)
    assert labels(dataset) == {"a1.jpg": "ash, white", "b1.jpg": "birch"}
