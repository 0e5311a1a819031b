"""The `alexnet` command: registers all commands, runs one, and turns exceptions into a sentence and an exit code.

Results go to standard output, progress and notes to standard error.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from alexnet._runtime.notes import is_rank0, say
from alexnet.cli import (  # noqa: F401 - each module adds its commands to the app
    architecture,
    calibrate,
    compare,
    data,
    evaluate,
    export,
    features,
    interpret,
    lr_find,
    machine,
    paper,
    predict,
    reproduce,
    results,
    serve,
    train,
    weights,
)
from alexnet.cli.app import app
from alexnet.cli.errors import BROKEN_PIPE, failure
from alexnet.cli.launchers import require_one_launch
from alexnet.cli.torchrun_errors import record_failure

__all__ = ["app", "main"]

def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 after a user's mistake, 128 + N after signal N (130 for Ctrl-C)."""
    warnings.showwarning = _show_warning
    _print_any_text()
    try:
        try:
            require_one_launch(sys.argv[1:] if arguments is None else arguments, app)
            app(arguments, exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()  # a closed pipe must raise here, where it is handled
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again when it exits
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as ended:
        record_failure(ended)
        raise
    except Exception as error:
        record_failure(error)
        if (failed := failure(error, sys.argv[1:] if arguments is None else arguments)) is None:
            raise
        if failed.every_rank or is_rank0():
            print(f"alexnet: {failed.sentence}", file=sys.stderr)
        sys.exit(failed.exit_code)


_ASCII = dict(zip("▁▂▃▄▅▆▇█×→…−·§", "__--==##x>.-.S", strict=True))


def _print_any_text() -> None:
    """Let output contain every character, whatever the encoding of the terminal or pipe.

    A terminal of cp1252 has no bars. A file name need not be UTF-8: its bytes are printed as they are.
    """
    codecs.register_error("alexnet", _encode_otherwise)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="alexnet")


def _encode_otherwise(error: UnicodeError) -> tuple[bytes | str, int]:
    """The bytes for characters that the encoding does not have: similar ASCII, a file name's own bytes, or "?"."""
    if not isinstance(error, UnicodeEncodeError):  # a program that captures the output reads through the same stream
        return codecs.replace_errors(error)
    characters = error.object[error.start : error.end]
    return b"".join(bytes([ord(character) - 0xDC00]) if "\udc80" <= character <= "\udcff"
                    else _ASCII.get(character, "?").encode() for character in characters), error.end


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of this package as a note, without the line of source code that Python shows."""
    if Path(__file__).parents[1] in Path(filename).parents:
        say(f"note: {message}")
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)
