"""Read the values, lines, markers and texts off a drawing."""

from alexnet.reproduce.figures.drawing import Circle, Path, Text
from alexnet.reproduce.figures.fonts import CAP_HEIGHT, text_width


def texts(drawing):
    return [shape.text for shape in drawing.all_shapes() if isinstance(shape, Text)]


def shapes(canvas, kind, **attributes):
    """The shapes of a kind with these attributes."""
    return [shape for shape in canvas.shapes if isinstance(shape, kind)
            and all(getattr(shape, name) == value for name, value in attributes.items())]


def values(axes, points):
    """The values at positions of the drawing: the inverse of `Axes.place`."""
    def value(scale, fraction):
        found = (scale.low * (scale.high / scale.low) ** fraction if scale.logarithmic
                 else scale.low + fraction * (scale.high - scale.low))
        return float(f"{found:.9g}") if abs(found) > 1e-9 else 0.0

    return [(value(axes.x, (x - axes.left) / (axes.right - axes.left)),
             value(axes.y, (axes.bottom - y) / (axes.bottom - axes.top))) for x, y in points]


def curves(axes, color, width):
    """The values along each line of a color and width."""
    return [values(axes, path.points) for path in shapes(axes, Path, stroke=color, width=width, closed=False)]


def circles(axes, **attributes):
    """The values at each circle."""
    return values(axes, [circle.center for circle in shapes(axes, Circle, **attributes)])


def labels(axes, *, rows):
    """Labels of the vertical axis (`rows`) or of the horizontal one, by their value."""
    found = {}
    for text in shapes(axes, Text):
        beside = text.anchor == "end" and text.x == axes.left - 6
        below = text.anchor == "middle" and axes.bottom < text.y < axes.bottom + 16
        if beside if rows else below:
            middle = text.y - CAP_HEIGHT * text.size / 2
            x, y = values(axes, [(text.x, middle)])[0]
            found[text.text] = y if rows else x
    return found


def box(text):
    """Left, top, right and bottom edge of a text in our font, rotated or not."""
    width = text_width(text.text, text.size, bold=text.bold)
    before = {"start": 0, "middle": width / 2, "end": width}[text.anchor]
    above, below = 0.8 * text.size, 0.22 * text.size
    if text.rotated:
        return text.x - above, text.y + before - width, text.x + below, text.y + before
    return text.x - before, text.y - above, text.x - before + width, text.y + below


def overlap(first, second):
    return (first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3])
