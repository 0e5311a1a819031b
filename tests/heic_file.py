"""A HEIC file, built by hand: one block of 16 x 16 pixels whose samples HEVC stores as they are (its I_PCM mode).

No encoder is needed, and the pixels are known exactly. HEVC is ITU-T H.265 (sections 7.3 and 9.3), the container
ISO/IEC 23008-12.
"""

import struct

SIDE = 16


class Bits:
    """Bits, the most significant first."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, width: int, value: int) -> "Bits":
        self.bits += f"{value:0{width}b}"
        return self

    def ue(self, *values: int) -> "Bits":
        """Exponential Golomb codes."""
        for value in values:
            code = f"{value + 1:b}"
            self.bits += "0" * (len(code) - 1) + code
        return self

    def trailing(self) -> bytes:
        return self.u(1, 1).aligned()

    def aligned(self) -> bytes:
        bits = self.bits + "0" * (-len(self.bits) % 8)
        return bytes(int(bits[n : n + 8], 2) for n in range(0, len(bits), 8))


def _profile() -> tuple[int, int]:
    """Width and value of profile_tier_level: Main profile, level 1."""
    profile = Bits().u(8, 1).u(32, 0x60000000).u(4, 0b1001).u(44, 0).u(8, 30).bits
    return len(profile), int(profile, 2)


def _terminated(range_: int) -> str:
    """The bits of the arithmetic coder for a terminating bin of 1, from low = 0 and this range (9.3.4.3.5, encoder)."""
    low, bits, outstanding, first = range_ - 2, "", 0, True

    def put(bit: int) -> None:
        nonlocal bits, outstanding, first
        bits += "" if first else str(bit)
        first = False
        bits += str(1 - bit) * outstanding
        outstanding = 0

    for _ in range(7):  # renormalization of a range of 2 to 256
        if low < 256:
            put(0)
        elif low >= 512:
            low -= 512
            put(1)
        else:
            low -= 256
            outstanding += 1
        low <<= 1
    put(low >> 9 & 1)
    return bits + f"{low >> 7 & 3 | 1:02b}"


def _nal(kind: int, payload: bytes) -> bytes:
    """A NAL unit, with emulation prevention."""
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes([kind << 1, 1]) + bytes(out)


def _parameter_sets() -> list[tuple[int, bytes]]:
    video = Bits().u(4, 0).u(2, 3).u(6, 0).u(3, 0).u(1, 1).u(16, 0xFFFF).u(*_profile()).u(1, 1).ue(0, 0, 0)
    video.u(6, 0).ue(0).u(2, 0)
    sequence = Bits().u(4, 0).u(3, 0).u(1, 1).u(*_profile()).ue(0, 1, SIDE, SIDE).u(1, 0).ue(0, 0, 0)
    sequence.u(1, 1).ue(0, 0, 0)
    sequence.ue(1, 0, 0, 2, 0, 0).u(3, 0)  # coding blocks of 16, transforms of 4 to 16; no scaling list, AMP, SAO
    sequence.u(1, 1).u(4, 7).u(4, 7).ue(1, 0).u(1, 1)  # PCM of 8 bits, in blocks of 16, without loop filter
    sequence.ue(0).u(5, 0)
    picture = Bits().ue(0, 0).u(7, 0).ue(0, 0, 0).u(3, 0).ue(0, 0).u(7, 0)
    picture.u(1, 1).u(1, 0).u(1, 1)  # the deblocking filter is off
    picture.u(2, 0).ue(0).u(2, 0)
    return [(32, video.trailing()), (33, sequence.trailing()), (34, picture.trailing())]


def _slice(luma: bytes, blue: bytes, red: bytes) -> bytes:
    header = Bits().u(2, 0b10).ue(0, 2).ue(0).trailing()  # an intra slice
    # part_mode 2Nx2N is the likely value of its context and takes no bit: range 510 - 240. Then pcm_flag 1.
    block = Bits()
    block.bits = _terminated(510 - 240)
    end = Bits()
    end.bits = _terminated(510)  # end_of_slice_segment_flag
    return header + block.aligned() + luma + blue + red + end.aligned()


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">L", 8 + len(body)) + kind + body


def _full(kind: bytes, version: int, *content: bytes) -> bytes:
    return _box(kind, struct.pack(">L", version << 24), *content)


def heic(luma: bytes, blue: bytes = bytes([128]) * 64, red: bytes = bytes([128]) * 64, quarter_turns: int = 0,
         size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A HEIC file.

    Args:
        luma: 256 samples, row by row, 0 to 255.
        blue: 64 samples of Cb, each for 2 x 2 pixels.
        red: 64 samples of Cr.
        quarter_turns: rotation to be shown, counterclockwise.
        size: width and height that the header states.
    """
    sets = _parameter_sets()
    record = bytes([1, 1]) + struct.pack(">L", 0x60000000) + bytes([0x90, 0, 0, 0, 0, 0, 30, 0xF0, 0, 0xFC, 0xFD, 0xF8,
                                                                    0xF8, 0, 0, 0x0F, len(sets)])
    for kind, payload in sets:
        unit = _nal(kind, payload)
        record += bytes([0x80 | kind]) + struct.pack(">HH", 1, len(unit)) + unit
    unit = _nal(19, _slice(luma, blue, red))
    data = struct.pack(">L", len(unit)) + unit
    properties = [_box(b"hvcC", record), _full(b"ispe", 0, struct.pack(">2L", *size)),
                  _box(b"colr", b"nclx", struct.pack(">3HB", 1, 13, 6, 0x80)),  # BT.601, full range
                  _box(b"irot", bytes([quarter_turns]))]
    associations = struct.pack(">LHB", 1, 1, len(properties)) + bytes([0x81, 2, 3, 0x84])

    def meta(offset: int) -> bytes:
        return _full(
            b"meta", 0, _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)), _full(b"pitm", 0, struct.pack(">H", 1)),
            _full(b"iloc", 0, struct.pack(">BBHHHHLL", 0x44, 0, 1, 1, 0, 1, offset, len(data))),
            _full(b"iinf", 0, struct.pack(">H", 1), _full(b"infe", 2, struct.pack(">HH", 1, 0), b"hvc1\0")),
            _box(b"iprp", _box(b"ipco", *properties), _full(b"ipma", 0, associations)))

    start = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return start + meta(len(start) + len(meta(0)) + 8) + _box(b"mdat", data)
