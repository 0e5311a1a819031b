"""Drawings: what the SVG and PNG writers make of shapes, the ticks and clipping of axes, and the font."""

import base64
import io
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFont

from alexnet._runtime.page_style import PALETTE
from alexnet.reproduce.figures import fonts
from alexnet.reproduce.figures.axes import Axes, Key, Scale
from alexnet.reproduce.figures.drawing import Drawing, Text
from alexnet.reproduce.figures.drawing import Path as DrawnPath
from alexnet.reproduce.figures.fonts import font, text_width
from alexnet.reproduce.figures.png import dashed, png, rasterize
from alexnet.reproduce.figures.style import save_figure
from alexnet.reproduce.figures.svg import svg
from alexnet.reproduce.figures.ticks import linear_ticks, log_ticks, number_labels, percent_labels
from drawings import box, curves, labels, shapes, values

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""A font that has Armenian letters, which ours lacks."""

SVG = "{http://www.w3.org/2000/svg}"


def rgb(name):
    return tuple(bytes.fromhex(PALETTE[name][0][1:]))


def pixels(drawing, dpi=72):
    """The drawing with one pixel a point: int [H, W, 3]."""
    return np.asarray(rasterize(drawing, dpi)).astype(int)


def inked(drawing, dpi=72):
    """Top, bottom, left and right of the pixels that are not paper; the last ones are included."""
    marked = (np.abs(pixels(drawing, dpi) - rgb("paper")) > 60).any(2)
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    return rows[0], rows[-1], columns[0], columns[-1]


# --- PNG --------------------------------------------------------------------------------------------------------------


def test_a_rectangle_has_its_color_where_it_is_and_is_blended_by_its_opacity():
    drawing = Drawing(20, 10, "")
    drawing.rectangle(2, 3, 6, 4, "blue")
    drawing.rectangle(12, 3, 6, 4, "red", 0.25)
    drawn = pixels(drawing)
    assert drawn.shape == (10, 20, 3)
    assert (drawn[4:6, 3:7] == rgb("blue")).all()
    assert (drawn[0:2] == rgb("paper")).all()
    assert drawn[5, 14].tolist() == pytest.approx(0.25 * np.array(rgb("red")) + 0.75 * np.array(rgb("paper")), abs=1.5)


def test_a_line_is_as_wide_as_it_says_and_its_edge_is_smooth():
    drawing = Drawing(100, 100, "")
    drawing.line([(10, 50), (90, 50)], "ink", 8)
    assert inked(drawing) == pytest.approx((46, 53, 10, 90), abs=1)
    slanted = Drawing(100, 100, "")
    slanted.line([(10, 10), (90, 60)], "ink", 3)
    assert len(np.unique(pixels(slanted)[..., 0])) > 8  # more colors than ink and paper


def test_dashes_cut_a_line_at_their_lengths_over_its_corners():
    assert [*dashed([(0, 0), (10, 0)], ())] == [[(0, 0), (10, 0)]]
    assert [*dashed([(0, 0), (10, 0)], (3, 2))] == [[(0, 0), (3, 0)], [(5, 0), (8, 0)]]
    assert [*dashed([(0, 0), (2, 0), (2, 8)], (3, 2))] == [[(0, 0), (2, 0), (2, 1)], [(2, 3), (2, 6)]]
    assert [*dashed([(0, 0), (4, 0)], (3, 2))] == [[(0, 0), (3, 0)]]
    lengths = [math.dist(*dash) for dash in dashed([(0, 0), (30, 40)], (4, 1))]
    assert lengths == pytest.approx([4] * 10)


def test_circles_and_polygons_are_filled_inside_their_outline():
    drawing = Drawing(40, 20, "")
    drawing.circle((10, 10), 6, stroke="ink", width=2, fill="paper")
    drawing.area([(24, 16), (36, 16), (30, 4)], "red")
    drawn = pixels(drawing)
    assert (drawn[10, 10] == rgb("paper")).all()
    assert np.abs(drawn[10, [4, 15]] - rgb("ink")).max() < 60
    assert (drawn[10, 2] == rgb("paper")).all()
    assert (drawn[13, 30] == rgb("red")).all()
    assert (drawn[5, 25] == rgb("paper")).all()


@pytest.mark.parametrize(("anchor", "left"), [("start", 100), ("middle", 60), ("end", 20)])
def test_text_stands_at_its_anchor_on_its_baseline(anchor, left):
    drawing = Drawing(200, 60, "")
    width = text_width("HHHHHHHH", 80 / text_width("HHHHHHHH", 1))
    drawing.text(100, 40, "HHHHHHHH", 80 / text_width("HHHHHHHH", 1), anchor=anchor)
    assert width == pytest.approx(80)
    top, bottom, first, last = inked(drawing)
    assert (first, last) == (pytest.approx(left, abs=2.5), pytest.approx(left + 80, abs=2.5))
    assert bottom in (39, 40)
    size = drawing.shapes[0].size
    assert bottom - top == pytest.approx(0.727 * size, abs=1.5)


def test_rotated_text_runs_upward_and_keeps_its_anchor():
    drawing = Drawing(60, 200, "")
    drawing.text(40, 150, "HHHH", 20, rotated=True)
    top, bottom, left, right = inked(drawing)
    assert bottom == pytest.approx(150, abs=3.5)
    assert top == pytest.approx(150 - text_width("HHHH", 20), abs=3.5)
    assert right in (39, 40)
    assert left == pytest.approx(40 - 0.727 * 20, abs=1.5)
    # A box that stands on the right would be a rotation in the other direction: L has its foot at the top right.
    letter = Drawing(60, 60, "")
    letter.text(40, 40, "L", 30, rotated=True)
    drawn = pixels(letter)[..., 0] < 128
    top, bottom, left, right = inked(letter)
    assert drawn[top + 2, right - 1]  # the foot's end is above, at the baseline
    assert not drawn[top + 2, left + 1]
    assert drawn[bottom - 1, left + 1]  # the stem runs along the start of the text


@pytest.mark.parametrize("vertical", ["top", "middle"])
def test_lines_of_text_are_placed_by_their_top_or_their_middle(vertical):
    drawing = Drawing(60, 100, "")
    drawing.text(10, 50, "HH\nHH\nHH", 10, vertical=vertical)
    top, bottom, *_ = inked(drawing)
    height = 2 * 12 + 7.27
    expected = 50.0 if vertical == "top" else 50 - height / 2
    assert (top, bottom) == pytest.approx((expected, expected + height), abs=1.5)


def test_an_image_lies_where_it_was_put():
    drawing = Drawing(144, 72, "")
    drawing.picture(np.full((8, 8, 3), (200, 30, 60), np.uint8), 90, 18, 36)
    drawn = pixels(drawing, 160)
    red = (drawn == (200, 30, 60)).all(2)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (40, 119, 200, 279)  # inches times 160
    assert red.sum() == 80 * 80


def test_a_transparent_image_shows_what_is_below_it():
    drawing = Drawing(20, 20, "")
    drawing.rectangle(0, 0, 20, 20, "blue")
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0] = 255
    drawing.picture(layer, 0, 0, 20, 20, Image.Resampling.NEAREST)
    drawn = pixels(drawing)
    assert (drawn[5, 5] == 255).all()
    assert (drawn[15, 5] == rgb("blue")).all()


def test_shapes_that_reach_over_the_edge_are_cut_off():
    drawing = Drawing(20, 20, "")
    drawing.line([(-50, 10), (70, 10)], "ink", 4)
    drawing.circle((0, 0), 5, fill="red")
    drawing.circle((-90, 0), 5, fill="red")
    drawing.text(15, 19, "wide text", 10)
    drawing.picture(np.zeros((4, 4, 3), np.uint8), 15, 15, 30)
    drawn = pixels(drawing)
    assert (drawn[10, [0, 19]] == rgb("ink")).all()
    assert (drawn[0, 0] == rgb("red")).all()


# --- SVG --------------------------------------------------------------------------------------------------------------


def test_an_svg_has_the_same_shapes_and_escapes_text():
    drawing = Drawing(100, 50, "A <title> & more, caf\udce9\x01")
    drawing.line([(0, 1.005), (10, 1.005), (10, 20), (5, 5)], "quiet", 2, dashes=(3, 1), opacity=0.5)
    drawing.area([(1, 1), (2, 1), (2, 2)], "red", 0.25, stroke="ink", layer="conv1")
    drawing.circle((3, 4), 2.5, fill="blue")
    drawing.text(7, 8, "a < b & $c \udce9\x01", 9, "quiet", anchor="end", bold=True, rotated=True)
    drawing.picture(np.full((2, 3, 3), 7, np.uint8), 1, 2, 30, 20, Image.Resampling.NEAREST)
    root = ET.fromstring(svg(drawing, standalone=True))
    assert root.attrib["viewBox"] == "0 0 100 50"
    assert (root.attrib["width"], root.attrib["role"]) == ("100pt", "img")
    assert root.find(f"{SVG}title").text == "A <title> & more, caf\ufffd\ufffd"
    line, area = root.iter(f"{SVG}path")
    assert re.fullmatch(r"M0 1(\.0[01])?H10V20L5 5", line.attrib["d"])
    assert line.attrib["stroke-dasharray"] == "6 2"  # in line widths
    assert (line.attrib["stroke-opacity"], line.attrib["stroke-width"]) == ("0.5", "2")
    assert area.attrib["d"] == "M1 1H2V2Z"
    assert (area.attrib["fill-opacity"], area.attrib["data-layer"]) == ("0.25", "conv1")
    (circle,) = root.iter(f"{SVG}circle")
    assert [circle.attrib[name] for name in ("cx", "cy", "r")] == ["3", "4", "2.5"]
    (text,) = root.iter(f"{SVG}text")
    assert text.text == "a < b & $c \ufffd\ufffd"
    assert text.attrib["transform"] == "rotate(-90 7 8)"
    assert (text.attrib["text-anchor"], text.attrib["font-weight"], text.attrib["font-size"]) == ("end", "600", "9")
    (image,) = root.iter(f"{SVG}image")
    assert "pixelated" in image.attrib["style"]
    encoded = Image.open(io.BytesIO(base64.b64decode(image.attrib["href"].partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(encoded), np.full((2, 3, 3), 7))


def test_an_svg_in_a_page_takes_the_pages_colors_and_says_nothing_of_its_own():
    drawing = Drawing(10, 10, "title")
    drawing.text(1, 2, "x", color="red")
    text = svg(drawing)
    assert 'fill="var(--red)"' in text
    assert "#" not in text
    assert "title" not in text
    assert "xmlns" not in text
    assert ET.fromstring(text).tag == "svg"


def test_the_same_drawing_gives_the_same_bytes(tmp_path):
    def make(folder):
        drawing = Drawing(90, 40, "same")
        drawing.text(3, 20, "gleich", bold=True)
        drawing.circle((70, 20), 9, stroke="red", width=2)
        return [path.read_bytes() for path in save_figure(drawing, tmp_path / folder / "x")]

    assert make("a") == make("b")


def test_a_png_file_says_its_resolution():
    with Image.open(io.BytesIO(png(Drawing(72, 36, ""), 120))) as image:
        assert image.size == (120, 60)
        assert image.info["dpi"] == pytest.approx((120, 120), abs=0.1)


# --- Font -------------------------------------------------------------------------------------------------------------


def test_the_font_has_the_letters_of_european_languages_and_mathematical_signs():
    letters = "AZaz09äöüßéèñçøåžşğıłőαωΔЖяії×−–—…≤≥≈≠→±·°½€§%‰√∞"
    for bold in (False, True):
        face = font(letters, 20.0, bold=bold)
        assert face.getname()[0] == ("Inter SemiBold" if bold else "Inter")
        missing = bytes(face.getmask("\uffff"))
        assert not [letter for letter in letters if bytes(face.getmask(letter)) == missing]


def test_a_text_in_another_script_is_drawn_with_a_font_of_the_system_that_has_it(monkeypatch):
    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ("no-such-font.ttf",))
    fonts._file.cache_clear()
    assert font("Հայերեն", 20.0).getname()[0] == "Inter"  # shows boxes
    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ("no-such-font.ttf", str(DEJAVU)))
    fonts._file.cache_clear()
    assert font("Հայերեն", 20.0).getname()[0] == "DejaVu Sans"
    assert font("plain", 20.0).getname()[0] == font("grün − ½", 20.0).getname()[0] == "Inter"
    assert text_width("Հայերեն", 10) == pytest.approx(ImageFont.truetype(str(DEJAVU), 10).getlength("Հայերեն"), 0.05)
    fonts._file.cache_clear()


def test_bold_text_is_wider_and_lines_are_measured_one_by_one():
    assert text_width("bold", 10, bold=True) > text_width("bold", 10)
    assert text_width("a\nlonger", 10) == text_width("longer", 10)
    assert text_width("wide", 20) == pytest.approx(2 * text_width("wide", 10))
    assert text_width("", 10) == 0


# --- Ticks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high", "most", "ticks"), [
    (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 0.94, 6, [0, 0.2, 0.4, 0.6, 0.8]), (0, 5.2, 6, [0, 1, 2, 3, 4, 5]),
    (0, 4.4, 6, [0, 1, 2, 3, 4]), (-61, 60, 5, [-50, 0, 50]), (0.87, 0.905, 5, [0.87, 0.88, 0.89, 0.9]),
    (0, 0.3, 4, [0, 0.1, 0.2, 0.3]), (0, 98_000, 4, [0, 50_000]), (1e-7, 1.1e-6, 6, [2e-7, 4e-7, 6e-7, 8e-7, 1e-6])])
def test_ticks_are_the_multiples_of_1_2_or_5_times_a_power_of_ten(low, high, most, ticks):
    assert linear_ticks(low, high, most) == pytest.approx(ticks)
    assert len(linear_ticks(low, high, most)) <= most


def test_ticks_of_epochs_are_integers():
    assert linear_ticks(0.5, 1.5, whole=True) == [1]
    assert linear_ticks(0.9, 3.1, whole=True) == [1, 2, 3]
    assert linear_ticks(-1.7, 92.7, whole=True) == [0, 20, 40, 60, 80]


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (8e-6, 0.012, [1e-5, 1e-4, 1e-3, 1e-2]), (0.0024, 0.036, [0.005, 0.01, 0.02]), (0.9, 1100, [1, 10, 100, 1000]),
    (1, 10, [1, 10])])
def test_ticks_of_a_logarithmic_axis_are_powers_of_ten_where_there_are_two(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_labels_have_equal_decimals_and_a_true_minus():
    assert number_labels([0, 0.5, 1]) == ["0.0", "0.5", "1.0"]
    assert number_labels([-20, 0, 20]) == ["−20", "0", "20"]
    assert number_labels([0, 50_000]) == ["0", "50,000"]
    assert number_labels([2e-7, 4e-7]) == ["2e−07", "4e−07"]
    assert number_labels([]) == []
    assert percent_labels([0, 0.2, 1]) == ["0%", "20%", "100%"]
    assert percent_labels([0.07, 0.075]) == ["7.0%", "7.5%"]


# --- Axes -------------------------------------------------------------------------------------------------------------


def axes_of(y=(0, 1), x=(0, 10)):
    return Axes(Drawing(200, 100, ""), 50, 10, 100, 80, Scale(*x), Scale(*y))


def test_values_are_drawn_to_scale():
    axes = axes_of()
    assert axes.place(0, 0) == (50, 90)
    assert axes.place(10, 1) == (150, 10)
    assert axes.place(2.5, 0.5) == (75, 50)
    logarithmic = Axes(Drawing(200, 100, ""), 0, 0, 100, 100, Scale(1e-4, 1, logarithmic=True), Scale(2, 0))
    assert logarithmic.place(1e-2, 0) == pytest.approx((50, 0))  # a scale may run downward
    assert logarithmic.place(1e-3, 2) == pytest.approx((25, 100))


def test_a_curve_ends_at_the_upper_edge_and_has_a_gap_where_a_value_is_missing():
    axes = axes_of()
    axes.plot([0, 2, 4], [0.5, 0.5, 2.5], "blue")
    assert curves(axes, "blue", 1.8) == [[(0, 0.5), (2, 0.5), (2.5, 1)]]  # at x = 2.5 the line leaves through the top
    axes = axes_of()
    axes.plot([0, 1, 2, 3, 4], [0.1, 0.2, math.nan, 0.4, 0.5], "blue")
    assert curves(axes, "blue", 1.8) == [[(0, 0.1), (1, 0.2)], [(3, 0.4), (4, 0.5)]]
    axes = axes_of()
    axes.plot([0, 1, 2], [3, -1, 3], "blue")
    assert curves(axes, "blue", 1.8) == [[(0.5, 1), (0.75, 0)], [(1.25, 0), (1.5, 1)]]
    axes = axes_of()
    axes.plot([0, 1, 2], [2, 3, math.inf], "blue")
    assert not axes.shapes


def test_axes_have_a_label_and_a_grid_line_at_each_tick():
    axes = axes_of()
    axes.y_axis([0, 0.5], ["none", "half"])
    axes.x_axis([0, 5, 10], ["a", "b", "c"], "below")
    axes.title("Above")
    assert labels(axes, rows=True) == {"none": 0, "half": 0.5}
    assert labels(axes, rows=False) == {"a": 0, "b": 5, "c": 10}
    grid = [values(axes, path.points) for path in shapes(axes, DrawnPath, stroke="faint")]
    assert grid == [[(0, 0), (10, 0)], [(0, 0.5), (10, 0.5)]]
    (title,), (below,) = shapes(axes, Text, text="Above"), shapes(axes, Text, text="below")
    assert (title.x, title.bold) == (axes.left, True)
    assert title.y < axes.top < axes.bottom < below.y


@pytest.mark.parametrize(("ys", "corner"), [
    ([1, 0.6, 0.4, 0.3], "upper right"), ([0.0, 0.4, 0.7, 1.0], "lower right"), ([1.0, 1.0, 1.0, 0.5], "lower left")])
def test_a_legend_is_in_the_corner_where_it_covers_no_curve(ys, corner):
    drawing = Drawing(320, 220, "")
    axes = Axes(drawing, 20, 20, 280, 180, Scale(0, 9), Scale(0, 1.05))
    axes.plot([0, 3, 6, 9], ys, "blue")
    if corner == "lower left":  # a second curve in the other lower corner
        axes.plot([5, 9], [0.1, 0.1], "red")
    axes.legend([Key("training", "blue"), Key("validation", "red")])
    left, top, right, bottom = box(shapes(axes, Text, text="validation")[0])
    assert ("right" if left > 160 else "left") == corner.split()[1]
    assert ("lower" if top > 110 else "upper") == corner.split()[0]
    assert right <= axes.right
    assert bottom <= axes.bottom
