"""Compile every Triton kernel for an H100 or H200 (sm_90) without a GPU: registers, spills, widths of loads and stores.

    python benchmarks/triton_aot.py [--json FILE]

Triton compiles to PTX and its own ptxas to machine code, which its own cuobjdump reads; all are in Triton's wheel. The
shapes and types are those of `paper`: conv1's 96 maps and conv2's 256 for response normalization, in both precisions,
the 32 maps with n = 9 of `cifar`, and all that follows conv1, conv2 and conv5. A kernel that spills registers into
memory would be slow on a GPU, and one that does not compile would end the run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # Triton reads it when it is imported

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from alexnet._runtime import triton_crops, triton_update
from alexnet._runtime import triton_norm_dropout as kernels
from alexnet._runtime import triton_norm_pool as norm_pool

TARGET = GPUTarget("cuda", 90, 32)
TENSORS = 16
"""Weights and biases of `paper`, which one launch updates."""

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@dataclass(frozen=True)
class Compiled:
    """The machine code of a kernel."""

    kernel: str
    registers: int
    """Of a thread."""
    instructions: int
    """In the code, which a thread runs once: the kernels have no loops that are not unrolled."""
    spilled: int
    """Bytes of a thread's registers that are kept in memory, for want of registers."""
    shared: int
    """Bytes of shared memory that a block uses."""
    accesses: dict[str, int]
    """Load or store of global memory and its width in bits -> how often it is in the code."""


Types = dict[str, str | tuple[str, ...]]
"""Of a kernel's arguments, by name; a tuple of types for an argument that is a tuple."""


def cases() -> Iterator[tuple[str, Any, Types, dict[str, Any]]]:
    """Name, function, types of the arguments, and constants of each kernel."""
    floats = dict.fromkeys(("k", "alpha", "beta"), "fp32")
    for kind in ("fp32", "bf16"):
        for maps, n in ((96, 5), (256, 5), (32, 9)):
            block = triton.next_power_of_2(maps)
            constants = {"WIDTH": maps, "REACH": n // 2, "BLOCK": block}
            yield (f"_norm_forward, {maps} maps, n {n}, {kind}", kernels._norm_forward,
                   {"x": f"*{kind}", "y": f"*{kind}", "rows": "i32", **floats},
                   {**constants, "ROWS": max(1, kernels.FORWARD_ELEMENTS // block)})
            yield (f"_norm_backward, {maps} maps, n {n}, {kind}", kernels._norm_backward,
                   {"x": f"*{kind}", "dy": f"*{kind}", "dx": f"*{kind}", "rows": "i32", **floats},
                   {**constants, "ROWS": max(1, kernels.BACKWARD_ELEMENTS // block)})
        crop = {"CROP": 224, "BGR": False, "BLOCK": triton_crops.BLOCK}
        yield (f"_views, {kind}", triton_crops._views,
               {"pixels": "*u8", "mean": "*fp32", "scale": "*fp32", "top_left": "*i64", "mirrored": "*u8",
                "shift": "*fp32", "image": "*i64", "out": f"*{kind}", "side": "i32", "mean_side": "i32"},
               {**crop, "CENTRAL": False})
        yield (f"_boxes, {kind}", triton_crops._boxes,
               {"pixels": "*u8", "mean": "*fp32", "scale": "*fp32", "boxes": "*fp32", "mirrored": "*u8",
                "shift": "*fp32", "out": f"*{kind}", "side": "i32"}, crop)
        yield (f"_dropout, {kind}", kernels._dropout,
               {"x": f"*{kind}", "counter": "*i64", "y": f"*{kind}", "units": "i32", "first_unit": "i32",
                "layer": "i32", "threshold": "i64", "scale": "fp32"}, {"BLOCK": 1024})
    for copies, aligned, in_velocity, nesterov in (
        (False, True, True, False), (False, True, False, False), (False, True, False, True), (True, True, True, False),
        (True, True, False, True), (True, False, True, False),
    ):
        yield (f"_update, {'bf16 copies, ' * copies}{'aligned' if aligned else 'at any address'}, "
               f"{'§5' if in_velocity else 'Nesterov' if nesterov else 'PyTorch'}", triton_update._update,
               {**dict.fromkeys(("w", "v", "g", "rates"), ("*fp32",) * TENSORS),
                "copies": ("*bf16",) * TENSORS * copies, "counts": ("i32",) * TENSORS, "decays": ("fp32",) * TENSORS,
                "momentum": "fp32"},
               {"TENSORS": TENSORS, "ALIGNED": aligned, "IN_VELOCITY": in_velocity, "NESTEROV": nesterov,
                "COPIES": copies, "BLOCK": triton_update.BLOCK})
    for kind, group in (("fp32", 4), ("bf16", 8)):
        for maps, n in ((96, 5), (256, 5), (256, 0)):
            yield from _norm_pool_cases(kind, group, maps, n)


def _norm_pool_cases(kind: str, group: int, maps: int, n: int) -> Iterator[tuple[str, Any, Types, dict[str, Any]]]:
    """The kernels for what follows a convolution; n 0: no normalization."""
    constants = {"MAPS": maps, "WIDTH": maps, "REACH": n // 2, "BETA": 0.75, "KERNEL": 3, "STRIDE": 2, "NORM": n > 0,
                 "ROWS": norm_pool.ROWS, "GROUP": group}
    given = {"x": f"*{kind}", "bias": "*fp32", "offsets": "*i8", "k": "fp32", "alpha": "fp32"}
    sides = ("height", "width", "pooled_height", "pooled_width")
    after = f"{maps} maps, {f'n {n}' if n else 'no normalization'}, {kind}"
    yield (f"_norm_pool_forward, {after}", norm_pool._norm_pool_forward,
           {**given, "y": f"*{kind}", **dict.fromkeys(("rows", *sides), "i32")}, {**constants, "EDGE": False})
    yield (f"_norm_pool_backward, {after}", norm_pool._norm_pool_backward,
           {**given, "dy": f"*{kind}", "dx": f"*{kind}", "bias_sums": "*fp32", "slope": "fp32",
            **dict.fromkeys(("blocks", "block_rows", "block_columns", *sides), "i32")},
           {**constants, "OVERLAP": 2, "SPAN": norm_pool.span_of(maps // group)})


def compiled(name: str, function: Any, types: Types, constants: dict[str, Any]) -> Compiled:
    """Compile a kernel and read its machine code.

    As in the networks, memory begins at multiples of 16 bytes, and numbers of units are multiples of 16.
    """
    signature = {argument: types.get(argument, "constexpr") for argument in function.arg_names}
    aligned: dict[tuple[int, ...], list[list[Any]]] = {}
    for place, (argument, kind) in enumerate(signature.items()):
        if isinstance(kind, str) and (kind.startswith("*") or argument == "units"):
            aligned[place,] = [["tt.divisibility", 16]]
        elif isinstance(kind, tuple) and argument in ("w", "v", "g", "copies") and constants["ALIGNED"]:
            aligned |= {(place, number): [["tt.divisibility", 16]] for number in range(len(kind))}
    built = triton.compile(ASTSource(function, signature, constants, aligned), target=TARGET)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        usage, code = (subprocess.run([CUOBJDUMP, option, file.name], check=True, capture_output=True, text=True).stdout
                       for option in ("--dump-resource-usage", "--dump-sass"))
    found = {key: int(number) for key, number in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", usage)}
    accesses = Counter(f"{kind} {_bits(suffixes)}" for kind, suffixes in re.findall(r"\b(LDG|STG)((?:\.\w+)*)", code))
    instructions = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?!NOP)\S", code, re.MULTILINE)
    return Compiled(name, found["REG"], len(instructions), found["STACK"] + found["LOCAL"], built.metadata.shared,
                    dict(sorted(accesses.items())))


def _bits(suffixes: str) -> int:
    """Width of an access by its suffixes, such as .E.128 or .E.U16; 32 if none says it."""
    return next((int(digits) for digits in re.findall(r"\.[US]?(8|16|64|128)\b", suffixes)), 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not CUOBJDUMP.is_file():
        sys.exit(f"{CUOBJDUMP} is missing: Triton's wheel for Linux on x86-64 has it")
    rows = []
    for case in cases():
        row = compiled(*case)
        rows.append(asdict(row))
        widths = ", ".join(f"{width} x {count}" for width, count in row.accesses.items())
        print(f"{row.kernel}: {row.registers} registers, {row.spilled} bytes spilled, {row.instructions} instructions, "
              f"{row.shared} bytes shared; {widths}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
