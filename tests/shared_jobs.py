"""What each process does in test_shared_jobs.py: `python shared_jobs.py FOLDER`.

FOLDER/jobs.json lists commands, which are run one after the other, each in a process group of its own. Each process
writes what a command printed, and its exit code, into FOLDER.
"""

import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch

from alexnet.data import packing
from alexnet.inference import classifier, features, quick_start
from command_line import alexnet


def main(folder: Path) -> None:
    jobs = json.loads((folder / "jobs.json").read_text())
    torch.set_num_threads(1)
    packing.pack_with_bar = partial(packing.pack_with_bar, shard_images=16)
    features.BATCH_SIZE = classifier.BATCH_SIZE = 16
    quick_start.MOST_MULTIPLY_ADDS = 0  # one process in torch too: NumPy rounds otherwise
    rank = int(os.environ.get("RANK", "0"))
    os.chdir(folder)
    for number, job in enumerate(jobs):
        os.environ["MASTER_PORT"] = str(job["port"])
        arguments = job["arguments"] + (job["more_in_others"] if rank else [])
        with (Path(f"{number}-{rank}.out").open("w") as out, Path(f"{number}-{rank}.err").open("w") as err,
              contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
            code = alexnet(*arguments)
        Path(f"{number}-{rank}.code").write_text(str(code))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
