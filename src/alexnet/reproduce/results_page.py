"""Write docs/results.md from docs/results.jsonl: a summary of all claims, then a figure and a table for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from alexnet._runtime.atomic_files import replace_file
from alexnet.errors import UserError
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.figures.claim_dots import claim_dots
from alexnet.reproduce.figures.style import save_figure
from alexnet.reproduce.outcome import OutcomeJson, VariantJson
from alexnet.reproduce.results import not_measured
from alexnet.reproduce.results_text import (
    format_mean_sd,
    format_measured,
    format_paper,
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
**How to read the figures.** *Upper panels:* each row compares two networks that differ in one thing, trained with the
same seeds. The dot is the mean difference, the bar its 95% interval over the seeds, an open circle one seed, the red
line the paper's number, and the gray area the side that the claim predicts. A bar within the gray area supports the
claim; a bar on the other side contradicts it; a bar across the line of no difference decides nothing. *Lower left:*
every run of every network, with a line at the mean. *Lower right:* the learning rates that were tried with other seeds,
the chosen one filled; a cross is a rate at which a run diverged or did not reach the target. A comparison is fair if
each network's best rate has worse rates on both sides of it.

The p values are those of a paired t test over seeds, after Holm's correction for all comparisons of a claim. A verdict
needs a p below 0.05, which chance alone gives in one of twenty claims; without it, a comparison is undecided even where
its own interval excludes no difference. Tables give mean ± standard deviation over seeds, after the last epoch.
The *clean* training error is that of the training images without dropout and without random crops."""


def _summary(outcomes: Sequence[OutcomeJson]) -> str:
    """One row for each comparison; the claim's name and section stand in its first row."""
    rows = ["| claim | section | comparison | the paper | measured here (95% interval) | verdict |",
            "|---|---|---|---|---|---|"]
    for outcome, figure in zip(outcomes, figure_names(outcomes), strict=True):
        head = f"[{outcome['claim']}](#{figure}) | {escape(outcome['section'])}"
        for comparison in outcome["comparisons"]:
            quick = " (quick trial)" if outcome["quick"] else ""
            rows.append(f"| {head} | {escape(comparison['name'])} | {format_paper(comparison)} | "
                        f"{format_measured(comparison)} | **{comparison['verdict']}**{quick} |")
            head = " | "
    return "\n".join(rows) if outcomes else ""


def _not_measured(outcomes: Sequence[OutcomeJson]) -> str:
    """The claims without an outcome, as a list."""
    rows = [f"- `{name}` ({escape(CLAIMS[name].section)}): {_sentence(CLAIMS[name].statement)}"
            for name in not_measured(outcomes)]
    head = ["**Not measured here** (`alexnet reproduce NAME --data DATA` tests it):", ""]
    return "\n".join(head + rows) if rows else ""


def _section(outcome: OutcomeJson, name: str, folder: str) -> str:
    """The figure, the verdicts, the design, a table of the networks, and the command of one outcome."""
    verdicts = [f"**{comparison['verdict'].capitalize()}.** {escape(verdict_sentences(comparison))}"
                for comparison in outcome["comparisons"]]
    notes = ["This is a quick trial, which decides nothing."] * outcome["quick"] + outcome["notes"]
    return "\n\n".join([
        f'<a id="{name}"></a>',
        f"### {outcome['claim']} ({escape(outcome['section'])}), {escape(outcome['data'])}",
        f"**Claim.** {_sentence(outcome['statement'])}",
        f"![{escape(_description(outcome))}]({folder}/{name}.svg)",
        verdicts[0] if len(verdicts) == 1 else "\n".join(f"- {verdict}" for verdict in verdicts),
        f"**Design.** {_sentence(outcome['design'])}",
        f"**What would speak against it.** {_sentence(outcome['against'])}",
        *(f"**Note.** {_sentence(note)}" for note in notes),
        _networks(outcome),
        f"```sh\n{outcome['command']}\n```",
        f"{escape(outcome['data'])} at {outcome['side']} pixels, {outcome['images'][0]:,} training and "
        f"{outcome['images'][1]:,} validation images, {outcome['epochs']} epochs, seeds {_listed(outcome['seeds'])}. "
        f"Learning rates chosen by {escape(outcome['tuned_by'])} ({_listed(outcome['tuning_seeds'])}). "
        f"{escape(outcome['machine'])}, {outcome['precision']}."])


def _description(outcome: OutcomeJson) -> str:
    """The figure in words, for readers who do not see it."""
    return "; ".join(f"{comparison['name']}: {format_measured(comparison)}, the paper: {format_paper(comparison)}"
                     for comparison in outcome["comparisons"])


def _networks(outcome: OutcomeJson) -> str:
    """One row for each variant: its learning rate, and mean and standard deviation over seeds of what it reached."""
    own_value = any(run["value"] != run["top1_error"] for variant in outcome["variants"] for run in variant["runs"])
    titles = ["network", "best learning rate (tried)", "inside the tried rates", "top-1 error", "top-5 error", "loss",
              "clean training error", *([escape(outcome["value_name"])] if own_value else [])]
    rows = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for variant in outcome["variants"]:
        runs = variant["runs"]
        cells = [escape(variant["name"]), f"{variant['rate']:g} ({_rates(variant)})",
                 "yes" if variant["interior"] else "**no**",
                 format_mean_sd((run["top1_error"] for run in runs), percent=True),
                 format_mean_sd((run["top5_error"] for run in runs), percent=True),
                 format_mean_sd((run["loss"] for run in runs), percent=False),
                 format_mean_sd((run["train_error"] for run in runs), percent=True)]
        if own_value:
            cells.append(format_mean_sd((run["value"] for run in runs), percent=outcome["value_unit"] == "fraction"))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _rates(variant: VariantJson) -> str:
    """The ends of the grid of learning rates, and the number of rates."""
    rates = [point["rate"] for point in variant["tuning"]]
    return f"{len(rates)} from {min(rates):g} to {max(rates):g}" if rates else "no other"


def _listed(seeds: Sequence[int]) -> str:
    """Seeds as a range where they are consecutive: "0 to 7"."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds)) or "none"


def escape(text: str) -> str:
    r"""Text as Markdown shows it: `\`, `*`, `_`, `|`, `<` and their kind lose their meaning, line breaks are spaces."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$!])", r"\\\1", " ".join(text.split()))


def _sentence(text: str) -> str:
    """A clause with a capital first letter and a period, escaped."""
    return escape(text[:1].upper() + text[1:].rstrip(".") + ".")
