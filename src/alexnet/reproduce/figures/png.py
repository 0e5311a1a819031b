"""Draw a drawing as pixels on light paper, for PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise

from PIL import Image, ImageColor, ImageDraw

from alexnet._runtime.page_style import PALETTE
from alexnet.reproduce.figures.drawing import Circle, Color, Drawing, Path, Picture, Point, Text
from alexnet.reproduce.figures.fonts import font, text_width

OVERSAMPLING = 4
"""A shape is drawn so many times as large, and then reduced, so that its edges are smooth."""


def png(drawing: Drawing, dpi: float = 160) -> bytes:
    """Draw and encode as a PNG file; dpi: dots per inch."""
    file = io.BytesIO()
    # zlib's level 1 takes a fifth of the time of level 6, and the files are at most a sixth larger.
    rasterize(drawing, dpi).save(file, "PNG", compress_level=1, dpi=(dpi, dpi))
    return file.getvalue()


def rasterize(drawing: Drawing, dpi: float = 160) -> Image.Image:
    """Draw as RGB pixels."""
    scale = dpi / 72
    image = Image.new("RGB", (round(drawing.width * scale), round(drawing.height * scale)), PALETTE["paper"][0])
    brush = _Brush(image, scale)
    for shape in drawing.all_shapes():
        match shape:
            case Path():
                brush.path(shape)
            case Circle():
                brush.circle(shape)
            case Text():
                brush.text(shape)
            case Picture():
                brush.picture(shape)
    return image


class _Brush:
    """Paints shapes on an image. `scale`: pixels of the image in a point."""

    def __init__(self, image: Image.Image, scale: float) -> None:
        self._image, self._scale, self._fine = image, scale, scale * OVERSAMPLING

    def path(self, path: Path) -> None:
        if path.fill:
            level = round(255 * path.fill_opacity)
            self._paint(path.points, 0.0, path.fill, lambda mask, points: mask.polygon(points, fill=level))
        if path.stroke:
            pen, level = max(1, round(path.width * self._fine)), round(255 * path.stroke_opacity)
            lengths = [length * path.width * self._fine for length in path.dashes]

            def draw(mask: ImageDraw.ImageDraw, points: list[Point]) -> None:
                for piece in dashed(points, lengths):
                    mask.line(piece, fill=level, width=pen, joint="curve")

            self._paint([*path.points, path.points[0]] if path.closed else path.points, path.width, path.stroke, draw)

    def circle(self, circle: Circle) -> None:
        (x, y), radius, pen = circle.center, circle.radius, max(1, round(circle.width * self._fine))
        if circle.fill:
            self._paint([(x - radius, y - radius), (x + radius, y + radius)], 0.0, circle.fill,
                        lambda mask, points: mask.ellipse(_ellipse(points), fill=255))
        if circle.stroke:
            outer = radius + circle.width / 2  # ImageDraw's outlines lie inside, a stroke half outside
            self._paint([(x - outer, y - outer), (x + outer, y + outer)], 0.0, circle.stroke,
                        lambda mask, points: mask.ellipse(_ellipse(points), outline=255, width=pen))

    def text(self, text: Text) -> None:
        """Write a line of text: into a mask of its own, which is turned if the text is rotated."""
        size = text.size * self._fine
        length = text_width(text.text, size, bold=text.bold)
        before = {"start": 0.0, "middle": length / 2, "end": length}[text.anchor]
        # Room for accents above and letters that reach below the baseline, in whole pixels of the image.
        width, height = (OVERSAMPLING * math.ceil(side / OVERSAMPLING + 2) for side in (length + size, 1.8 * size))
        origin_x, origin_y = before + size / 2, 1.25 * size
        x, y = text.x * self._fine, text.y * self._fine
        # The point of the mask that lies at the text's position; a rotated mask has its right edge above.
        pin_x, pin_y = (origin_y, width - origin_x) if text.rotated else (origin_x, origin_y)
        left, top = math.floor((x - pin_x) / OVERSAMPLING), math.floor((y - pin_y) / OVERSAMPLING)
        off_x, off_y = x - pin_x - left * OVERSAMPLING, y - pin_y - top * OVERSAMPLING
        off_x, off_y = (-off_y, off_x) if text.rotated else (off_x, off_y)
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).text((origin_x - before + off_x, origin_y + off_y), text.text, fill=255,
                                  font=font(text.text, size, bold=text.bold), anchor="ls")
        self._stamp(mask.transpose(Image.Transpose.ROTATE_90) if text.rotated else mask, left, top, text.color)

    def picture(self, picture: Picture) -> None:
        left, top = round(picture.x * self._scale), round(picture.y * self._scale)
        size = (max(1, round(picture.width * self._scale)), max(1, round(picture.height * self._scale)))
        scaled = Image.fromarray(picture.pixels).resize(size, picture.resampling)
        self._image.paste(scaled, (left, top), scaled if scaled.mode == "RGBA" else None)

    def _paint(
        self, points: Sequence[Point], margin: float, color: Color,
        draw: Callable[[ImageDraw.ImageDraw, list[Point]], object],
    ) -> None:
        """Draw into a mask around the points, with a margin in points (1/72 inch), and stamp it."""
        xs, ys = zip(*points, strict=True)
        left, top = (max(0, math.floor((min(each) - margin) * self._scale)) for each in (xs, ys))
        right, bottom = (min(side, math.ceil((max(each) + margin) * self._scale) + 1)
                         for each, side in zip((xs, ys), self._image.size, strict=True))
        if right <= left or bottom <= top:  # outside the image
            return
        mask = Image.new("L", (OVERSAMPLING * (right - left), OVERSAMPLING * (bottom - top)))
        draw(ImageDraw.Draw(mask), [(x * self._fine - OVERSAMPLING * left, y * self._fine - OVERSAMPLING * top)
                                    for x, y in points])
        self._stamp(mask, left, top, color)

    def _stamp(self, mask: Image.Image, left: int, top: int, color: Color) -> None:
        """Reduce a mask, whose levels are opacities, and color the image through it."""
        self._image.paste(ImageColor.getrgb(PALETTE[color][0]), (left, top), mask.reduce(OVERSAMPLING))


def _ellipse(corners: Sequence[Point]) -> list[Point]:
    """The box of an ellipse as ImageDraw takes it: with its last row and column."""
    first, (right, bottom) = corners
    return [first, (right - 1, bottom - 1)]


def dashed(points: Sequence[Point], lengths: Sequence[float]) -> Iterator[list[Point]]:
    """Cut a line into its dashes; lengths: dash, gap, dash, ...; without lengths, the whole line."""
    if not lengths:
        yield [*points]
        return
    pattern = cycle(zip(lengths, cycle((True, False))))
    left, is_dash = next(pattern)
    piece = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            cut = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if is_dash:
                yield [*piece, cut]
            piece = [cut]
            left, is_dash = next(pattern)
        left -= length - done
        piece.append((x1, y1))
    if is_dash and len(piece) > 1:
        yield piece
