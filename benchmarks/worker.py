"""Run one implementation of a comparison in this process, each time bench.py asks for it.

    python benchmarks/worker.py NAME FOLDER

Builds the implementation NAME (implementations/), runs it once to warm up, and prints a line of JSON: the images of one
run. Then it runs once for each line of its standard input, and prints the seconds and the peak memory. With a process
each, two implementations share the state of the machine, but neither memory allocator nor thread pool.

FOLDER is what bench.py prepared: images/ (class folders of JPEG files), small/ (the same at 256 pixels), and raw/ and
jpeg/ (the same, packed).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from implementations import Implementation, inference, input_pipeline, response_norm, training_step

IMPLEMENTATIONS: dict[str, Implementation] = {
    **training_step.IMPLEMENTATIONS, **response_norm.IMPLEMENTATIONS, **input_pipeline.IMPLEMENTATIONS,
    **inference.IMPLEMENTATIONS}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    work, images = IMPLEMENTATIONS[name](folder)
    work()  # the first run pays for memory, code and caches
    print(json.dumps({"images": images}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds,
                          "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)


if __name__ == "__main__":
    main()
