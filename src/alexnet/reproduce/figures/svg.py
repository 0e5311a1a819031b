"""Write a drawing as SVG, for a page or as a file of its own."""

from __future__ import annotations

from html import escape

from PIL import Image

from alexnet._runtime.image_encoding import image_file
from alexnet._runtime.page_style import PALETTE, data_uri
from alexnet.reproduce.figures.drawing import Circle, Color, Drawing, Path, Picture, Shape, Text, xml_text


def svg(drawing: Drawing, *, standalone: bool = False) -> str:
    """Write the drawing as one <svg> element, the same byte for byte for the same drawing.

    Args:
        drawing: the drawing.
        standalone: make a whole SVG file, with a title and its own colors, which change under a dark color scheme. Else
            the colors are the page's CSS variables (`--ink` and so on), and the page says what the figure shows.
    """
    size = (f'width="{_number(drawing.width)}pt" height="{_number(drawing.height)}pt" '
            f'viewBox="0 0 {_number(drawing.width)} {_number(drawing.height)}" stroke-linejoin="round" fill="none"')
    shapes = "\n".join(_element(shape, standalone) for shape in drawing.all_shapes())
    if not standalone:
        return f"<svg {size}>\n{shapes}\n</svg>"
    # A viewer that ignores the style, such as an editor of vector graphics, shows the light colors.
    dark = " ".join(f'[{use}="{light}"] {{ {use}: {dark} }}' for light, dark in PALETTE.values()
                    for use in ("fill", "stroke"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img">\n'
            f"<title>{escape(xml_text(drawing.title), quote=False)}</title>\n"
            f"<style>@media (prefers-color-scheme: dark) {{ {dark} }}</style>\n{shapes}\n</svg>\n")


def _element(shape: Shape, standalone: bool) -> str:
    def color(use: str, name: Color | None, opacity: float = 1.0) -> str:
        if name is None:
            return ""
        value = PALETTE[name][0] if standalone else f"var(--{name})"
        return f' {use}="{value}"' + (f' {use}-opacity="{_number(opacity)}"' if opacity < 1 else "")

    def line(stroke: Color | None, width: float, opacity: float = 1.0) -> str:
        return color("stroke", stroke, opacity) + f' stroke-width="{_number(width)}"' if stroke else ""

    match shape:
        case Path():
            dashes = " ".join(_number(length * shape.width) for length in shape.dashes)
            return (f'<path d="{_path_data(shape)}"' + color("fill", shape.fill, shape.fill_opacity)
                    + line(shape.stroke, shape.width, shape.stroke_opacity)
                    + (f' stroke-dasharray="{dashes}"' if dashes else "")
                    + (f' data-layer="{escape(shape.layer)}"' if shape.layer else "") + "/>")
        case Circle():
            x, y = map(_number, shape.center)
            return (f'<circle cx="{x}" cy="{y}" r="{_number(shape.radius)}"' + color("fill", shape.fill)
                    + line(shape.stroke, shape.width) + "/>")
        case Text():
            x, y = _number(shape.x), _number(shape.y)
            return (f'<text x="{x}" y="{y}" font-size="{_number(shape.size)}"' + color("fill", shape.color)
                    + (f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else "")
                    + (' font-weight="600"' if shape.bold else "")
                    + (f' transform="rotate(-90 {x} {y})"' if shape.rotated else "")
                    + f">{escape(shape.text, quote=False)}</text>")
        case Picture():
            place = " ".join(f'{name}="{_number(getattr(shape, name))}"' for name in ("x", "y", "width", "height"))
            pixelated = ' style="image-rendering: pixelated"' if shape.resampling == Image.Resampling.NEAREST else ""
            return (f'<image {place} preserveAspectRatio="none"{pixelated} '
                    f'href="{data_uri(image_file(shape.pixels, "PNG"), "png")}"/>')


def _path_data(path: Path) -> str:
    """The `d` of a path. A horizontal or vertical line has a shorter command."""
    data, before = "", ("", "")
    for place in path.points:
        x, y = map(_number, place)
        data += f"M{x} {y}" if not data else f"H{x}" if y == before[1] else f"V{y}" if x == before[0] else f"L{x} {y}"
        before = x, y
    return data + "Z" * path.closed


def _number(value: float) -> str:
    """At most two decimals: a hundredth of a point is not visible."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # + 0.0 makes -0.0 positive
