"""Refuse folders that look like classes and are none: masks beside images, copies of one data set, data sets inside.

Each check raises a UserError that names the folders and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations

from alexnet.data.derived_images import COPY, is_derived_folder, original_class
from alexnet.data.image_tree import ImageFolder, counted
from alexnet.data.split_folders import ClassFolders, data_sets_within, file_types, listed, shown
from alexnet.data.split_names import is_neutral, is_only_a_split, split_kinds
from alexnet.errors import UserError, require, some

_ANNOTATIONS = re.compile(
    r"(.*[\s_\-])?(annotations?|masks?|labels?|segmentations?|segmentation(class|object)|trimaps?|gt|"
    r"ground[\s_\-]?truths?|bbox(es)?|depths?|overlays?|heatmaps?|superpixels?)"
    r"([\s_\-]+(png|jpe?g|bmp|tiff?|images?|imgs?|files?))*",
    re.IGNORECASE)

_PARTS = re.compile(
    r"(19|20)\d\d|(batch|part|fold|set|session|day|cam|camera|video|seq|sequence|take|subject|person|patient)"
    r"[\s_\-]?\d+", re.IGNORECASE)
"""Names of folders that divide the images of a class and are no classes: 2019, batch_1, cam2."""

_PART_WORDS = {"image", "images", "img", "imgs", "photo", "photos", "part", "parts", "batch", "chunk", "shard",
               "archive", "folder", "fold", "vol", "volume", "split", "data", "dataset", "set", "files"}
"""Words in the names of folders that divide a set of images: HAM10000_images_part_1, images_001."""

_TRUST = "add --labels folders"
"""The remedy for a folder that only looks as if it were no class."""

_SAME_NAMES = 0.9
"""Fraction of the file names that two folders share if one is derived from the other."""

_ANNOTATION_WORDS = (r"masks?|gt|labels?|labelids|depth|seg|segmented|segmentation|annotations?|trimap|"
                     r"ground[\s_\-]?truth|bbox|disparity|overlay|heatmap|pred(?:iction)?|"
                     r"gt(?:fine|coarse)[\s_\-](?:labelids|labeltrainids|instanceids|color)")
_ANNOTATION_END = re.compile(rf"[\s_\-.]+(?:{_ANNOTATION_WORDS}|lesions?|superpixels?)(?P<rest>crop)?"
                             r"(?:[\s_\-.]?\d+)?$", re.IGNORECASE)
"""The end of the name of a file that belongs to an image: benign (1)_mask, cat_1_depthcrop beside cat_1_crop."""

_ANNOTATION_START = re.compile(rf"(?:{_ANNOTATION_WORDS})[\s_\-.]+", re.IGNORECASE)
"""The beginning of such a name: mask_001 beside 001 or image_001."""

_IMAGE_WORDS = ("image", "img", "im", "photo", "rgb", "original", "orig", "frame", "color", "leftimg8bit", "t1",
                "t2", "flair")
"""What stands in the name of the image where its annotation has another word."""

_NO_CLASS = re.compile(
    r"(new[\s_\-]?folder|untitled[\s_\-]?folder|neuer[\s_\-]?ordner|nouveau[\s_\-]?dossier|nueva[\s_\-]?carpeta"
    r"|unsorted|to[\s_\-]?sort|dup(?:e?s|licates?)?|ignored?|skip(?:ped)?|excluded?|backups?|tmp|temp"
    r"|te?mp[\s_\-]?files|query|gallery|probe"
    r"|misc(?:ellaneous)?|unclear|to[\s_\-]?(?:check|review)|deleted?|discarded|originals|cropped|resized|labels"
    r"|sonstiges?|verschiedenes|unklar|gel(?:\u00f6|o\u0308|oe)scht|aussortiert"
    r"|thumbs?|thumbnails?|recycle[\s_\-]?bin|trash|results?|outputs?|corbeille|papierkorb|checkpoints?|tensorboard"
    r"|_*augment(?:ed|ations?)([\s_\-]?(images?|data))?|aug[\s_\-]?(images?|data)"
    r"|ground[\s_\-]?truths?|annotations?([\s_\-]?(png|jpe?g))?|segmentation[\s_\-]?(class|object)|trimaps?"
    r"|(all[\s_\-]?)?(images?|imgs?|jpegimages|data|datasets?))"
    r"([\s_\-]*\(?\d+\)?)?", re.IGNORECASE)
"""Names of folders that people, systems and programs make and that are seldom classes."""

_PART_OF_CLASS = re.compile(
    r".*\d.*|left|right|front|back|rear|side|top|bottom|before|after|above|below|inside|outside|(?:fe)?males?|men|women"
    r"|day|night|indoors?|outdoors?", re.IGNORECASE)
"""Names of folders that classes may share and that are no classes: of patients and dates, of views, of conditions."""

_NO_IMAGES = re.compile(r"docs?|documentation|scripts?|code|src|meta([\s_\-]?data)?", re.IGNORECASE)
"""Names of folders from which nobody expects images."""

_COPY = re.compile(rf"(.+?)([\s_\-\u2014]+({COPY})([\s_\-]*\(?\d+\)?)?|[\s_\-]*\(\d+\))", re.IGNORECASE)
"""The name that a system gives to the copy of a folder: cat - Copy, cat (1)."""


def require_classes(parent: ImageFolder, source: str) -> None:
    """Raise UserError if the folders in `parent` do not look like classes.

    Args:
        parent: the folder that is about to be understood as a folder of class folders.
        source: the tree as the user knows it, for messages.
    """
    try:
        _require_classes(parent, source)
    except UserError as error:
        remedy = f"{error.remedy} If" if error.remedy.endswith("?") else f"{error.remedy}; if"
        raise UserError(error.problem, f"{remedy} {listed(parent.with_images)} are the classes, add --labels folders"
                        ) from None


def require_class_folders(folders: ClassFolders, source: str) -> None:
    """Raise UserError if a folder is no class by its name or its files: a copy, a thumbnail folder, masks, splits.

    Args:
        folders: the class folders of one split.
        source: the tree as the user knows it, for messages.
    """
    classes = {name: folder for name, folder in folders.items() if folder.image_count}
    originals = {name.casefold(): name for name in classes}
    kinds = split_kinds(classes)
    for name, folder in classes.items() if len(classes) > 1 else ():  # one class alone has an error of its own
        copy = _COPY.fullmatch(name)
        original = originals.get(copy[1].casefold()) if copy else None
        require(not original, f"{shown(folder, source)} looks like a copy of {original}/",
                f"move it away; if it is a class, {_TRUST}")
        require(not _NO_CLASS.fullmatch(name) and kinds.get(name, "train") == "train" and not is_only_a_split(name),
                f"{shown(folder, source)} holds {counted(folder.image_count)}, and its name is not that of a class",
                f"move it away; if it is a class, {_TRUST}")
        original = original_class(name, originals)
        require(not original, f"{shown(folder, source)} looks like an augmented copy or a split of the class "
                f"{original}/, by its name",
                f"merge the two, sort them into train/{original}/ and test/{original}/, or move one away; if both are "
                f"classes, {_TRUST}")
    for folder in classes.values():
        _require_no_copies_inside(folder, folder, source)
        _require_no_splits_inside(folder, folder, source)
        _require_no_annotation_files(folder, source)


def require_images(folder: ImageFolder, source: str) -> None:
    """Raise UserError if a class folder without images holds other files, which may be its images."""
    require(not folder.other_files or any(names.fullmatch(folder.name) for names in (
                _NO_CLASS, _NO_IMAGES, _ANNOTATIONS)),
            f"{shown(folder, source)} holds no image, but {file_types(folder)}",
            "if it is a class, give its images the extension of their format, such as .jpg; if it is not, move it "
            "away, or add --labels folders to leave it out")


def _require_no_splits_inside(folder: ImageFolder, within: ImageFolder, source: str) -> None:
    """Test images below a class folder would be trained on."""
    kinds = split_kinds(folder.folders)
    for below in folder.with_images:
        kind = kinds.get(below.name)
        require(not kind or (kind == "train" and not folder.images),
                f"{shown(below, source)} holds {counted(below.image_count)} and has the name of a split, inside the "
                f"class folder {within.name}/",
                f"sort the images into train/{within.name}/ and val/{within.name}/, or move {below.name}/ away; if all "
                f"are training images, {_TRUST}")
        _require_no_splits_inside(below, within, source)


def _require_no_copies_inside(folder: ImageFolder, within: ImageFolder, source: str) -> None:
    """Thumbnails below a class folder would be held out apart from their originals."""
    for below in folder.with_images:
        require(not is_derived_folder(below.name) or below.image_count == within.image_count,
                f"{shown(below, source)} holds {counted(below.image_count)} and has the name of copies of the images "
                f"beside it, in the class folder {within.name}/", f"move it away; if these are other images, {_TRUST}")
        _require_no_copies_inside(below, within, source)


def _require_no_annotation_files(folder: ImageFolder, source: str) -> None:
    """A mask beside its image has the image's name with a word at the end or the beginning."""
    annotated = {image: names for image in folder.images if (names := _annotated_stems(_stem(image)))}
    if annotated:
        stems = {stem.lower() for stem in _stems(folder.images)}
        pairs = [image for image, names in annotated.items() if names & stems]
        if pairs:
            raise UserError(f"{shown(folder, source)} holds {counted(len(pairs))} with the name of another image and a "
                            f"word such as mask or label, such as {pairs[0].rpartition('/')[2]}: these look like "
                            "annotations", f"move them away; if they are images of the class, {_TRUST}")
    for below in folder.with_images:
        _require_no_annotation_files(below, source)


def _annotated_stems(stem: str) -> set[str]:
    """The names, in lower case, that the image may have to which a file of this name is an annotation."""
    stem = stem.lower()
    names: set[str] = set()
    if end := _ANNOTATION_END.search(stem):
        rest = stem[: end.start()]
        names |= {rest, *(f"{rest}_{word}" for word in ("crop" * bool(end["rest"]), *_IMAGE_WORDS) if word)}
        if number := re.search(r"[\s_\-.]?\d+$", end[0]):  # cat_mask_1 beside cat_1 or cat_image_1
            names |= {rest + number[0], *(f"{rest}_{word}{number[0]}" for word in _IMAGE_WORDS)}
    if start := _ANNOTATION_START.match(stem):
        rest = stem[start.end() :]
        names |= {rest, *(f"{word}_{rest}" for word in _IMAGE_WORDS)}
    return names - {stem}


def _require_classes(parent: ImageFolder, source: str) -> None:
    classes = parent.with_images
    for folder in (parent, *classes):
        _require_no_annotations(folder, folder is not parent, source)
    if len(classes) < 2:
        return
    _require_one_data_set(classes, source)
    for inside in (inside for folder in classes for inside in data_sets_within(folder, 2)):
        raise UserError(f"{shown(parent, source)} holds {listed(classes)}, and {shown(inside, source)} is a data set "
                        f"of its own with {listed(inside.with_images)}", f"did you mean {shown(inside, source)}?")
    _require_equal_depth(classes, source)
    _require_no_copy_among(classes, source)
    _require_different_folders(classes, source)
    _require_no_shared_folders(classes, source)
    _require_no_parts(classes, source)
    _require_one_level(classes, source)
    _require_different_files(classes, source)


def _require_one_data_set(classes: list[ImageFolder], source: str) -> None:
    """Folders that hold a training folder with class folders, and nothing else, are data sets: ds1/train, ds2/train."""
    sets = [(folder, train) for folder in classes if len(folder.with_images) == 1 and not folder.images
            for train in folder.with_images if split_kinds(folder.folders).get(train.name) == "train" and len(
                [below for below in train.with_images if not _PARTS.fullmatch(below.name)]) > 1]
    if sets:
        folder, train = sets[0]
        meant = shown(folder, source)
        raise UserError(f"{shown(train, source)} is a training folder with {listed(train.with_images)}, so "
                        f"{folder.name}/ is a data set of its own and no class", f"did you mean {meant}?")


def _require_no_annotations(folder: ImageFolder, is_class: bool, source: str) -> None:
    """Masks have the file names of the images that they belong to."""
    masks = [below for below in folder.with_images if _ANNOTATIONS.fullmatch(below.name)]
    images = [below for below in folder.with_images if below not in masks]
    stems = _stems(folder.images).union(*(_stems(below.all_images()) for below in images)) if masks else set()
    for mask in masks:
        own = _stems(mask.all_images())
        # Counters alone prove nothing beside classes with names of their own: mask/1.jpg and hat/1.jpg.
        if len(own & stems) >= len(own) / 2 and (
                not _are_counters(own) or all(is_neutral(below.name) for below in images)):
            remedy = (f"did you mean {shown(images[0], source)}?" if len(images) == 1 and not is_class
                      else f"move the {mask.name} away")
            raise UserError(f"{shown(mask, source)} holds no images of its own: its files have the same names as those "
                            f"of {listed(images) or 'the images beside it'}", remedy)


def _require_equal_depth(classes: list[ImageFolder], source: str) -> None:
    """A folder of class folders and another folder are not two classes."""
    outer = [folder for folder in classes if not folder.images and len(folder.with_images) > 1]
    if len(classes) == 2 and len(outer) == 1:
        other = classes[1 - classes.index(outer[0])]
        raise UserError(f"it is not clear whether the classes are {listed(classes)} or {listed(outer[0].with_images)} "
                        f"in {shown(outer[0], source)}",
                        f"name {shown(outer[0], source)}, or put the images of {outer[0].name}/ directly into it as "
                        f"those of {other.name}/")


def _require_one_level(classes: list[ImageFolder], source: str) -> None:
    """Folders that all hold folders of different names may be groups of classes: animals/{cat,dog}, vehicles/{bus,car}.

    Names with a number are those of patients or dates, which divide the images of a class.
    """
    inner = [below.name.casefold() for folder in classes for below in folder.with_images]
    grouped = all(not folder.images and len(folder.with_images) > 1 for folder in classes)
    require(not grouped or len(set(inner)) < len(inner) or any(re.search(r"\d", name) for name in inner),
            f"it is not clear whether the classes in {source} are {listed(classes)} or the folders in them, such as "
            f"{listed(classes[0].with_images, 3)}", "put the class folders into one folder")


def _require_no_copy_among(classes: list[ImageFolder], source: str) -> None:
    """A folder of the classes beside the classes is a copy of them: cat/, dog/ and cats-and-dogs/{cat,dog}."""
    names = {folder.name for folder in classes}
    for folder in classes:
        inside = {below.name for below in folder.with_images}
        if not folder.images and len(inside & names) > 1 and 2 * len(inside & names) >= len(inside):
            raise UserError(f"{shown(folder, source)} holds folders with the names of the classes beside it "
                            f"({some(sorted(inside & names), 3)})", f"move it away, or name {shown(folder, source)}")


def _require_no_parts(classes: list[ImageFolder], source: str) -> None:
    """Folders that only count (images_001, images_002), or sort the classes by their first letter, are no classes."""
    stems = {re.sub(r"\d+$", "", folder.name) for folder in classes}
    words = set(re.findall(r"[a-z]+", stems.pop().lower())) if len(stems) == 1 else set()
    require(not words & _PART_WORDS,
            f"{listed(classes)} in {source} are named as parts of one set of images, and not as classes",
            "put the images of each class into a folder with the class's name, or name a table of labels with --labels")
    by_letter = [folder for folder in classes if not folder.images and len(folder.name) == 1 and all(
        below.name[0].lower() == folder.name.lower() for below in folder.with_images)]
    require(len(by_letter) < len(classes) or not by_letter, f"{listed(classes)} in {source} sort the class folders by "
            "their first letter", "put the class folders into one folder")


def _require_different_folders(classes: list[ImageFolder], source: str) -> None:
    """Copies of a data set (color/, grayscale/) have the same class folders in each."""
    inner = {folder.name: {below.name for below in folder.with_images if not _PARTS.fullmatch(below.name)}
             for folder in classes if not folder.images}
    for one, other in combinations([folder for folder in classes if len(inner.get(folder.name, ())) > 1], 2):
        common = inner[one.name] & inner[other.name]
        if len(common) > 1 and 2 * len(common) >= min(len(inner[one.name]), len(inner[other.name])):
            raise UserError(
                f"{one.path}/ and {other.path}/ in the folder {source} hold the same folders "
                f"({some(sorted(common), 3)}), so these look like the classes",
                f"did you mean {shown(one, source)}?")


def _require_no_shared_folders(classes: list[ImageFolder], source: str) -> None:
    """A folder that is in two folders may be a class of which there are photos at two sites: site1/fox, site2/fox."""
    holding: dict[str, list[ImageFolder]] = {}
    for folder in classes:
        for below in folder.with_images if not folder.images else ():
            if not (_PART_OF_CLASS.fullmatch(below.name) or is_neutral(below.name) or is_derived_folder(below.name)):
                holding.setdefault(below.name.casefold(), []).append(folder)
    for name, folders in holding.items():
        if len(folders) > 1 and any(len(folder.with_images) > 1 for folder in folders):
            inner = sorted({below.name for folder in classes for below in folder.with_images})
            raise UserError(
                f"{listed(folders, 3)} in {source} each hold a folder {name}/, so it is not clear whether the classes "
                f"are {listed(classes, 3)} or the folders in them, such as {some([f'{each}/' for each in inner], 3)}",
                f"if {name}/ is a class, put its images into one folder {name}/, in which there may be a folder for "
                f"each of {listed(classes, 3)}")


def _require_different_files(classes: list[ImageFolder], source: str) -> None:
    """Two forms of the same images have the same file names, and these do not just count 1, 2, 3."""
    if len(classes) > 20:  # copies are few; to compare the names of a thousand classes would take long
        return
    stems = {folder.name: _stems(folder.all_images()) for folder in classes}
    for one, other in combinations(classes, 2):
        own, others = stems[one.name], stems[other.name]
        common = own & others
        require(len(common) < 5 or len(common) < _SAME_NAMES * min(len(own), len(others)) or _are_counters(common),
                f"{one.path}/ and {other.path}/ in the folder {source} hold files of the same names "
                f"({some(sorted(common), 3)}), so they are not two classes of different images",
                "name the one to use, or rename the files if they are two classes")


def _stems(images: Iterable[str]) -> set[str]:
    """The file names without folders and extensions."""
    return set(map(_stem, images))


def _stem(image: str) -> str:
    return image.rpartition("/")[2].rpartition(".")[0]


def _are_counters(stems: Iterable[str]) -> bool:
    """Whether the names are one pattern with counters, such as frame_001: any two folders may have these."""
    patterns = {re.sub(r"\d+", "#", stem) for stem in stems}
    numbers = {int(found[-1]) for stem in stems if (found := re.findall(r"\d+", stem))}
    return len(patterns) == 1 and bool(numbers) and max(numbers) - min(numbers) < 4 * len(numbers) + 100
