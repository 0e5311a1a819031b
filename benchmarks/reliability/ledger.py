"""The findings of the reliability scripts: a line of JSON each, and the table of docs/reliability.md made from them.

    python benchmarks/reliability/ledger.py     rewrite the table from docs/reliability.jsonl

Every script has one function, `measure(...) -> Finding`. The script calls it with large numbers and records the
finding; a test in tests/robustness/ calls it with small ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "reliability.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- findings: begin -->\n", "<!-- findings: end -->"


@dataclass(frozen=True)
class Finding:
    """The result of one script."""

    row: str
    """The row of docs/reliability.md, with a letter if several scripts share it: 1, 9a."""
    what: str
    """What was done, and how often."""
    limit: str
    """What must hold."""
    found: str
    """What was measured."""
    holds: bool


def main(
    measure: Callable[..., Finding], choices: Mapping[str, Iterable[str]] | None = None, **long: int | float | str,
) -> None:
    """A script's command line: every number of the long form is an option; what was found is printed and recorded.

    choices: words that must be given before the options, by the name of the argument, each one of several.
    Exits with 1 where the limit was not kept. `--no-record` only prints.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, words in (choices or {}).items():
        parser.add_argument(name, choices=[*words])
    for name, number in long.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(number), default=number)
    parser.add_argument("--no-record", action="store_true", help="print what was found, and write nothing")
    options = vars(parser.parse_args())
    silent = options.pop("no_record")
    began = time.monotonic()
    finding = measure(**options)
    print(f"{'holds' if finding.holds else 'DOES NOT HOLD'}: {finding.what}: {finding.found} ({finding.limit})")
    if not silent:
        record(finding, time.monotonic() - began)
    sys.exit(not finding.holds)


def record(finding: Finding, seconds: float) -> None:
    """Replace the row's finding in docs/reliability.jsonl, and rewrite the page."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    line = asdict(finding) | {
        "command": shlex.join(["python", str(script), *sys.argv[1:]]), "seconds": round(seconds),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
                   f"Python {platform.python_version()}"}
    lines = {one["row"]: one for one in findings()} | {finding.row: line}
    ordered = sorted(lines.values(), key=lambda one: (int(one["row"].rstrip("abcdef")), one["row"]))
    RECORD.write_text("".join(json.dumps(one) + "\n" for one in ordered), encoding="utf-8")
    write_page()


def findings() -> list[dict[str, object]]:
    """The recorded findings."""
    return [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()] if RECORD.exists() else []


def table() -> str:
    """The findings as a Markdown table."""
    rows = ["| | what was done | what must hold | what was seen | holds | |", "|---|---|---|---|---|---|"]
    for one in findings():
        rows.append(f"| {one['row']} | {one['what']} | {one['limit']} | {one['found']} | "
                    f"{'yes' if one['holds'] else '**no**'} | `{one['command']}`; {one['seconds']} s; "
                    f"{one['machine']} |")
    return "\n".join(rows) + "\n"


def write_page() -> None:
    """Rewrite the table in docs/reliability.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_page()
