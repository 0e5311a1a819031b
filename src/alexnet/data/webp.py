"""The width and height of a WebP, read from the header of the file: libwebp would allocate the image."""

from __future__ import annotations


def size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height in pixels; None for other formats and for a damaged header (RFC 9649; RFC 6386, 9.1)."""
    header = bytes(data[:30]).ljust(30, b"\0")
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP":
        return None
    kind = header[12:16]
    if kind == b"VP8X":  # the canvas of an animation, or of an image with metadata
        return 1 + int.from_bytes(header[24:27], "little"), 1 + int.from_bytes(header[27:30], "little")
    if kind == b"VP8L" and header[20] == 0x2F:  # lossless
        bits = int.from_bytes(header[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and header[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(header[28:30], "little") & 0x3FFF
    return None
