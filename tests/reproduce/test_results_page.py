"""The results page and its figures: every number is that of the results file, and nothing is claimed beyond it."""

import json
import re
import xml.etree.ElementTree as ET
from html import unescape
from typing import get_args

import pytest
from markdown_it import MarkdownIt

from alexnet.errors import UserError
from alexnet.reproduce.claim import Claim, Comparison, Variant
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.outcome import Verdict
from alexnet.reproduce.results import not_measured, read_outcomes
from alexnet.reproduce.results_page import BEGIN, END, HOW_TO_READ, escape, results_markdown, write_results_page
from alexnet.reproduce.results_text import (
    describe_size,
    format_expected,
    format_mean_sd,
    format_measured,
    format_number,
    verdict_sentences,
)
from alexnet.reproduce.verdicts import judge
from claim_outcomes import comparison, outcome, variant
from command_line import alexnet as command


def written_texts(path):
    """All text of an SVG file. Each line of a text is an element of its own."""
    return [element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def rows(markdown, start):
    """The cells of the table rows that begin with a word."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in markdown.splitlines()
            if line.startswith(f"| {start}")]


# --- Numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "unit", "text"), [
    (-1.44, "points", "−1.4"), (1.46, "points", "+1.5"), (-0.04, "points", "0.0"), (0.0, "points", "0.0"),
    (2.041, "times", "2.04"), (0.5, "times", "0.50")])
def test_a_difference_has_a_sign_and_one_decimal_and_a_ratio_two(value, unit, text):
    assert format_number(value, unit) == text


def test_a_measured_value_has_its_interval_or_says_that_it_has_none():
    assert format_measured(comparison()) == "−3.0 points (−5.5 to −0.5)"
    assert format_measured(comparison(low=None, high=None)) == "−3.0 points (no interval)"
    assert format_measured(comparison(mean=None, low=None, high=None)) == "not compared"
    assert format_measured(comparison(unit="times", mean=2.1, low=1.9, high=2.4)) == "2.10 times (1.90 to 2.40)"


def test_mean_and_standard_deviation_count_the_runs_that_have_a_value():
    assert format_mean_sd([0.39, 0.40, 0.41], percent=True) == "40.0 ± 1.0%"
    assert format_mean_sd([1.5, 2.5, None], percent=False) == "2.00 ± 0.71 (2 of 3 runs)"
    assert format_mean_sd([0.5], percent=True) == "50.0%"
    assert format_mean_sd([None, None], percent=True) == "not measured"


def test_every_number_of_the_page_is_that_of_the_file():
    page = results_markdown([outcome(comparisons=[comparison(paper=-2.0, sign=-1)])], "results")
    (summary,) = rows(page, "[dropout]")
    assert summary == ["[dropout](#dropout), §4.2", "dropout against no dropout", "−2.0 points",
                       "−3.0 points (−5.5 to −0.5)", "**supported**", "imagenette, bf16, 2026-11-29"]
    # Standard deviation of (42, 44, 43)% and of (39, 40, 41)%: 1 point; top-5 is a fifth, the loss four times it.
    assert rows(page, "no dropout") == [["no dropout", "`arch.dropout=0`", "0.01 (3 from 0.003 to 0.03)", "yes",
                                         "43.0 ± 1.0%", "8.6 ± 0.2%", "1.72 ± 0.04", "1.0 ± 0.0%"]]
    assert rows(page, "dropout |") == [["dropout", "common", "0.01 (3 from 0.003 to 0.03)", "yes", "40.0 ± 1.0%",
                                        "8.0 ± 0.2%", "1.60 ± 0.04", "1.0 ± 0.0%"]]
    assert ("**Supported.** dropout against no dropout: 3.0 points less top-1 error (95% interval −5.5 to −0.5, "
            "p = 0.035, 3 seeds). The difference is significant.\n") in page
    assert "1,000 training and 3,925 validation images, 150 epochs, seeds 0 to 2." in page
    assert "Learning rates chosen by top-1 error on the tuning split (100, 101)." in page
    assert "```sh\nalexnet reproduce dropout --data imagenette\n```" in page


def test_a_value_of_its_own_has_a_column():
    epochs = outcome("figure1", value_name="epochs to 25% clean training error", fractions=[])
    for tried in epochs["variants"]:
        for number, measured in enumerate(tried["runs"]):
            measured |= {"value": 8.0 + number, "top1_error": None}
    page = results_markdown([epochs], "results")
    assert "| clean training error | compared: epochs to 25% clean training error |" in page
    assert rows(page, "dropout |")[0][4:] == ["not measured", "8.0 ± 0.2%", "1.60 ± 0.04", "1.0 ± 0.0%",
                                               "9.00 ± 1.00"]


def test_the_epochs_to_a_target_have_a_column_and_runs_that_did_not_reach_it_are_bounds():
    target = "epochs to 5% clean training error"
    page_of = outcome(variants=[variant(name, (0.4, 0.4, 0.4)) for name in ("no dropout", "dropout", "slow", "fast")],
                      comparisons=[comparison(), comparison(quantity=target, unit="times")])
    for tried, epochs in zip(page_of["variants"], [(60.0, 62.0, 64.0), (None,) * 3, (None, 10.0, None),
                                                   (5.0, None, 7.0)], strict=True):
        for measured, value in zip(tried["runs"], epochs, strict=True):
            measured["more"] = {target: value}
            if tried["name"] == "slow" and value is None:
                measured["epochs_without_target"] = 40
    page = results_markdown([page_of], "results")
    assert "| clean training error | epochs to 5% clean training error |" in page
    assert [rows(page, f"{name} |")[0][-1] for name in ("no dropout", "dropout", "slow", "fast")] == [
        "62.00 ± 2.00", "not reached", "at least 30.00 (2 of 3 runs did not reach it)", "6.00 ± 1.41 (2 of 3 runs)"]


# --- Verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "ending"), [
    ({}, "."),
    ({"paper": -1.4}, "; the paper's number, −1.4 points, is smaller, and takes more seeds to find."),
    ({"paper": -3.2}, "; the paper's number, −3.2 points, is that large."),
    ({"paper": -3.2, "source": "X"}, "; the number of X, −3.2 points, is that large."),
    ({"least": -1.0}, "; the least effect that counts, −1.0 points, is smaller, and takes more seeds to find.")])
def test_an_undecided_comparison_says_why_and_what_it_could_have_shown(expected, ending):
    text = verdict_sentences(comparison(verdict="undecided", p_holm=0.07, reason="it is not significant", **expected))
    assert text.endswith(" 3 seeds). It is not significant. The minimum detectable effect: a true difference of 3.1 "
                         f"points or more is found in 80% of such experiments{ending}")


@pytest.mark.parametrize("verdict", ["undecided", "contradicted"])
def test_what_could_have_been_found_stands_where_a_difference_is_not_significant_whatever_the_verdict(verdict):
    """The page promises it: not significant is p >= 0.05 after Holm's correction, which may be above 0.05 where p is
    not."""
    found = "The minimum detectable effect: a true difference of 3.1 points or more is found in 80% of such experiments"
    for p_holm, is_said in ((0.9, True), (0.0501, True), (0.0499, False), (None, False)):
        assert (found in verdict_sentences(comparison(verdict=verdict, p=0.01, p_holm=p_holm))) == is_said


def test_an_effect_that_is_excluded_has_what_could_have_been_found():
    """Eight differences of 0.3 points, half of them negative, against a published one of -5: mean 0, standard deviation
    0.3 x sqrt(8 / 7) = 0.3207, so the interval is +- 2.3646 x 0.11339 = 0.27. SciPy's nct, 7 degrees: t > 2.3646 in
    80% of tests at a shift of 3.270 standard errors, 0.37 points."""
    pairs = [(0.403 if seed % 2 else 0.397, 0.4) for seed in range(8)]
    claim = Claim("c", "", "", "", (Variant("a"), Variant("b")), (Comparison("b", "a", -1, -5.0),), 1, seeds=8)
    (found,) = judge(claim, [pairs], {"top1": "top-1 error"})
    assert (found["verdict"], found["p_holm"]) == ("contradicted", pytest.approx(1))
    assert verdict_sentences(found).endswith(
        "The minimum detectable effect: a true difference of 0.4 points or more is found in 80% of such experiments; "
        "the paper's number, −5.0 points, is that large.")


def test_a_ratio_could_have_been_found_on_both_sides_of_1():
    text = verdict_sentences(comparison(unit="times", mean=1.1, low=0.8, high=1.5, low_all=0.7, high_all=1.7,
                                        minimum_detectable=1.6, paper=0.5, verdict="undecided", reason="chance",
                                        quantity="validation loss", p_holm=0.07))
    assert ("1.10 times the validation loss (95% interval 0.80 to 1.50, simultaneous 0.70 to 1.70, p = 0.070, "
            "3 seeds)") in text
    assert "a true ratio of 1.60 or more, or of 0.62 or less, is found" in text
    assert text.endswith("the paper's number, 0.5 times, is that large.")  # half as much: 1 / 0.5 is above 1.6


@pytest.mark.parametrize(("sign", "paper", "found", "ending"), [
    (-1, -21.0, "20.0%", "is that large."), (-1, -19.0, "20.0%", "is smaller, and takes more seeds to find."),
    (1, 24.0, "25.0%", "is smaller, and takes more seeds to find.")])
def test_a_relative_difference_could_have_been_found_on_the_claims_side(sign, paper, found, ending):
    """A ratio of 1.25 or of 1 / 1.25 = 0.8: 25% more or 20% fewer."""
    text = verdict_sentences(comparison(unit="percent", sign=sign, paper=paper, minimum_detectable=25.0, p_holm=0.07,
                                        verdict="undecided"))
    assert f"a true difference of {found} or more is found" in text
    assert text.endswith(ending)


def test_a_difference_that_rounds_to_zero_is_neither_more_nor_less():
    assert "no dropout: a difference of 0.0 points in top-1 error (95%" in verdict_sentences(comparison(mean=0.04))


def test_the_color_of_the_towers_is_counted_once_for_each_run():
    """Under 10% color and over 40%: the first pair alone. The means of the three runs are 7% and 43%."""
    found = outcome()
    assert "Color in the towers" not in results_markdown([found], "results")
    colors = [[0.05, 0.5], [0.11, 0.49], [0.05, 0.30]]
    for trained in found["variants"]:  # the same runs
        for one, color in zip(trained["runs"], colors, strict=True):
            one["tower_color"] = color
    page = results_markdown([found], "results")
    assert ("**Color in the towers.** In 1 of 3 runs of networks with two towers, the kernels of conv1 are "
            "color-agnostic in one tower (under 10% color) and color-specific in the other (over 40%); the mean shares "
            "of color are 7% and 43%") in page


def test_a_claim_that_can_hardly_fail_has_a_footnote_where_it_is_supported(tmp_path, capsys):
    ours = comparison(name="five averaged against one network", variant="five averaged", reference="one network")
    noise = comparison(name="color noise, recolored images")
    outcomes = [outcome(comparisons=[comparison()]), outcome("ensemble", comparisons=[ours]),
                outcome("lighting", comparisons=[comparison(name="color noise against no color noise"), noise]),
                outcome("ensemble", comparisons=[ours | {"verdict": "supported in sign"}], data="other"),
                outcome("ensemble", comparisons=[ours | {"verdict": "undecided"}], data="third")]
    page = results_markdown(outcomes, "results")
    assert [row[4] for start in ("[", " |") for row in rows(page, start)] == [
        "**supported**", "**supported**<sup>1</sup>", "**supported**", "**supported in sign**<sup>1</sup>",
        "**undecided**", "**supported**<sup>2</sup>"]
    first, second = (line for line in page.splitlines() if line.startswith("<sup>"))
    assert first == (
        "<sup>1</sup> Ensemble, five averaged against one network: the average is nearly sure to err less, since it is "
        "compared with the mean error of its own five members; only the size of the effect is tested.")
    assert second.startswith("<sup>2</sup> Lighting, color noise, recolored images: the error is nearly sure to rise ")
    assert page.count("Caution: the average is nearly sure to err less") == 2
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in outcomes))
    assert command("results", file) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("(1)") == 3
    assert "(1) ensemble, five averaged against one network: the average is nearly sure to err less" in shown
    assert "(2) lighting, color noise, recolored images: the error is nearly sure to rise less" in shown


@pytest.mark.parametrize(("changes", "text"), [
    ({"values": [-3.0], "low": None, "high": None, "p": None, "p_holm": None, "minimum_detectable": None,
      "reason": "one seed gives no interval"},
     "3.0 points less top-1 error (1 seed, no interval). One seed gives no interval."),
    ({"values": [-3.0], "mean": None, "low": None, "high": None, "p": None, "p_holm": None, "minimum_detectable": None,
      "reason": "in 2 of 3 seeds a run diverged"}, "not compared. In 2 of 3 seeds a run diverged."),
    ({"p": None, "p_holm": None, "minimum_detectable": None, "reason": "alpha x sum / k is 0.01%"},
     "3.0 points less top-1 error (95% interval −5.5 to −0.5, 3 seeds). Alpha x sum / k is 0.01%.")])
def test_what_is_undecided_for_another_reason_than_chance_says_it(changes, text):
    assert verdict_sentences(comparison(verdict="undecided", **changes)) == f"dropout against no dropout: {text}"


@pytest.mark.parametrize(("changes", "cell", "sentence"), [
    ({"paper": -1.4}, "−1.4 points", "the paper's number, −1.4 points"),
    ({"paper": 6.0, "unit": "times"}, "6 times", "the paper's number, 6 times"),
    ({"paper": -1.0, "is_bound": True}, "beyond −1.0 points", "the paper's number, beyond −1.0 points"),
    ({"paper": 2.5, "is_bound": True}, "beyond +2.5 points", "the paper's number, beyond +2.5 points"),
    ({"paper": 2.0, "is_bound": True, "unit": "times"}, "beyond 2 times", "the paper's number, beyond 2 times"),
    ({"paper": -2.8, "source": "X"}, "−2.8 points (X)", "the number of X, −2.8 points"),
    ({"least": -0.5}, "no number; least effect −0.5 points", "the least effect that counts, −0.5 points"),
    ({"least": 1 / 1.1, "unit": "times"}, "no number; least effect 0.91 times",
     "the least effect that counts, 0.91 times")])
def test_a_published_number_says_whose_it_is_and_without_one_what_counts(changes, cell, sentence):
    assert format_expected(comparison(**changes)) == cell
    assert describe_size(comparison(**changes)) == sentence


def test_the_page_shows_what_is_undecided_at_the_limit_of_its_rates_and_quick():
    page = results_markdown([outcome(
        quick=True, notes=["the rates could not be extended"], comparisons=[comparison(verdict="undecided")],
        variants=[variant("no dropout", (0.42, 0.44, 0.43), 0.03, interior=False), variant("dropout", (0.4, 0.4, 0.4))],
    )], "results")
    assert rows(page, "[dropout]")[0][-2] == "**undecided** (quick trial)"
    assert rows(page, "no dropout")[0][2:4] == ["0.03 (3 from 0.003 to 0.03)", "**no**"]
    assert "**Undecided.** " in page
    assert "**Note.** This is a quick trial, which decides nothing.\n" in page
    assert "**Note.** The rates could not be extended.\n" in page


def test_another_design_than_the_claims_own_and_replaced_results_are_said():
    page = results_markdown([outcome(departures=["20 epochs instead of 150", "3 seeds instead of 8"],
                                     replaces=["2026-11-20", "2026-11-24"])], "results")
    assert rows(page, "[dropout]")[0][-2] == (
        "**supported** (not the claim's own design: 20 epochs instead of 150, 3 seeds instead of 8)")
    assert ("**Note.** This is not the claim's own design: 20 epochs instead of 150, 3 seeds instead of 8.\n") in page
    assert ("**Note.** Of 3 results of this design in the file the last is shown; the earlier ones were measured on "
            "2026-11-20, 2026-11-24.\n") in page


def test_errors_of_networks_with_several_views_name_them():
    """A single network's top-1 error is of one view, an ensemble's of its views; what is compared is of all views."""
    both = outcome("ensemble", value_name="top-1 error")
    both["variants"] = [variant("one network", (0.4, 0.42)) | {"views": 10},
                        variant("five averaged", (0.36, 0.38)) | {"views": 10, "averaged": 5}]
    for measured in both["variants"][0]["runs"]:
        measured["value"] = measured["top1_error"] - 0.01
    page = results_markdown([both], "results")
    (one,), (five,) = rows(page, "one network |"), rows(page, "five averaged |")
    assert (one[4], one[5], one[6], one[8]) == ("41.0 ± 1.4% (one view)", "8.2 ± 0.3% (one view)",
                                                "1.64 ± 0.06 (one view)", "40.0 ± 1.4% (ten views)")
    assert (five[4], five[8]) == ("37.0 ± 1.4% (ten views)", "37.0 ± 1.4% (ten views)")
    assert "view)" not in results_markdown([outcome()], "results")


def test_the_text_says_the_rules_of_the_verdicts():
    for verdict in get_args(Verdict):
        assert f"| **{verdict}** |" in HOW_TO_READ


def test_claims_without_a_result_are_listed_and_have_nothing_else():
    page = results_markdown([outcome()], "results")
    listed = re.findall(r"^- `([\w-]+)` \(", page, re.MULTILINE)
    assert listed == [name for name in CLAIMS if name != "dropout"] == not_measured([outcome()])
    assert page.count("### ") == page.count("![") == 1
    assert not_measured([]) == list(CLAIMS)
    assert "###" not in results_markdown([], "results")


# --- Page and files ---------------------------------------------------------------------------------------------------


def test_names_stand_on_the_page_as_they_are():
    name, data = "2|3 *views* <b> `x`_y_ [z](w) &amp; #1", "my_\nimages | $x$"
    strange = outcome(data=data, comparisons=[comparison(name=name)],
                      variants=[variant(name, (0.4, 0.4)), variant("b", (0.4, 0.4))])
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(results_markdown([strange], "results"))
    shown = "2|3 *views* &lt;b&gt; `x`_y_ [z](w) &amp;amp; #1"
    assert f"<td>{shown}</td>\n<td>no number</td>" in html
    assert f"<td>{shown}</td>\n<td><code>arch.dropout=0</code></td>\n<td>0.01" in html
    assert "<h3>dropout (§4.2), my_ images | $x$, 2026-11-29</h3>" in html
    assert escape("plain words, 3.5% (+1)") == "plain words, 3.5% (+1)"


def test_the_site_shows_each_sign_of_a_name_once():
    markdown = pytest.importorskip("markdown", reason="comes with the extra docs")
    signs = r"\ ` * _ { } [ ] < > | # ~ & &# $ ! p < 0.05"
    shown = markdown.markdown(f"word {escape(signs)}", extensions=["tables"])
    assert unescape(re.sub(r"<[^>]+>", "", shown)) == f"word {signs}"


def test_the_page_and_its_figures_are_the_same_each_time_and_the_text_around_them_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}\nafter\n")
    both = [outcome(), outcome(data="cifar10")]
    files = write_results_page(both, page)
    assert files == [page, tmp_path / "page" / "dropout.svg", tmp_path / "page" / "dropout-2.svg"]
    first = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write_results_page(both, page)] == first
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}| claim |")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    for name in ("dropout", "dropout-2"):  # links lead to the sections, pictures to the files
        assert text.count(f"(#{name})") == text.count(f'<a id="{name}"></a>') == text.count(f"(page/{name}.svg)") == 1


def test_a_new_page_is_made_and_one_without_marks_is_refused(tmp_path):
    write_results_page([], tmp_path / "new.md")
    assert (tmp_path / "new.md").read_text().startswith(f"# Results\n\n{BEGIN}**Not measured here**")
    (tmp_path / "other.md").write_text("mine")
    with pytest.raises(UserError, match="add the two lines, or name a new page"):
        write_results_page([outcome()], tmp_path / "other.md")
    assert (tmp_path / "other.md").read_text() == "mine"
    assert not (tmp_path / "other").exists()


# --- The figure -------------------------------------------------------------------------------------------------------


def test_the_figure_file_fits_a_page_of_800_pixels_and_follows_the_color_scheme(tmp_path):
    comparisons = [comparison(name=f"crops and mirroring, {n} images against center crop only, {n} images", paper=-1.0)
                   for n in ("500", "1,000", "3,000")]
    page = tmp_path / "p.md"
    write_results_page([outcome(comparisons=comparisons)], page)
    svg = tmp_path / "p" / "dropout.svg"
    root = ET.parse(svg).getroot()
    assert float(root.get("width").removesuffix("pt")) * 96 / 72 <= 820
    assert "prefers-color-scheme: dark" in svg.read_text()
    assert written_texts(svg).count("paper −1.0") == 1  # the line runs through all three rows
    assert "3,000 images" in " ".join(written_texts(svg))


# --- The file and the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "sentence"), [
    ("{", "line 2 of {} is not JSON"),
    ("[]", "line 2 of {} lacks against, claim, command"),
    (json.dumps({"claim": "dropout"}), "line 2 of {} lacks against, command"),
    (json.dumps(outcome("dropuot")), "line 2 of {} has the claim dropuot, which")])
def test_a_line_of_another_kind_is_refused(line, sentence, tmp_path, capsys):
    file, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    file.write_text(f"{json.dumps(outcome())}\n{line}\n")
    assert command("results", file, "--page", page) == 2
    assert sentence.format(file) in capsys.readouterr().err
    assert not page.exists()


def test_the_command_prints_the_verdicts_and_writes_the_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    file, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    file.write_text(json.dumps(outcome(comparisons=[comparison(paper=-1.4)])) + "\n")
    assert command("results", file, "--page", page) == 0
    printed = capsys.readouterr()
    assert "dropout against no dropout  −1.4 points  −3.0 points (−5.5 to −0.5)  supported" in printed.out
    assert f"not measured: {', '.join(name for name in CLAIMS if name != 'dropout')}\n" in printed.out
    assert printed.err == f"written: {page}\nwritten: {tmp_path / 'page' / 'dropout.svg'}\n"
    assert command("results", file, "--json") == 0
    assert json.loads(capsys.readouterr().out) == read_outcomes(file)


def test_mistakes_are_one_sentence(tmp_path, capsys):
    assert command("results", tmp_path / "none.jsonl") == 2
    assert "none.jsonl does not exist; `alexnet reproduce CLAIM --data DATA" in capsys.readouterr().err
    (tmp_path / "results.jsonl").write_text("")
    assert command("results", tmp_path / "results.jsonl", "--page", tmp_path / "page.html") == 2
    assert "page.html ends in .html; name a file that ends in .md" in capsys.readouterr().err
