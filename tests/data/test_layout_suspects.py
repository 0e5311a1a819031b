"""Folders that are no classes do not become classes, and what is no image of a class is not trained on, in silence."""

import pytest
from test_layout_listings import Listing, described, files, layout_of

from alexnet.data.layout import describe_layout, read_layout
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from image_files import plant

CATS = "{cat,dog}/#.jpg"


@pytest.mark.parametrize(("patterns", "problem", "remedy"), [
    ("{cat,dog}/#.jpg | {cat,dog}/test/t#.jpg",
     "DATA/cat/test holds 2 images and has the name of a split, inside the class folder cat/",
     "sort the images into train/cat/ and val/cat/, or move test/ away"),
    ("train/{cat,dog}/#.jpg | train/{cat,dog}/val/v#.jpg", "DATA/train/cat/val holds 2 images and has the name",
     "or move val/ away"),
    ("{cat,dog}/2019/#.jpg | dog/2019/Test Set/#.jpg", "DATA/dog/2019/Test Set holds 2 images", "move Test Set/ away"),
    ("{cat,dog}/#.jpg | cat/train/#.jpg", "DATA/cat/train holds 2 images and has the name of a split", "train/cat/"),
    ("benign/benign (#).jpg | benign/benign (#)_mask.jpg | normal/normal (#).jpg",
     "DATA/benign holds 2 images with the name of another image and a word such as mask or label, such as benign (1)",
     "move them away"),
    ("benign/benign (1).jpg | benign/benign (1)_mask_1.jpg | normal/#.jpg", "such as benign (1)_mask_1.jpg", "move"),
    ("{cat,dog}/a#.jpg | dog/a#_mask.png", "DATA/dog holds 2 images with the name of another", "move them away"),
    ("{cat,dog}/a#_crop.png | {cat,dog}/a#_depthcrop.png", "DATA/cat holds 2 images with the name", "move them away"),
    ("{cat,dog}/{train,test}/a#.jpg | dog/train/a1_gt.png", "DATA/dog/train holds 1 image with the name", "move them"),
    *((f"{{cat,dog}}/{image} | cat/{mask}", f"DATA/cat holds 2 images with the name of another image and a word such "
       f"as mask or label, such as {mask.replace('#', '1')}", "move them away")
      for image, mask in (("#.jpg", "mask_#.png"), ("image_#.jpg", "mask_#.png"), ("img_#.jpg", "seg_#.png"),
                          ("IMG_#.jpg", "Mask_IMG_#.png"), ("#_rgb.png", "#_depth.png"), ("#.jpg", "gt-#.png"),
                          ("00#.jpg", "00#_mask.png"), ("x_#.jpg", "x_mask_#.png"),
                          ("x_image_#.jpg", "x_label_#.png"), ("p#_ct.jpg", "p#_ct_lesion.png"),
                          ("#.jpg", "#-overlay.png"), ("#.jpg", "#_heatmap.png"), ("#.jpg", "#_pred.png"),
                          ("ISIC_#.jpg", "ISIC_#_superpixels.png"), ("#_t1.jpg", "#_seg.png"),
                          ("a_#_leftImg8bit.png", "a_#_gtFine_labelIds.png"))),
    ("{ds1,ds2}/train/{cat,dog}/#.jpg", "DATA/ds1/train is a training folder with cat/, dog/, so ds1/ is a data set of "
     "its own and no class", "did you mean DATA/ds1?"),
    ("ds1/train/{cat,dog}/#.jpg | ds2/Training Set/{fox,owl}/#.jpg", "so ds1/ is a data set of its own", "DATA/ds1?"),
    ("bird/#.jpg | {ds1,ds2}/train/{cat,dog}/#.jpg", "so ds1/ is a data set of its own", "did you mean DATA/ds1?"),
    *((f"{{healthy,rust,{name}}}/{name}#.jpg",
       f"DATA/{name} looks like an augmented copy or a split of the class rust/",
       "merge the two, sort them into train/rust/ and test/rust/, or move one away; if both are classes, add --labels")
      for name in ("Rust_aug", "augmented_rust", "rust resized", "rust_test", "rust-val")),
    ("{cat,dog}/#.jpg | cat/thumbs/#.jpg", "DATA/cat/thumbs holds 2 images and has the name of copies of the images "
     "beside it, in the class folder cat/", "move it away; if these are other images, add --labels folders"),
    ("{cat,dog}/{2019,2020}/#.jpg | cat/augmented/#.jpg", "DATA/cat/augmented holds 2 images and has the name", "move"),
    ("{trainA,trainB,testA,testB}/#.jpg", "DATA/trainA holds 2 images and no class folders", "put the images of each"),
    ("Set(Augmented)/Set(Augmented)/{train,valid}/{apple,corn}/#.jpg | test/test/apple#.jpg",
     "DATA holds test/ beside Set(Augmented)/, and DATA/Set(Augmented)/Set(Augmented) is a data set of its own with "
     "train/, valid/", "did you mean DATA/Set(Augmented)/Set(Augmented)?"),
    ("set/colon/{aca,normal}/#.jpg | set/lung/{benign,scc}/n#.jpg", "it is not clear whether the classes in DATA are "
     "colon/, lung/ or the folders in them, such as aca/, normal/", "put the class folders into one folder; if"),
    *((layout, f"{sites} in DATA each hold a folder {name}/, so it is not clear whether the classes are {classes} or "
       f"the folders in them, such as {inner}", f"if {name}/ is a class, put its images into one folder {name}/, in "
       f"which there may be a folder for each of {classes}; if")
      for layout, sites, name, classes, inner in (
        ("siteA/{fox,owl}/a#.jpg | siteB/{fox,church}/b#.jpg", "siteA/, siteB/", "fox", "siteA/, siteB/",
         "church/, fox/, owl/"),
        ("fox/{anna,ben}/a#.jpg | owl/{anna,eve}/b#.jpg", "fox/, owl/", "anna", "fox/, owl/", "anna/, ben/, eve/"),
        ("train/a/{Fox,owl,elk}/a#.jpg | train/b/{fox,hare,bear}/b#.jpg | train/c/lynx/c#.jpg", "a/, b/", "fox",
         "a/, b/, c/", "Fox/, bear/, elk/ and 4 more"),
        ("siteA/fox/a#.jpg | siteB/{fox,owl}/b#.jpg | siteC/elk/c#.jpg", "siteA/, siteB/", "fox",
         "siteA/, siteB/, siteC/", "elk/, fox/, owl/"))),
    ("JPEGImages/2007_00003#.jpg | {SegmentationClass,SegmentationObject}/2007_00003#.png",
     "DATA/SegmentationClass holds no images of its own", "did you mean DATA/JPEGImages?"),
    ("{rgb,thermal}/{oak,ash,elm,fir,yew}.jpg", "rgb/ and thermal/ in the folder DATA hold files of the same names",
     "name the one to use"),
    (f"{CATS} | fox/im#", "DATA/fox holds no image, but 2 files (no extension)", "the extension of their format"),
    (f"{CATS} | fox/im#.jpg_large", "DATA/fox holds no image, but 2 files (.jpg_large)", "--labels folders to"),
    (f"{CATS} | fox/deep/im#.npy", "DATA/fox holds no image, but 2 files (.npy)", "if it is not, move it away"),
    ("train/{cat,dog}/#.jpg | val/cat/#.jpg | val/dog/#", "DATA/val/dog holds no image, but 2 files", "give its"),
    ("train/{cat,dog}/#.jpg | val/{cat,dog}/#", "DATA/val holds no image, but 4 files (no extension)", "give"),
    ("train/{cat,dog,unlabeled}/#.jpg", "DATA/train/unlabeled holds 2 images, and its name is not that of a class",
     "move it away; if it is a class, add --labels folders"),
    ("{cat,cat - Copy,dog}/#.jpg", "DATA/cat - Copy looks like a copy of cat/", "move it away; if it is a class"),
    ("{cat,cat (1),dog}/#.jpg", "DATA/cat (1) looks like a copy of cat/", "move it away"),
    *((f"{{cat,dog,{name}}}/#.jpg", f"DATA/{name} holds 2 images, and its name is not that of a class", "move it away")
      for name in ("New folder", "New folder (2)", "unsorted", "query", "thumbnails", "Thumbs", "Recycle Bin",
                   "Corbeille", "checkpoints", "tensorboard", "ground_truth", "Ground Truth", "Annotations_png",
                   "SegmentationClass", "images", "JPEGImages", "all_images", "dataset",
                   "misc", "unclear", "deleted", "originals", "cropped", "labels", "Sonstiges", "Miscellaneous",
                   "to check", "gel\u00f6scht", "Labels (2)",
                   "dupes", "ignore", "Excluded", "augmented_images", "aug data")),
    ("train/{cat,dog,trainval}/#.jpg", "DATA/train/trainval holds 2 images, and its name is not that", "move it away"),
    ("{cat,dog,cat \u2014 \u043a\u043e\u043f\u0438\u044f}/#.jpg", "looks like a copy of cat/", "move it away"),
    *((f"{{cat,dog,{name}}}/#.jpg", f"DATA holds {name}/ beside cat/, dog/, so it is not clear", "move it away")
      for name in ("holdouts", "cross_validation", "test-v2", "inference", "tests", "trainval", "train_val",
                   "public_test", "PrivateTest", "val_old", "test-backup", "train_old", "val_test",
                   "Training-Validation", "valtest", "test_images_only", "predict_me", "images_to_predict",
                   "stage1_test")),
    ("{cat,dog,public_test,private_test}/#.jpg", "DATA holds private_test/, public_test/ beside cat/, dog/", "move"),
])
def test_what_only_looks_like_a_class_is_refused(patterns: str, problem: str, remedy: str):
    with pytest.raises(UserError) as refusal:
        layout_of(patterns)
    assert problem in refusal.value.problem
    assert remedy in refusal.value.remedy


@pytest.mark.parametrize(("patterns", "classes"), [
    ("{cat,dog}/#.jpg | cat/test/#.jpg", ("cat", "dog")),
    ("{cat,dog}/a#.jpg | cat/a#_mask.jpg", ("cat", "dog")),
    ("{cat,dog}/#.jpg | fox/#.npy", ("cat", "dog")),
    ("{cat,dog,gallery}/#.jpg", ("cat", "dog", "gallery")),
    ("siteA/{fox,owl}/#.jpg | siteB/{fox,church}/#.jpg", ("siteA", "siteB")),
    ("train/{cat,dog,unlabeled}/#.jpg", ("cat", "dog", "unlabeled")),
])
def test_what_is_only_suspicious_is_taken_on_request(patterns: str, classes: tuple[str, ...]):
    listing = Listing(*(file for pattern in patterns.split(" | ") for file in files(pattern)))
    with pytest.raises(UserError, match="add --labels folders"):
        read_layout(listing)
    assert read_layout(listing, trust_folders=True).classes == classes


def test_the_option_reaches_the_checks(tmp_path):
    plant(tmp_path, "cat/1.jpg", "dog/1.jpg", "gallery/1.jpg")
    with pytest.raises(UserError, match="its name is not that of a class"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, labels="folders").classes == ("cat", "dog", "gallery")


@pytest.mark.parametrize("patterns", [
    "{cat,dog}/mask_#.jpg",  # no image that these belong to
    "{bottle,can}/#_label.jpg",
    "{melanoma,nevus}/{image,lesion}_#.jpg",
    "{melanoma,nevus}/#_lesion.jpg",
    "{apr,aug}/#.jpg",  # months
    "{cat,dog} (1)/#.jpg",  # no original beside them
    "{cat,dog}/train/#.jpg",
    "{cat,dog}/train/{2019,2020}/#.jpg",
    "AD/{p1,p2}/#.jpg | CN/{p3,p4}/#.jpg",  # patients
    "AD/{left,top}/#.jpg | CN/{left,low}/#.jpg",  # parts of the body
    "AD/{left,axial}/#.jpg | CN/{left,coronal}/#.jpg",  # views
    "fox/{night,summer}/#.jpg | owl/{night,winter}/#.jpg",
    "fox/{images,ben}/#.jpg | owl/{images,eve}/#.jpg",
    "fox/{anna,ben}/#.jpg | owl/{anna,eve}/#.jpg | {fox,owl}/x#.jpg",  # images beside the folders
    "{fox,owl}/originals/#.jpg",
    "{wolf,grey wolf}/#.jpg",
    "{toy,toy train}/#.jpg",
    "{cat,dog}/resized/#.jpg",
    "{original,fake}/#.jpg",
    "{crop,weed}/#.jpg",
    "{accepted,rejected}/#.jpg",
    "{label,barcode}/#.jpg",
    "{cat,dog}/{seg_1,label_2,image_9}.jpg",
    "{cat,dog}/{image_#,mask}.jpg",
    "{cat,dog}/#.jpg | docs/readme.md",
    "{cat,dog}/#.jpg | annotations/#.xml",
    "{cat,dog}/#.jpg | fox/Thumbs.db",
])
def test_what_proves_nothing_is_no_fault(patterns: str):
    assert len(layout_of(patterns).classes) == 2


@pytest.mark.parametrize("name", ["@tmp", "@__thumb", "@SynoResource", "_gsdata_", "Network Trash Folder",
                                  "Temporary Items", "iPod Photo Cache", "My.photoslibrary", "Previews.lrdata",
                                  "wandb", "mlruns", "lightning_logs", "venv"])
def test_folders_of_systems_and_programs_are_named_and_are_no_class(name: str):
    layout = layout_of(f"{{cat,dog,{name}}}/#.jpg")
    assert layout.classes == ("cat", "dog")
    assert f"ignored: {name}/ (hidden or system folder, 2 files)" in described(layout)


def test_every_folder_inside_a_class_is_said():
    assert layout_of("{cat,dog}/#.jpg | cat/{small,224x224}/s#.jpg | train.txt").notes[0] == (
        "the images in the folders inside a class folder are images of this class: cat/ (224x224/, small/)")


def test_class_folders_with_images_beside_their_splits_are_said_to_hold_both():
    with pytest.raises(UserError, match=r"DATA/cat holds Test/, train/, and images beside them; give every"):
        layout_of("{cat,dog}/{train,Test}/#.jpg | {cat,dog}/#.jpg")
    with pytest.raises(UserError, match=r"DATA/cat holds Test/, train/, and DATA/dog holds images beside them"):
        layout_of("{cat,dog}/{train,Test}/#.jpg | dog/#.jpg")


def test_one_class_of_a_split_is_counted_in_the_singular():
    layout = layout_of("train/{cat,dog}/#.jpg | val/cat/#.jpg")
    assert "val/: 1 class (cat 2); ignored" in describe_layout(layout, "DATA", layout.classes)
