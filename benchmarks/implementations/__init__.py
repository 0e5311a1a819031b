"""The implementations that bench.py compares: ours, other libraries' as documented ("peer"), and tuned ones ("tuned").

An implementation is a function of the folder that bench.py prepares. It returns a `Work`: a function without arguments
to be timed, and how many images one call processes. Imports stand inside the functions, so that the process of one
implementation loads nothing of another: peers use nothing of `alexnet`, ours use nothing of the peers.
"""

from collections.abc import Callable
from pathlib import Path

Work = tuple[Callable[[], object], int]
Implementation = Callable[[Path], Work]
BATCH = 128
"""Images in a training batch, as in the paper (§5)."""
