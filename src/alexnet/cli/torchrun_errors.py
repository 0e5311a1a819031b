"""The error file that torchrun gives each rank: its summary then names the rank that failed first, and the sentence.

It is written here, in the format of `torch.distributed.elastic.multiprocessing.errors`, and not by that module's
decorator `record`: the decorator would import torch before the command has set the allocator, show a traceback where
the user needs a sentence, and write nothing for a rank that ends silently.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from contextlib import suppress
from pathlib import Path

from alexnet.cli.errors import failure

CONSEQUENCE_SECONDS = 2
"""How much later the failure of a rank is dated that failed because another one did. torchrun takes the earliest for
the cause, and counts whole seconds; among equal ones it takes the lowest rank."""


def record_failure(error: BaseException) -> None:
    """Write what ends this process into torchrun's error file, if torchrun has started it.

    Args:
        error: one that a user can cause is written as its sentence, and any other one as its traceback. A SystemExit is
            written if it has `reported`, the error that rank 0 prints instead.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    # Attributes, not classes: those of `training.parallel` import torch.
    reported = getattr(error, "reported", None if isinstance(error, SystemExit) else error)
    if not path or reported is None:
        return
    failed = failure(reported)
    extra = {} if failed else {"py_callstack": "".join(traceback.format_exception(reported))}
    late = CONSEQUENCE_SECONDS if getattr(error, "is_consequence", False) else 0
    message = failed.sentence if failed else f"{type(reported).__name__}: {reported}"
    with suppress(OSError):  # the summary then has no sentence, and standard error has it
        Path(path).write_text(json.dumps(
            {"message": {"message": message, "extraInfo": {**extra, "timestamp": str(int(time.time()) + late)}}}))
