"""How large the pages of a Parquet file become, from their headers: pyarrow allocates what a page's header states.

The file's own metadata state the size of whole column chunks, and pyarrow does not compare these with the pages. A few
hundred kB may state pages of 2 GB each. So the headers are read here, before pyarrow opens a page.

Format: https://parquet.apache.org/docs/file-format/data-pages/, in Thrift's compact protocol.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet.data.images import BYTE_LIMIT
from alexnet.errors import UserError, require

PAGE_BYTES = 2 * BYTE_LIMIT
"""Of a decompressed page. Writers begin a new page after about a megabyte, so one has hardly more than an image."""

ALWAYS_ALLOWED_ROWS, BYTES_PER_ROW = 1_000_000, 16
"""Rows of a file that take no more than so many bytes each are refused above so many: the smallest image has 26 bytes,
and a run of a billion rows without one takes a few bytes."""

BATCH_BYTES = PAGE_BYTES
"""Of the rows that are read at a time. A value may be as large as a page, and a dictionary repeat it in each row."""

_UNCOMPRESSED, _COMPRESSED = 2, 3
"""Fields of a page's header."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

_MOST_NESTED = 8
"""Structs within structs; a page's header has three."""


@dataclass(frozen=True)
class _Page:
    """A page's header.

    Attributes:
        bytes: of the decompressed page.
        end: of the page in the file.
    """

    bytes: int
    end: int


def rows_at_a_time(path: Path, metadata: Any, columns: Sequence[str], most: int) -> int:
    """How many rows of these columns can be read at a time within BATCH_BYTES.

    Args:
        path: of the file.
        metadata: pyarrow's FileMetaData of it.
        columns: names as `ParquetFile.iter_batches` takes them; `image.bytes` is a field of a struct.
        most: rows, however small they are.

    Raises:
        UserError: a page or the number of rows is too large, or the pages are damaged.
    """
    size = path.stat().st_size
    require(metadata.num_rows <= max(ALWAYS_ALLOWED_ROWS, size // BYTES_PER_ROW),
            f"{path} states {metadata.num_rows:,} rows in {size:,} bytes, as no file with images does",
            "do not use this file")
    largest = 1
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for page in _pages(data, metadata, columns, path):
            require(page.bytes <= PAGE_BYTES, f"{path} has a page of {page.bytes:,} bytes, more than {PAGE_BYTES:,}",
                    "write it again with smaller pages")
            largest = max(largest, page.bytes)
    return max(1, min(most, BATCH_BYTES // largest))


def _pages(data: mmap.mmap, metadata: Any, columns: Sequence[str], path: Path) -> Iterator[_Page]:
    """The pages of the columns in all row groups, where pyarrow looks for them."""
    paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    chosen = [number for number, name in enumerate(paths)
              if any(name == column or name.startswith(f"{column}.") for column in columns)]
    for group in range(metadata.num_row_groups):
        for number in chosen:
            chunk = metadata.row_group(group).column(number)
            begin = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < begin:
                begin = chunk.dictionary_page_offset
            end = begin + chunk.total_compressed_size
            require(0 < begin <= end <= len(data), f"{path} is damaged: a column is beyond its end",
                    "download it again")
            while begin < end:
                try:
                    page = _page(data, begin)
                except (IndexError, ValueError) as error:
                    raise UserError(f"{path} is damaged: at byte {begin:,} there is no header of a page",
                                    "download it again") from error
                yield page
                begin = page.end


def _page(data: bytes | mmap.mmap, begin: int) -> _Page:
    """The page that begins there. Raises ValueError or IndexError if there is none."""
    fields: dict[int, int] = {}
    end = _skip_struct(data, begin, 0, fields)
    size, compressed = fields.get(_UNCOMPRESSED, -1), fields.get(_COMPRESSED, -1)
    if size < 0 or compressed < 0:
        raise ValueError("it states no size")
    return _Page(size, end + compressed)


# --- Thrift's compact protocol ----------------------------------------------------------------------------------------


def _skip_struct(data: bytes | mmap.mmap, at: int, depth: int, fields: dict[int, int]) -> int:
    """The end of a struct. `fields` receives the whole numbers among its fields, the last one of each number."""
    if depth > _MOST_NESTED:
        raise ValueError("it is nested too deep")
    number = 0
    while kind := data[at]:
        at += 1
        if kind >> 4:
            number += kind >> 4
        else:
            number, at = _signed(data, at)
        kind &= 15
        if kind in (_I16, _I32, _I64):
            fields[number], at = _signed(data, at)
        elif kind not in (_TRUE, _FALSE):  # those have their value in the kind
            at = _skip(data, at, kind, depth)
    return at + 1


def _skip(data: bytes | mmap.mmap, at: int, kind: int, depth: int) -> int:
    """The end of a value that is no whole number, or an element of a list."""
    if kind in (_TRUE, _FALSE, _BYTE):
        return at + 1
    if kind in (_I16, _I32, _I64):
        return _signed(data, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind in (_LIST, _SET):
        count, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            at = _skip(data, at, kind, depth)
        return at
    if kind == _STRUCT:
        return _skip_struct(data, at, depth + 1, {})
    raise ValueError(f"a page's header has no value of kind {kind}")


def _varint(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """An unsigned number, and its end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number has more than ten bytes")


def _signed(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """A number in zigzag encoding, and its end."""
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at
