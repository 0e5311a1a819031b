"""What `alexnet explain` says of a convolution or a normalization in sentences: rounding, towers or groups, formulas.

explorer.html repeats it. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator

from alexnet.architecture.spec import LRN, Arch, Conv, MapLRN, Rounding


def rounding_note(conv: Conv, rest: int, out: int, side: int, rounding: Rounding) -> str:
    """What rounding does with the `rest` columns and rows that remain after the kernel's whole steps."""
    if rounding == "ceil":
        missing = conv.stride - rest
        lines = "column and row" if missing == 1 else "columns and rows"
        return (f"floor would give {out - 1}; ceil gives {out}, with {missing} more {lines} of zeros at the right and "
                f"bottom, the same size as from an input of {side + missing}")
    lines = "column and row" if rest == 1 else f"{rest} columns and rows"
    padding = ", which are padding" if rest <= conv.padding else ""
    return f"floor leaves out the last {lines}{padding}; ceil would give {out + 1}"


def tower_notes(arch: Arch, number: int, maps: int, out: int) -> Iterator[str]:
    """Which maps a convolution reads in each tower or group.

    Args:
        number: of the convolution, counted from 1.
        maps: of its input.
        out: side of its output.
    """
    conv, towers = arch.conv[number - 1], arch.towers
    if towers == 1:
        return
    if conv.grouped:
        parts = "towers" if arch.has_gpu_towers else "groups"
        yield f"grouped convolution: each of {towers} {parts} reads its own {maps // towers} of the {maps} maps"
    elif not arch.has_gpu_towers:
        if number > 1:
            yield f"not grouped: every filter reads all {maps} maps"
    elif number > 1:
        yield (f"both towers read all {maps} maps: the GPUs exchange them here" if towers == 2 else
               f"all {towers} towers read all {maps} maps")
    elif conv.width % towers == 0:
        yield f"{conv.width} filters on {towers} GPUs: {conv.width // towers}x{out}x{out} on each"


def response_norm_note(lrn: LRN, towers: int) -> str:
    """The formula of `LRN` with its numbers."""
    share = f" / {lrn.n}" if lrn.divide_by_n else ""
    tower = " of the same tower" if lrn.within_tower and towers > 1 else ""
    return (f"each activation a becomes a / ({lrn.k:g} + {lrn.alpha:g}{share} x the sum of a^2) ^ {lrn.beta:g}, summed "
            f"over {lrn.n} neighboring maps{tower} (§3.3)")


def response_norm_constants(lrn: LRN) -> str:
    """The constants of `LRN` in a row of the table; α with its divisor, where there is one."""
    return f"k={lrn.k:g} n={lrn.n} α={lrn.alpha:g}{f'/{lrn.n}' if lrn.divide_by_n else ''} β={lrn.beta:g}"


def map_norm_note(own: MapLRN) -> str:
    """The formula of `MapLRN` with its numbers."""
    return (f"each activation a becomes a / (1 + {own.alpha:g} / {own.side**2} x the sum of a^2) ^ {own.beta:g}, "
            f"summed over the {own.side}x{own.side} window around it in its own map; the paper does not mention this "
            "layer")


def map_norm_constants(own: MapLRN) -> str:
    """The constants of `MapLRN` in a row of the table."""
    return f"{own.side}x{own.side} α={own.alpha:g}/{own.side**2} β={own.beta:g}"
