"""What folders as people have them are understood to be: lists of files in, splits and classes or a refusal out."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.data.layout import Layout, describe_layout, read_layout
from alexnet.errors import UserError


class Listing:
    """A tree that is only a list of files; a path with a slash at the end is an empty folder."""

    name, source = "DATA", "DATA"

    def __init__(self, *paths: str, skipped: Mapping[str, str] | None = None) -> None:
        self.skipped = skipped or {}
        self.files = tuple(sorted(path for path in paths if not path.endswith("/")))
        above = {"/".join(parts[:level]) for path in paths for parts in [path.split("/")]
                 for level in range(1, len(parts))}
        self.folders = tuple(sorted(above))

    def read(self, file):
        raise AssertionError(f"a layout opened {file}")

    image = read


def files(pattern: str, count: int = 2) -> list[str]:
    """The files of a pattern: {a,b} stands for a and b, and # for a number from 1 to `count`."""
    if "{" in pattern:
        before, _, rest = pattern.partition("{")
        choices, _, after = rest.partition("}")
        return [file for choice in choices.split(",") for file in files(f"{before}{choice}{after}", count)]
    return [pattern.replace("#", str(number + 1)) for number in range(count)] if "#" in pattern else [pattern]


def layout_of(patterns: str, held_out: float = 0.0) -> Layout:
    return read_layout(Listing(*(file for pattern in patterns.split(" | ") for file in files(pattern))), held_out)


def understood(layout: Layout) -> dict[str, dict[str, int]]:
    return {split: {name: len(images) for name, images in by_class.items()}
            for split, by_class in layout.splits.items()}


def described(layout: Layout) -> str:
    return describe_layout(layout, "DATA", layout.classes)


CATS_AND_DOGS = {"cat": 2, "dog": 2}


@pytest.mark.parametrize(("patterns", "splits"), [
    ("{cat,dog}/#.jpg", ["train"]),
    ("train/{cat,dog}/#.jpg", ["train"]),
    ("{train,val}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{Train,Test}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{TRAIN,TEST}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train,Val}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{Training,Testing}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{training_set,test_set}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{training_set/training_set,test_set/test_set}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{trainset,valset,testset}/{cat,dog}/#.jpg", ["train", "val", "test"]),
    ("{train_set,dev_set}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train,valid,test}/{cat,dog}/#.jpg | README.roboflow.txt", ["train", "val", "test"]),
    ("{train,validation}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train,eval}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train,Evaluation}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train,dev,test}/{cat,dog}/#.jpg", ["train", "val", "test"]),
    ("{Training Data,Validation Data}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train-images,test-images}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{seg_train/seg_train,seg_test/seg_test}/{cat,dog}/#.jpg | seg_pred/seg_pred/#.jpg", ["train", "val"]),
    ("{birds_train,birds_valid}/{cat,dog}/#.jpg", ["train", "val"]),
    ("chest_xray/{train,val,test}/{cat,dog}/#.jpg", ["train", "val", "test"]),
    ("archive/dataset/{train,val}/{cat,dog}/#.jpg", ["train", "val"]),
    ("flower_photos/{cat,dog}/#.jpg | flower_photos/LICENSE.txt", ["train"]),
    ("food-101/images/{cat,dog}/#.jpg | food-101/meta/{classes,train}.txt", ["train"]),
    ("images/{train,val}/{cat,dog}/#.jpg | labels/{train,val}/#.txt", ["train", "val"]),
    ("train/images/{cat,dog}/#.jpg | test/images/{cat,dog}/#.jpg", ["train", "val"]),
    ("train/{cat,dog}/images/#.JPEG | val/{cat,dog}/images/#.JPEG", ["train", "val"]),
    ("{train_mini,val}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{trainval,test}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{train_val,tests}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{Training,PublicTest}/{cat,dog}/#.jpg", ["train", "val"]),
    ("data/train_val/{train,val}/{cat,dog}/#.jpg", ["train", "val"]),
    ("{cat,dog}/{train,val}/#.jpg", ["train", "val"]),
    ("{cat,dog}/{Train,Test}/#.jpg", ["train", "val"]),
    ("{cat,dog}/{train,val,test}/#.jpg", ["train", "val", "test"]),
    ("pets/{cat,dog}/{train,test}/#.jpg", ["train", "val"]),
])
def test_splits_are_found_under_the_names_that_people_give_them(patterns: str, splits: list[str]):
    assert understood(layout_of(patterns)) == dict.fromkeys(splits, CATS_AND_DOGS)


@pytest.mark.parametrize(("patterns", "ignored"), [
    ("{cat,dog,@eaDir}/#.jpg", "@eaDir/ (hidden or system folder, 2 files)"),
    ("{cat,dog,$RECYCLE.BIN}/#.jpg", "$RECYCLE.BIN/ (hidden or system folder, 2 files)"),
    ("{cat,dog}/#.jpg | __MACOSX/cat/._#.jpg", "__MACOSX/ (hidden or system folder, 2 files)"),
    ("{cat,dog,System Volume Information}/#.jpg", "System Volume Information/ (hidden or system folder, 2 files)"),
    ("{cat,dog,lost+found,.ipynb_checkpoints}/#.jpg", "lost+found/ (hidden or system folder, 2 files)"),
    ("{cat,dog}/#.jpg | cat/.ipynb_checkpoints/#-checkpoint.jpg", "cat/.ipynb_checkpoints/ (hidden or system folder"),
    ("{cat,dog}/#.jpg | cat/@eaDir/#.jpg/SYNOPHOTO_THUMB_M.jpg", "cat/@eaDir/ (hidden or system folder, 2 files)"),
    ("{cat,dog}/#.jpg | {cat,dog}/Thumbs.db | {cat,dog}/desktop.ini", "./ (hidden or system, 4 files)"),
    ("{cat,dog}/#.jpg | {cat,dog}/._#.jpg | .DS_Store", "./ (hidden or system, 5 files)"),
    ("{cat,dog}/#.jpg | runs/a/{log.jsonl,config.json} | runs/a/figures/#.png", "runs/a/ (run of alexnet, 4 files)"),
    ("{cat,dog}/#.jpg | figures/{figure1,figure2,top-patches}.png | figures/.DS_Store",
     "figures/ (figures that alexnet drew, 4 files)"),
    ("{cat,dog}/#.jpg | packed/{manifest.json,mean.npy,train-00000.npy}", "packed/ (packed data set, 3 files)"),
    ("{cat,dog}/#.jpg | best/{checkpoint.json,weights.safetensors}", "best/ (checkpoint of alexnet, 2 files)"),
    ("{cat,dog}/#.jpg | #.jpg", "./ (images beside the class folders, 2 files)"),
    ("{cat,dog}/#.jpg | fir/", "fir/ (no images)"),
    ("{cat,dog}/#.jpg | cat/#.txt", "cat/ (.txt, 2 files)"),
    ("{cat,dog}/#.jpg | cat/Thumbs.db | dog/notes.TXT | LICENSE", "LICENSE, cat/Thumbs.db, dog/notes.TXT"),
    ("{cat,dog}/#.jpg | cat/new.NEF", "cat/new.NEF (camera raw, which cannot be decoded)"),
    ("train/{cat,dog}/#.jpg | val/", "val/ (no images)"),
    ("train/{cat,dog}/#.jpg | test/#.jpg", "test/ (no class folders, so no labels, 2 files)"),
    ("train/{cat,dog}/#.jpg | test1/test1/#.jpg", "test1/ (no class folders, so no labels, 2 files)"),
    ("train/{cat,dog}/#.jpg | test/unknown/#.jpg", "test/ (no class folders, so no labels, 2 files)"),
    ("asl_alphabet_train/asl_alphabet_train/{cat,dog}/#.jpg | asl_alphabet_test/asl_alphabet_test/{A,B}_test.jpg",
     "asl_alphabet_test/ (no class folders, so no labels, 2 files)"),
    ("{seg_train/seg_train,seg_test/seg_test}/{cat,dog}/#.jpg | seg_pred/seg_pred/#.jpg",
     "seg_pred/ (no class folders, so no labels, 2 files)"),
    ("{train,test}/{cat,dog}/#.jpg | single_prediction/#.jpg", "single_prediction/ (beside train/ and no split, 2"),
    ("{train,test}/{cat,dog}/#.jpg | Meta/#.png", "Meta/ (beside train/ and no split, 2 files)"),
    ("{train,val,test,chest_xray/train,chest_xray/val,chest_xray/test}/{cat,dog}/#.jpg",
     "chest_xray/ (beside train/ and no split, 12 files)"),
    ("{train,val,val_old}/{cat,dog}/#.jpg", "val_old/ (beside train/ and no split, 4 files)"),
    ("{train,val}/{cat,dog}/#.jpg | #.jpg", "./ (images beside the class folders, 2 files)"),
    ("{train,val}/{cat,dog}/#.jpg | train/#.jpg", "train/ (images beside the class folders, 2 files)"),
    ("{cat,dog}/{train,test}/#.jpg | overview.png", "./ (images beside the class folders, 1 file)"),
])
def test_what_is_not_used_is_named_and_is_no_class(patterns: str, ignored: str):
    layout = layout_of(patterns)
    assert layout.classes == ("cat", "dog")
    assert ignored in described(layout).partition("; ignored: ")[2]


@pytest.mark.parametrize(("patterns", "problem", "remedy"), [
    ("{cat,dog,test1}/#.jpg", "DATA holds test1/ beside cat/, dog/, so it is not clear whether test1/ is a class",
     "if it is one, rename it; if it is not, move it away"),
    ("{cat,dog,val}/#.jpg", "DATA holds val/ beside cat/, dog/", "rename it"),
    ("{cat,dog}/#.jpg | val/{cat,dog}/#.jpg", "DATA holds val/ beside cat/, dog/", "sort the others into a folder"),
    ("{bus,car}/#.jpg | train/{freight,passenger}/#.jpg",
     "DATA/train looks like a training folder, and bus/, car/ with images stand beside it",
     "if train/ is a class, rename it; if it is not, move the others away"),
    ("{val,test}/{cat,dog}/#.jpg", "DATA has test/, val/ but no train/", "name the training folder train"),
    ("test/{cat,dog}/#.jpg", "DATA has test/ but no train/", "or name DATA/test to use it alone"),
    ("{train,test}/#.jpg", "DATA/train holds 2 images and no class folders", "put the images of each class into"),
    ("{train,test1}/{cat,dog}.#.jpg | sampleSubmission.csv", "DATA/train holds 4 images and no class folders", "put"),
    ("{train,Train}/{cat,dog}/#.jpg", "DATA has several training folders: Train/, train/", "merge them"),
    ("{train,public_test,private_test}/{cat,dog}/#.jpg",
     "DATA has several test folders: private_test/ and public_test/", "move all but one away"),
    ("{val_old,test_old}/{cat,dog}/#.jpg", "DATA has test_old/, val_old/ but no train/", "name the training folder"),
    ("{train,val,valid}/{cat,dog}/#.jpg", "DATA has several val folders: val/ and valid/", "merge them"),
    ("train/{cat,dog}/#.jpg | val/#.jpg", "DATA/val has no class folders with images", "sort its images into folders"),
    ("images/Abyssinian_#.jpg | annotations/trimaps/Abyssinian_#.png",
     "DATA/annotations holds no images of its own: its files have the same names as those of images/",
     "did you mean DATA/images?"),
    ("{train,val}/{images,masks}/#.png", "DATA/train/masks holds no images of its own", "did you mean DATA/train/imag"),
    ("JPEGImages/00#.jpg | Annotations_png/00#.png", "DATA/Annotations_png holds no images of its own: its files have "
     "the same names as those of JPEGImages/", "did you mean DATA/JPEGImages?"),
    ("images/#.jpg | masks/#.png", "DATA/masks holds no images of its own", "did you mean DATA/images?"),
    ("CUB/images/{001.Auk/Auk,002.Owl/Owl}_#.jpg | segmentations/{001.Auk/Auk,002.Owl/Owl}_#.png",
     "DATA/segmentations holds no images", "did you mean DATA/CUB?"),
    ("{cat,dog}/{images,masks}/#.png", "DATA/cat/masks holds no images of its own: its files have the same names as "
     "those of images/", "move the masks away"),
    ("{cat,dog}/#.jpg | cat/cat GT/#.png", "DATA/cat/cat GT holds no images of its own: its files have the same names "
     "as those of the images beside it", "move the cat GT away"),
    ("{Parasitized,Uninfected,cell_images/Parasitized,cell_images/Uninfected}/#.png",
     "DATA/cell_images holds folders with the names of the classes beside it (Parasitized, Uninfected)", "move it"),
    ("{HAM10000_images_part_1,HAM10000_images_part_2}/#.jpg", "are named as parts of one set of images", "--label"),
    ("images_{001,002,003}/images/#.png", "images_001/, images_002/, images_003/ in DATA are named as parts", "--lab"),
    ("data_large/{a/abbey,a/airport,b/bakery,b/bank}/#.jpg",
     "a/, b/ in DATA sort the class folders by their first letter", "put the class folders into one folder"),
    ("flowers/{rose,daisy}/#.jpg | plots/#.png",
     "it is not clear whether the classes are flowers/, plots/ or daisy/, rose/ in DATA/flowers", "name DATA/flowers"),
    ("{val,train_station}/#.jpg", "DATA holds val/ beside train_station/", "rename it"),
    ("{color,grayscale,segmented}/{apple,maize}/#.jpg",
     "color/ and grayscale/ in the folder DATA hold the same folders (apple, maize), so these look like the classes",
     "did you mean DATA/color?"),
    ("plantvillage dataset/{color,grayscale}/{apple,maize}/#.jpg",
     "plantvillage dataset/color/ and plantvillage dataset/grayscale/ in the folder DATA hold the same folders",
     "did you mean DATA/plantvillage dataset/color?"),
    ("{day,night}/{0,1,2,3,4,5,6,7,8,9}/#.jpg", "day/ and night/ in the folder DATA hold the same folders", "did you"),
    ("dataset2/images/{TRAIN,TEST}/{cat,dog}/#.jpg | dataset/#.jpg",
     "DATA/dataset2/images is a data set of its own with TEST/, TRAIN/", "did you mean DATA/dataset2/images?"),
    ("data/{train,val}/{cat,dog}/#.jpg | plots/#.png", "DATA/data is a data set of its own", "did you mean DATA/data?"),
    ("{color,gray}/{train,test}/{cat,dog}/#.jpg", "DATA/color is a data set of its own: it holds test/, train/",
     "did you mean DATA/color?"),
    ("{cat,dog}/{train,test}/#.jpg | bird/#.jpg", "DATA/cat holds test/, train/, and DATA/bird holds images instead",
     "give every class folder the same split folders"),
    ("{cat,dog}/{train,test}/#.jpg | bird/wild/#.jpg", "DATA/bird holds wild/ instead", "give every class folder"),
    ("{Cat,cat,dog}/#.jpg", "Cat/ and cat/ in the folder DATA have the same name but for case", "merge them"),
    ("caf\u00e9/#.jpg | cafe\u0301/#.jpg", "have the same name but for case, accents' encoding", "merge them"),
    ("{cat,dog}/#.jpg | fox/#.CR2",
     "DATA/fox has no image that can be decoded here, but 2 images of the format camera raw", "save it as PNG or JPEG"),
    ("{train,val}/{cat,dog}/#.jpg | val/fox/#.jxl", "DATA/val/fox has no image that can be decoded", "as PNG or JPEG"),
    ("train/{cat,dog}/#.jpg | val/{cat,dog}/#.dng",
     "DATA/val has no image that can be decoded here, but 4 images of the format camera raw", "as PNG or JPEG"),
    ("{cat,dog}/#.psd", "DATA/cat has no image that can be decoded here, but 2 images of the", "as PNG or JPEG"),
    ("#.tga", "DATA has no image that can be decoded here, but 2 images of the format Targa", "as PNG or JPEG"),
    ("train/{cat,dog}/#.jpg | val/{cat,fox}/#.jpg", "DATA/val has class 'fox' and DATA/train has not",
     "classes must have the same names in both"),
    ("{train,val}/{cat,dog}/#.jpg | test/{cat,fox}/#.jpg", "DATA/test has class 'fox'", "the same names in both"),
    # Loose images, of which one lies in a folder; a raw file beside them changes nothing.
    *((f"{{01,02,03,04,05,06,07,08,09,10,11,12,13}}a#.jpg{decoy} | sub/x.jpg",
       "DATA holds 27 images and no class folders", "to classify the images: alexnet predict RUN DATA")
      for decoy in ("", " | x.cr2")),
    ("train/{01,02,03}a#.jpg | train/sub/x.jpg", "DATA/train holds 7 images and no class folders", "RUN DATA/train"),
    ("sub/#.jpg | x.jpg", "DATA holds one class, 'sub', 1 image beside it, and a classifier needs two", "give each"),
    ("sub/#.jpg | x#.cr2", "DATA holds one class, 'sub', 2 images that cannot be decoded here (camera raw), and a",
     "give each class"),
    ("cat/#.jpg", "DATA holds one class, 'cat', and a classifier needs two or more", "give each class its own folder"),
    ("train/cat/#.jpg | val/cat/#.jpg", "DATA/train holds one class, 'cat'", "give each class its own folder"),
    ("photos/{cat,dog}/#.jpg | photos/#.jpg", "DATA holds no class folders of its own, but DATA/photos does",
     "did you mean DATA/photos?"),
    ("#.jpg", "DATA holds 2 images and no class folders", "put the images of each class into a folder"),
    ("#.txt", "DATA holds no class folders with images", "give each class its own folder"),
])
def test_what_is_ambiguous_is_refused_with_the_remedy(patterns: str, problem: str, remedy: str):
    with pytest.raises(UserError) as refusal:
        layout_of(patterns)
    assert problem in refusal.value.problem
    assert remedy in refusal.value.remedy


@pytest.mark.parametrize(("patterns", "classes"), [
    ("{car,plane,train}/#.jpg", ("car", "plane", "train")),
    ("{train_station,bus_station}/#.jpg", ("bus_station", "train_station")),
    ("{new_train,old_train}/#.jpg", ("new_train", "old_train")),
    ("{old,new}/#.jpg", ("new", "old")),
    ("{private,public}/#.jpg", ("private", "public")),
    ("{good,defect}/#.jpg", ("defect", "good")),
    ("{paper,glass,recycled}/#.jpg", ("glass", "paper", "recycled")),
    ("{with_mask,without_mask}/#.jpg", ("with_mask", "without_mask")),
    ("{mask,no_mask}/#.jpg", ("mask", "no_mask")),
    ("{hat,mask,shoe}/#.jpg", ("hat", "mask", "shoe")),
    ("{A,a,B,b}/#.jpg", ("A", "B", "a", "b")),
    ("{Masse,Ma\u00dfe}/#.jpg", ("Masse", "Ma\u00dfe")),
    ("{class_1,class_2}/#.jpg", ("class_1", "class_2")),
    ("{a,b}/#.jpg", ("a", "b")),
    ("{0,1,10,11,2}/#.jpg", ("0", "1", "2", "10", "11")),
    ("{0,1,10,11,2,x}/#.jpg", ("0", "1", "10", "11", "2", "x")),
    ("{cat,dog}/{2019,2020}/#.jpg", ("cat", "dog")),
    ("{cat,dog}/{batch_1,batch_2}/#.jpg", ("cat", "dog")),
    ("{bus,car}/#.jpg | truck/{pickup,semi}/#.jpg", ("bus", "car", "truck")),
    ("Images/{n02085620-Chihuahua,n02085782-Japanese_spaniel}/#.jpg | Annotation/n02085620-Chihuahua/n02085620_#",
     ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")),
    ("cat/#.jpg | dog /#.jpg", ("cat", "dog")),
    ("cafe\u0301/#.jpg | bar/#.jpg", ("bar", "caf\u00e9")),
])
def test_class_names(patterns: str, classes: tuple[str, ...]):
    assert layout_of(patterns).classes == classes


@pytest.mark.parametrize(("train", "val"), [
    ("cat", "Cat"), ("CAT", "cat"), ("caf\u00e9", "cafe\u0301"), ("dog", "dog ")])
def test_class_folders_that_differ_in_case_unicode_form_or_blanks_are_one_class(train: str, val: str):
    layout = layout_of(f"train/{{{train},zebra}}/#.jpg | val/{{{val},zebra}}/#.jpg")
    assert layout.classes == (train, "zebra")
    assert understood(layout)["val"] == {train: 2, "zebra": 2}
    note = f"that differ only in case are one class: {val!r} and {train!r}"
    assert (note in "".join(layout.notes)) == (train in ("cat", "CAT"))


def test_numbered_classes_are_labeled_by_number():
    layout = layout_of("train/{0,1,2,3,4,5,6,7,8,9,10,11}/#.jpg")
    assert layout.classes == tuple(map(str, range(12)))
    assert list(layout.splits["train"]) == list(layout.classes)


def test_the_summary_names_splits_classes_with_counts_and_what_is_ignored():
    layout = layout_of("train/{cat,dog}/#.jpg | train/cat/new.jpg | Val/{cat,dog}/1.jpg | notes.txt")
    assert described(layout) == ("DATA holds train/: 2 classes (cat 3, dog 2), Val/: 2 classes (cat 1, dog 1); "
                                 "ignored: notes.txt")
    assert layout.notes == ()
    assert layout.folders == {"train": "train/", "val": "Val/"}


def test_long_lists_end_in_a_number():
    names = ",".join(f"c{number:02}" for number in range(30))
    note = described(layout_of(f"{{{names}}}/1.jpg", held_out=0.1))
    assert note == ("DATA holds 30 classes (c00 1, c01 1, c02 1, c03 1, c04 1, c05 1 and 24 more); ignored: nothing")


def test_the_summary_counts_images_that_are_held_out_too():
    layout = layout_of("{cat,dog}/{1,2,3,4}.jpg", held_out=0.5)
    assert understood(layout) == {"train": {"cat": 2, "dog": 2}, "val": {"cat": 2, "dog": 2}}
    assert described(layout) == "DATA holds 2 classes (cat 4, dog 4); ignored: nothing"
    assert (layout.held_out, layout.notes) == (0.5, ())


def test_a_test_folder_that_serves_as_validation_set_is_said():
    assert layout_of("{train,test}/{cat,dog}/#.jpg").notes[0] == (
        "test/ is the validation set, as there is no other: training chooses the best epoch on it")


def test_a_small_validation_folder_beside_a_large_test_folder_is_said():
    """Kermany's chest X-rays have 5,216, 16 and 624 images."""
    patterns = "train/{cat,dog}/#.jpg | val/{cat,dog}/1.jpg | test/{cat,dog}/#.jpg"
    paths = [path for pattern in patterns.split(" | ") for path in files(pattern, 5)]
    assert read_layout(Listing(*paths)).notes == (
        "val/ has 2 images only, on which training chooses the best epoch, and test/ has 10: measure on these with "
        "evaluate --split test, or move some of train/ to val/",)
    assert layout_of("{train,val,test}/{cat,dog}/#.jpg").notes == ()


def test_images_in_folders_inside_a_class_are_said():
    assert layout_of("{bus,car}/#.jpg | truck/{pickup,semi}/#.jpg").notes[0] == (
        "the images in the folders inside a class folder are images of this class: truck/ (pickup/, semi/)")


@pytest.mark.parametrize("patterns", [
    "{images,masks}/#.png", "{color,gray}/{apple,maize}/#.jpg", "images_{001,002}/#.png",
    "flowers/{a,b}/#.jpg | plots/#.png"])
def test_folders_that_do_not_look_like_classes_are_classes_on_request(patterns: str):
    listing = Listing(*(file for pattern in patterns.split(" | ") for file in files(pattern)))
    with pytest.raises(UserError, match="are the classes, add --labels folders"):
        read_layout(listing)
    assert len(read_layout(listing, trust_folders=True).classes) == 2


def test_files_of_the_same_names_in_two_folders_are_two_forms_of_one_set():
    names = ",".join(f"leaf{number * 997 % 7919}_{letter}" for number in range(6) for letter in "ab")
    with pytest.raises(UserError, match=r"rgb/ and thermal/ in the folder DATA hold files of the same names"):
        layout_of(f"{{rgb,thermal}}/{{{names}}}.jpg")
    counters = ",".join(f"frame_{number:03}" for number in range(12))
    assert layout_of(f"{{rgb,thermal}}/{{{counters}}}.jpg").classes == ("rgb", "thermal")


def test_unreadable_entries_are_named():
    tree = Listing(*files("{cat,dog}/#.jpg"), skipped={"cat/gone.jpg": "link to nothing"})
    assert "ignored: cat/gone.jpg (link to nothing)" in described(read_layout(tree))


def test_a_wrapper_does_not_change_which_images_are_held_out():
    alone, wrapped = (layout_of(f"{prefix}{{cat,dog}}/{{0,1,2,3,4,5,6,7,8,9}}.jpg", 0.3) for prefix in ("", "deep/er/"))
    assert [f"deep/er/{file}" for file in alone.splits["val"]["cat"]] == wrapped.splits["val"]["cat"]
    assert len(alone.splits["val"]["cat"]) == 3


def test_a_path_of_a_thousand_folders_is_refused():
    with pytest.raises(UserError, match="more than 200 folders inside each other"):
        read_layout(Listing("cat/1.jpg", "dog/1.jpg", "a/" * 1000 + "1.jpg"))


NAMES = st.sampled_from(["cat", "dog", "train", "Val", "test", "test1", "images", "masks", ".git", "__MACOSX", "runs",
                         "seg_train", "2019", "n01440764", "pred"])
FILES = st.sampled_from(["1.jpg", "2.JPG", "3.png", "a.txt", "Thumbs.db", ".DS_Store", "x.nef", "log.jsonl", "noext",
                         "manifest.json", "mean.npy"])
PATHS = st.builds(lambda folders, file: "/".join([*folders, file]), st.lists(NAMES, max_size=4), FILES)


@given(st.lists(PATHS, max_size=40, unique=True), st.sampled_from([0.0, 0.3]))
def test_every_file_is_an_image_of_a_split_or_counted_as_ignored(paths: list[str], held_out: float):
    tree = Listing(*paths)
    try:
        layout = read_layout(tree, held_out)
    except UserError:
        return
    used = Counter(file for by_class in layout.splits.values() for images in by_class.values() for file in images)
    assert set(used.values()) == {1}
    assert set(used) <= set(tree.files)
    assert len(used) + sum(item.count for item in layout.ignored) == len(tree.files)


CLASSES = st.lists(st.sampled_from(["cat", "dog", "fox", "owl"]), min_size=2, max_size=4, unique=True)


@given(CLASSES, st.sampled_from([("train",), ("train", "val"), ("Train", "Val", "Test"), ("trainset", "testset")]),
       st.sampled_from(["", "data/", "a/b/"]), st.lists(PATHS, max_size=6))
def test_what_stands_beside_a_data_set_changes_none_of_its_labels_in_silence(classes, splits, prefix, extra):
    """Extra files may be refused or ignored; images of other classes never join a class."""
    own = [f"{prefix}{split}/{name}/{number}.jpg" for split in splits for name in classes for number in range(3)]
    try:
        layout = read_layout(Listing(*own, *(file for file in extra if file not in own)))
    except UserError:
        return
    for by_class in layout.splits.values():
        for name, images in by_class.items():
            assert all(f"/{name}/" in f"/{file}" for file in images)


JUNK = st.sampled_from(["Thumbs.db", ".DS_Store", "__MACOSX/cat/._1.jpg", "@eaDir/1.jpg", "$RECYCLE.BIN/1.jpg", "a.txt",
                        "runs/a/log.jsonl", "runs/a/figures/mistakes.png", "packed/{manifest.json,mean.npy}",
                        ".ipynb_checkpoints/1-checkpoint.jpg", "figures/figure3.png", "desktop.ini"])


@given(CLASSES, st.sampled_from([(), ("train",), ("train", "val"), ("Train", "Val", "Test")]), st.lists(JUNK))
def test_junk_changes_neither_splits_nor_classes(classes, splits, junk):
    own = [f"{f'{split}/' if split else ''}{name}/{number}.jpg" for split in splits or ("",) for name in classes
           for number in range(3)]
    places = [f"{name}/{file}" for name in ("", *{file.partition('/')[0] for file in own})
              for pattern in junk for file in files(pattern)]
    clean, dirty = (read_layout(Listing(*own, *more)) for more in ((), [place.lstrip("/") for place in places]))
    assert (clean.classes, clean.splits, clean.folders) == (dirty.classes, dirty.splits, dirty.folders)
