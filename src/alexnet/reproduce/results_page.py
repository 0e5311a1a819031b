"""Write docs/results.md from docs/results.jsonl: a summary of all claims, then a figure and a table for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from alexnet._runtime.atomic_files import replace_file
from alexnet.errors import UserError, plural
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.figures.claim_dots import claim_dots
from alexnet.reproduce.figures.style import save_figure
from alexnet.reproduce.outcome import OutcomeJson, VariantJson
from alexnet.reproduce.results import not_measured
from alexnet.reproduce.results_text import (
    cautions,
    compared_quantities,
    describe_views,
    design_notes,
    error_views,
    footnote_number,
    format_expected,
    format_mean_sd,
    format_measured,
    format_runs,
    format_seeds,
    mark,
    tower_sentences,
    verdict_sentences,
)

BEGIN, END = "<!-- begin: written by `alexnet results`, do not edit -->\n", "<!-- end -->"
"""The command replaces what stands between these two marks, and keeps the text around them."""


def write_results_page(outcomes: Sequence[OutcomeJson], page: Path) -> list[Path]:
    """Replace the marked part of a Markdown page by the results, and draw a figure for each outcome beside it.

    The figures go into the folder of the page's name: `results/dropout.svg` for `results.md`. A page that does not
    exist is made.

    Returns:
        The files written.

    Raises:
        UserError: the page exists and has no marks. Nothing is written then.
    """
    before, after = split_page(page)
    names = figure_names(outcomes)
    text = f"{before}{BEGIN}{results_markdown(outcomes, page.stem)}{END}{after}"
    figures = [path for outcome, name in zip(outcomes, names, strict=True)
               for path in save_figure(claim_dots(outcome), page.with_suffix("") / f"{name}.svg")]
    replace_file(page, lambda new: new.write_text(text, encoding="utf-8"))
    return [page, *figures]


def split_page(page: Path) -> tuple[str, str]:
    """The text before a page's first mark and after its second; of a page that does not exist, a title.

    Raises:
        UserError: a mark is missing.
    """
    if not page.exists():
        return "# Results\n\n", "\n"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{page} does not have the lines {BEGIN.strip()} and {END}, between which the results go",
                        "add the two lines, or name a new page")
    return before, after


def figure_names(outcomes: Sequence[OutcomeJson]) -> list[str]:
    """A file name without ending for each outcome: the claim's name, numbered where a claim has several outcomes."""
    claims = [outcome["claim"] for outcome in outcomes]
    return [claim if claims.index(claim) == place else f"{claim}-{claims[:place].count(claim) + 1}"
            for place, claim in enumerate(claims)]


def results_markdown(outcomes: Sequence[OutcomeJson], folder: str) -> str:
    """The generated part of the page: the summary, the claims without results, then a section for each outcome.

    Args:
        outcomes: in the order of the page.
        folder: where the figures are, relative to the page.
    """
    parts = [_summary(outcomes), _not_measured(outcomes)]
    if outcomes:
        parts.append(HOW_TO_READ)
    parts += [_section(outcome, name, folder)
              for outcome, name in zip(outcomes, figure_names(outcomes), strict=True)]
    return "\n\n".join(part for part in parts if part) + "\n"


HOW_TO_READ = """\
**How to read the figures.** *Upper panels:* each row compares two networks that were trained with the same seeds; the
table below the figure has their settings. The dot is the mean over the seeds of the difference (of epochs and losses:
of the ratio), and an open circle is one seed. The thick bar is the 95% interval of this comparison alone. Where a claim
has several comparisons, the thin bar is the simultaneous 95% interval (Bonferroni), which is wider: with a probability
of at least 95%, all of the claim's thin bars contain their true values. The red *line* is the published number; where
there is none, it is dashed and is the least effect that counts. The gray area is the side that the claim predicts. A
triangle instead of the dot is a bound: runs of one network ended before they reached the target and count with the
epochs that they had, so the true ratio lies further on, where the triangle points.
*Lower left:* every run of the networks, one panel for each quantity by which networks are compared, with a line at the
mean. A filled triangle is a run that ended before it reached the target, at the epochs that it had; its network has no
line. Where other runs have no value, such as those that diverged, the number of the shown runs stands below the name.
*Lower right:* the learning rates that were tried with other seeds, the chosen one filled; a cross is a rate at
which a run diverged or did not reach the target.

**How a verdict is made.** A difference is *significant* if its p value is below 0.05 (two-sided paired t test over the
seeds, after Holm's correction for all comparisons of the claim). The size of an effect is judged by the thin *bar*, or
by the thick one where there is no thin one.

| verdict | rule |
|---|---|
| **supported** | significant, on the side that the claim predicts, and the bar reaches the line or lies beyond it |
| **supported in sign** | *smaller effect:* significant, on that side, but the bar does not reach the solid line, so \
the effect is smaller than the published one |
| **supported in sign** | *unknown size:* significant, on that side, but only a bound of the effect is known, and its \
bar does not lie beyond the line |
| **contradicted** | *opposite effect:* significant, on the other side |
| **contradicted** | *not the published effect:* not significant, and the bar does not reach the solid line, so an \
effect of the published size is excluded |
| **contradicted** | *no effect that counts:* the bar does not reach the dashed line, whether the difference is \
significant or not |
| **undecided** | anything else. The reason is given, such as a bar that contains both no difference and the line |

Published differences of errors are compared as *relative* ones, because our errors differ from the paper's: "−3.3%"
means 3.3% fewer errors, and "1.4 points of 42.1%" beside it is what was published. Epochs and losses
are compared as ratios. Where nothing was published, a least effect counts (smallest effect size of interest), such as 1
point of top-1 error or a factor of 1.1 in epochs or losses; the dashed line shows it. Smaller effects count as none. A
comparison is also undecided if fewer seeds were run than the claim plans, if a run diverged, if runs of both networks
did not reach the target, or if the best learning rate of a network is an end of the rates that were tried: a fair
comparison needs a worse rate on both sides. Holm's test is a little sharper than the thin bar, so the thin bar of
a significant difference may cross the line of no difference.

**What the intervals cover.** They cover the choice of the seed: initial weights, order of the images, random crops and
dropout, and, where a claim trains on a few images of each class, which images these are. They do not cover the choice
of the validation images, of the data set, or of the learning rate, which are the same for all seeds; and runs of one
network serve all claims that compare it, so their verdicts are not independent.

**Minimum detectable effect.** It is given where a difference is not significant, and says whether the experiment was
large enough: a true effect of this size is found in 80% of such experiments. If it is larger than the published number,
more seeds are needed.

Tables give mean ± standard deviation over seeds, after the last epoch. *Common* settings are those of the design. The
*clean* training error is that of the training images without dropout and without random crops. *At least* is a mean in
which runs that ended before their target count with the epochs that they had. Runs that
end at their target are not validated. Results with other data, images, epochs, seeds, precision or settings stand side
by side; of several results of one design, the last one in the file is shown, and its section says so."""


def _summary(outcomes: Sequence[OutcomeJson]) -> str:
    """One row for each comparison; the claim's name and section stand in its first row. Then the footnotes."""
    titles = ["claim", "comparison", "published", "measured here (95% interval)", "verdict", "data, precision, date"]
    rows = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    footnotes = cautions(outcomes)
    for outcome, figure in zip(outcomes, figure_names(outcomes), strict=True):
        head = f"[{outcome['claim']}](#{figure}), {escape(outcome['section'])}"
        marked = f" ({escape(mark(outcome))})" if mark(outcome) else ""
        measured = f"{escape(outcome['data'])}, {outcome['precision']}, {outcome['date']}"
        for comparison in outcome["comparisons"]:
            number = footnote_number(footnotes, outcome, comparison)
            rows.append(f"| {head} | {escape(comparison['name'])} | {escape(format_expected(comparison))} | "
                        f"{format_measured(comparison)} | **{comparison['verdict']}**"
                        f"{f'<sup>{number}</sup>' * (number > 0)}{marked} | {measured} |")
            head = ""
    notes = [f"<sup>{number}</sup> {_sentence(footnote)}" for number, footnote in enumerate(footnotes, 1)]
    return "\n\n".join(["\n".join(rows), *notes]) if outcomes else ""


def _not_measured(outcomes: Sequence[OutcomeJson]) -> str:
    """The claims without an outcome, as a list."""
    rows = [f"- `{name}` ({escape(CLAIMS[name].section)}): {_sentence(CLAIMS[name].statement)}"
            for name in not_measured(outcomes)]
    head = ["**Not measured here** (`alexnet reproduce NAME --data DATA` tests it):", ""]
    return "\n".join(head + rows) if rows else ""


def _section(outcome: OutcomeJson, name: str, folder: str) -> str:
    """The figure, the verdicts, the design, a table of the networks, and the command of one outcome."""
    verdicts = [f"**{comparison['verdict'].capitalize()}.** {escape(verdict_sentences(comparison, outcome['claim']))}"
                for comparison in outcome["comparisons"]]
    return "\n\n".join([
        f'<a id="{name}"></a>',
        f"### {outcome['claim']} ({escape(outcome['section'])}), {escape(outcome['data'])}, {outcome['date']}",
        f"**Claim.** {_sentence(outcome['statement'])}",
        f"![{escape(_description(outcome))}]({folder}/{name}.svg)",
        verdicts[0] if len(verdicts) == 1 else "\n".join(f"- {verdict}" for verdict in verdicts),
        f"**Design.** {_sentence(outcome['design'])}",
        f"**What would contradict it.** {_sentence(outcome['against'])}",
        *(f"**Note.** {_sentence(note)}" for note in (*design_notes(outcome), *outcome["notes"])),
        _networks(outcome),
        *(f"**Color in the towers.** {_sentence(tower)}" for tower in [tower_sentences(outcome)] if tower),
        f"```sh\n{outcome['command']}\n```",
        f"{escape(outcome['data'])} at {outcome['side']} pixels, {outcome['images'][0]:,} training and "
        f"{outcome['images'][1]:,} validation images, {plural(outcome['epochs'], 'epoch')}, "
        f"seeds {format_seeds(outcome['seeds'])}. "
        f"Learning rates chosen by {escape(outcome['tuned_by'])} ({format_seeds(outcome['tuning_seeds'])}). "
        f"{escape(outcome['machine'])}, {outcome['precision']}."])


def _description(outcome: OutcomeJson) -> str:
    """The figure in words, for readers who do not see it."""
    return "; ".join(f"{comparison['name']}: {format_measured(comparison)}, published: {format_expected(comparison)}"
                     for comparison in outcome["comparisons"])


def _networks(outcome: OutcomeJson) -> str:
    """One row for each variant: settings, learning rate, and mean and standard deviation over seeds of its results."""
    variants = outcome["variants"]
    own_value = any(run["value"] != run["top1_error"] for variant in variants for run in variant["runs"])
    columns = {"top-1 error", "validation loss", "clean training error", outcome["value_name"]}
    further = [quantity for quantity in compared_quantities(outcome) if quantity not in columns]
    titles = ["network", "settings", "best learning rate (tried)", "inside the tried rates", "top-1 error",
              "top-5 error", "loss", "clean training error",
              *([f"compared: {escape(outcome['value_name'])}"] if own_value else []), *map(escape, further)]
    rows = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    # Networks that are evaluated with several views and with one stand in one table: each error then says which.
    with_views = any(variant["views"] != 1 for variant in variants)
    for variant in variants:
        runs = variant["runs"]
        seen = f" ({describe_views(error_views(variant))})" if with_views else ""
        compared = f" ({describe_views(variant['views'])})" if with_views else ""
        cells = [escape(variant["name"]), ", ".join(map(_code, variant["settings"])) or "common",
                 f"{variant['rate']:g} ({_rates(variant)})", "yes" if variant["interior"] else "**no**",
                 format_mean_sd((run["top1_error"] for run in runs), percent=True) + seen,
                 format_mean_sd((run["top5_error"] for run in runs), percent=True) + seen,
                 format_mean_sd((run["loss"] for run in runs), percent=False) + seen,
                 format_mean_sd((run["train_error"] for run in runs), percent=True)]
        if own_value:
            cells.append(format_runs(variant, outcome["value_name"], outcome) + compared)
        cells += [format_runs(variant, quantity, outcome) for quantity in further]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _code(setting: str) -> str:
    """A setting as `--set` takes it in code type; a difference in words as it is."""
    return f"`{setting}`" if "=" in setting else escape(setting)


def _rates(variant: VariantJson) -> str:
    """The ends of the grid of learning rates, and the number of rates."""
    rates = [point["rate"] for point in variant["tuning"]]
    return f"{len(rates)} from {min(rates):g} to {max(rates):g}" if rates else "no other"


def escape(text: str) -> str:
    r"""Text as Markdown shows it: `\`, `*`, `_`, `|`, `<` and their kind lose their meaning, line breaks are spaces.

    Python-Markdown, which makes the site, knows no backslash before `<`, `>`, `|`, `~`, `&` and `$`.
    """
    text = re.sub(r"[<>|~&$]", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))
    return re.sub(r"([\\`*_{}\[\]!]|(?<!&)#)", r"\\\1", text)


def _sentence(text: str) -> str:
    """A clause with a capital first letter and a period, escaped."""
    return escape(text[:1].upper() + text[1:].rstrip(".") + ".")
