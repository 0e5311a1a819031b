"""Standard error as JSON lines for log collectors (`alexnet serve --log json`): each line that is printed is an object.

What the interpreter or a library writes without Python's `sys.stderr`, as at a crash, stays plain text.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from datetime import UTC, datetime
from typing import TextIO


def utc_now() -> str:
    """The time in UTC, in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class JsonLines(io.TextIOBase):
    """A text stream that writes {"time": ..., "message": ...} for what is printed; a traceback is one message.

    It is never a terminal, so no progress bar is drawn.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._unfinished = stream, _Unfinished()

    def write(self, text: str) -> int:
        """Write one object when a text ends with a line break; until then each thread keeps its own."""
        self._unfinished.text += text
        if self._unfinished.text.endswith("\n"):
            message, self._unfinished.text = self._unfinished.text[:-1], ""
            self._stream.write(json.dumps({"time": utc_now(), "message": message}) + "\n")
        return len(text)

    def flush(self) -> None:
        """Flush the stream below. What has no line break yet stays."""
        self._stream.flush()

    def fileno(self) -> int:
        """The descriptor of the stream below."""
        return self._stream.fileno()


class _Unfinished(threading.local):
    text = ""


def print_json_lines() -> None:
    """Let this process print only JSON lines on standard error from now on."""
    if not isinstance(sys.stderr, JsonLines):
        sys.stderr = JsonLines(sys.stderr)
