"""The scaling model: a step takes as long as the slowest of reading, computing and sending, and says which it is."""

import re
from pathlib import Path

import pytest
import scaling
from scaling_model import Machine, step

from alexnet.architecture.network_presets import arch

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


@pytest.mark.parametrize(("read", "bandwidth", "bound", "rate"), [
    # 128 images of 3 x 724,406,816 - 105,415,200 multiply-adds on each of two devices, at 200 T a second: 1.324 ms.
    (float("inf"), 1e15, "computing", 96_700),
    (21_600, 1e15, "reading", 21_600),
    (97_000, 1e15, "computing", 96_700),
    (21_600, 40e9, "sending", 20_991),  # 4 x 60,965,224 bytes at 40 GB/s: 6.098 ms, where reading takes 5.926
])
def test_the_rate_is_the_smallest_of_reading_computing_and_sending(read, bandwidth, bound, rate):
    machine = Machine("a round one", 200e12, bandwidth, latency=0.0, images_per_second=read)
    found = step(arch("paper"), 256, 2, "data", machine)
    assert found.bound == bound
    assert 128 / found.overlapped == pytest.approx(rate, rel=1e-3)
    assert found.sequential == max(found.computing + found.sending, found.reading)


def test_each_of_two_towers_reads_the_whole_batch():
    machine = Machine("a round one", 200e12, 40e9, images_per_second=1000)
    assert step(arch("paper"), 256, 2, "towers", machine).reading == pytest.approx(0.256)
    assert step(arch("paper"), 256, 2, "data", machine).reading == pytest.approx(0.128)


def test_no_device_of_the_page_is_promised_more_than_its_loader_reads():
    """The loader's rate is that of docs/performance.json, and the page has the table that the program prints."""
    table = scaling.prediction("paper")
    assert f"<!-- predicted -->\n{table}\n<!-- end -->" in PAGE
    rates = [float(rate.replace(",", "")) for rate in re.findall(r" to ([\d,]+) \| (?:read|comput|send)ing", table)]
    assert len(rates) == 7
    assert max(rates) <= scaling.loader_rate() + 1
    assert scaling.loader_rate() == pytest.approx(21_619, abs=1)
