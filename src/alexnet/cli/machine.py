"""The `doctor` and `cache` commands: what is installed and what the machine can do; what lies in the cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from alexnet._runtime.notes import say
from alexnet.cli.app import INSTALLATION, Json, app
from alexnet.cli.render_machine import cache_text, check_lines, count_text
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from alexnet._runtime.installation import Check
    from alexnet.data.cache_entries import CacheEntry


@app.command(group=INSTALLATION, sort_key=0)
def doctor(*, json_: Json = False) -> None:
    """Show what is installed and what this machine can do, with one line of remedy for what is missing.

    Versions, the device and the precision that are chosen, the instruction set of the native kernels, the cache and the
    extras.
    """
    from alexnet._runtime.installation import examine

    checks = [*examine(), _cache_check()]
    if json_:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        print("\n".join(check_lines(checks)))


@app.command(group=INSTALLATION, sort_key=1)
def cache(
    *, clear: Annotated[list[str] | None, Parameter(negative=())] = None, older_than: float | None = None,
    yes: bool = False, json_: Json = False,
) -> None:
    """List what lies in the cache: packed images, downloads and others, with size, age and source; or remove it.

    Everything in it is made again when it is needed, except packed images whose source is gone. Remove nothing that a
    running command reads.

    Args:
        clear: What to remove: a name or a kind that the list shows, or all. May be repeated.
        older_than: Only what was written more than so many days ago.
        yes: Remove without asking.
    """
    from alexnet._runtime.cache import cache_folder, size_text
    from alexnet.data.cache_entries import cache_entries, chosen_entries

    require(older_than is None or older_than >= 0, f"--older-than {older_than} must be 0 days or more")
    require(not yes or clear is not None, "--yes has no effect without --clear", "add --clear all, or leave out --yes")
    chosen = chosen_entries(cache_entries(), ["all"] if clear is None else clear, older_than)
    if clear is not None and chosen:
        _remove(chosen, yes)
    if json_:
        print(json.dumps({"folder": str(cache_folder()), "bytes": sum(entry.bytes for entry in chosen),
                          "removed": clear is not None, "entries": [asdict(entry) for entry in chosen]}, indent=2))
    elif clear is None:
        print(cache_text(str(cache_folder()), chosen))
    else:
        print(f"removed {count_text(len(chosen))}, {size_text(sum(entry.bytes for entry in chosen))}, from "
              f"{cache_folder()}")


def _remove(chosen: Sequence[CacheEntry], yes: bool) -> None:
    """Say what will be removed, ask where a person can answer, and remove it. Raises UserError without a yes."""
    from alexnet._runtime.cache import cache_folder
    from alexnet.data.cache_entries import remove_entry

    say(cache_text(str(cache_folder()), chosen, will_be_removed=True))
    if not yes:
        require(sys.stdin.isatty() and sys.stderr.isatty(),
                "nothing has been removed, as there is no terminal to ask on", "add --yes to remove this")
        print("Remove this? [y/N] ", end="", file=sys.stderr, flush=True)
        require(sys.stdin.readline().strip().lower() in ("y", "yes"), "nothing has been removed")
    for number, entry in enumerate(chosen):
        try:
            remove_entry(entry)
        except (UserError, OSError) as error:
            raise UserError(f"{entry.name} cannot be removed ({number:,} other entries were): {error}") from error


def _cache_check() -> Check:
    """How much the cache holds."""
    from alexnet._runtime.cache import cache_folder, size_text
    from alexnet._runtime.installation import Check
    from alexnet.data.cache_entries import cache_entries

    entries = cache_entries()
    text = f"{cache_folder()}: {count_text(len(entries))}, {size_text(sum(entry.bytes for entry in entries))}"
    return Check("cache", "ok", text, "alexnet cache lists them, and --clear removes them" if entries else "")
