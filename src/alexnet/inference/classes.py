"""Match the classes of a data set with the classes of a network by name, and refuse to guess where names are unknown.

`map_labels` is the entry; `match_classes` compares two lists of names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from alexnet.data.imagenet_classes import comparable
from alexnet.errors import UserError, closest_match, require, some, such_as


class NamedOutputs(Protocol):
    """A network with names for its outputs: a `Checkpoint` or a `Model`."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def class_names_known(self) -> bool: ...


def map_labels(network: NamedOutputs, data_classes: Sequence[str]) -> Tensor:
    """Find each class of the data among the network's outputs: int64 [len(data_classes)].

    Raises:
        UserError: the weights came without class names, or the network lacks one of the data's classes.
    """
    require(network.class_names_known,
            f"the weights have no class names, so it is unknown which of their {len(network.classes):,} outputs stands "
            f"for which of the data's classes ({some(data_classes)})",
            "give the names in the order of the outputs: --classes FILE, one a line, to evaluate or import; in Python "
            "alexnet.load(..., classes=[...])")
    return match_classes(network.classes, data_classes)


def match_classes(network_classes: Sequence[str], data_classes: Sequence[str]) -> Tensor:
    """Find each class of the data among the network's classes, by name: int64 [len(data_classes)].

    An ImageNet class may have its name on one side and its WordNet number on the other. The two Unicode forms of an
    accent are equal, and so are upper and lower case, unless the network has two classes that differ in nothing else.

    Raises:
        UserError: the network lacks one of the data's classes, or two of them match the same class of the network.
    """
    forms: tuple[Callable[[str], str], ...] = (str, comparable, lambda name: comparable(name).casefold())
    indices = [_unique_index(map(form, network_classes)) for form in forms]
    found = [next((index[form(name)] for form, index in zip(forms, indices, strict=True) if form(name) in index), None)
             for name in data_classes]
    unknown = [name for name, place in zip(data_classes, found, strict=True) if place is None]
    if unknown:
        close = closest_match(unknown[0], network_classes)
        raise UserError(
            f"the network was not trained on {len(unknown)} of the data's {len(data_classes)} classes"
            f"{such_as(len(unknown), repr(unknown[0]))}{f' (did you mean {close}?)' if close else ''}",
            f"evaluate on data with the network's classes ({some(network_classes)})")
    first: dict[int | None, str] = {}
    for name, place in zip(data_classes, found, strict=True):
        other = first.setdefault(place, name)
        require(other == name, f"the data's classes {other!r} and {name!r} both match the network's class "
                f"{network_classes[place or 0]!r}", "put their images into one folder, or rename one")
    return torch.tensor(found)


def _unique_index(names: Iterable[str]) -> dict[str, int]:
    """The place of each name that occurs once."""
    names = list(names)
    counts = Counter(names)
    return {name: place for place, name in enumerate(names) if counts[name] == 1}
