"""The compressed text of a PNG: 66 kB of it become 64 MB in memory, which Pillow would allow."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from alexnet.errors import UserError

TEXT_LIMIT = 4_000_000
"""Bytes of a PNG's text and color profiles that are compressed in the file. Profiles for screens have 500 bytes to some
hundred kB, and the metadata of a program less."""

_CHUNK_LIMIT = 2**20
"""Bytes of one chunk above which Pillow refuses it."""

_RATIO = 1032
"""Bytes that one compressed byte can become (deflate)."""

_KINDS = (b"zTXt", b"iTXt", b"iCCP")


def compressed_text(data: bytes | memoryview, most_chunks: int) -> int:
    """The most bytes that the compressed text of a PNG has in memory; 0 for other formats.

    Args:
        data: the file.
        most_chunks: after which the rest is not looked at. Pillow reads each chunk in several pieces, and
            `images.ImageFile` limits these.

    Raises:
        UserError: it has more than TEXT_LIMIT.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return 0
    chunks = list(_text_chunks(data, most_chunks))
    if (most := sum(min(_CHUNK_LIMIT, _RATIO * (end - start)) for _, start, end in chunks)) <= TEXT_LIMIT:
        return most
    total = 0  # what it is in fact: some small compressed chunks are no attack
    for kind, start, end in chunks:
        total += _inflated(kind, bytes(data[start:end]))
        if total > TEXT_LIMIT:
            raise UserError(f"its compressed text and color profiles have more than {TEXT_LIMIT / 1e6:g} MB")
    return total


def _text_chunks(data: bytes | memoryview, most_chunks: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each chunk that may be compressed."""
    position = 8
    for _ in range(most_chunks):
        head = bytes(data[position : position + 8])
        end = position + 8 + int.from_bytes(head[:4])
        if head[4:] in _KINDS:
            yield head[4:], position + 8, min(end, len(data))
        if len(head) < 8 or head[4:] == b"IEND":
            return
        position = end + 4


def _inflated(kind: bytes, content: bytes) -> int:
    """Bytes of a chunk's compressed part in memory, as far as Pillow would decompress it."""
    _, _, rest = content.partition(b"\0")  # the keyword, or the profile's name
    if kind == b"iTXt":
        if rest[:1] in (b"", b"\0"):  # Pillow decompresses with any other flag
            return 0
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, _CHUNK_LIMIT))
    except zlib.error:
        return 0
