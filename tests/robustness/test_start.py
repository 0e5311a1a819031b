"""The start of many ranks: a short form of row 22 of docs/reliability.md."""

import re

import start
import torch.distributed as dist
import victims

from alexnet.training.parallel.text_exchange import TextExchange


def test_the_requests_of_a_start_grow_with_the_number_of_ranks_and_not_with_its_square():
    finding = start.measure(ranks=32)
    assert finding.holds, finding


def test_the_former_protocol_can_be_compared_with():
    finding = start.measure(ranks=8, former=8)
    assert finding.holds, finding
    measured, fewest = re.search(r"; the former protocol took [\d.]+ s and ([\d,]+) requests \([\d,]+ a rank\) for 8 "
                                 r"ranks, and makes at least ([\d,]+) for 8$", finding.found).groups()
    assert int(measured.replace(",", "")) >= int(fewest.replace(",", "")) == 17 * 8 * 17


def test_the_fewest_requests_of_the_former_protocol_are_those_of_ranks_that_never_wait():
    """One rank alone never waits: its requests, without those of the meeting and of the sign of life, are counted."""
    store = dist.HashStore()
    counted = start.CountingStore(store, "texts")
    exchange = start.FormerExchange(0, 1, counted)
    exchange.exchange({"text": "a", "error": ""}, "".join)
    assert start.fewest_former_requests(1) == 17 * counted.requests


def test_the_simulated_start_makes_the_exchanges_of_a_real_one(tmp_path, monkeypatch):
    """Two processes, which resume a run: that has the most exchanges before the first step."""
    data, out = victims.packed(tmp_path), tmp_path / "run"
    victims.whole(data, out, 1, size=2)
    victims.whole(data, out, 2, size=2, before=victims.CountExchanges(tmp_path / "lines"))
    real = [(tmp_path / f"lines-{rank}").read_text().split() for rank in range(2)]
    assert real[0] == real[1]
    assert real[0][-1] == "exchange"  # the end, which the simulation has, too
    before_the_first_step = real[0].index("step")

    turns = []
    exchange = TextExchange.exchange
    monkeypatch.setattr(TextExchange, "exchange", lambda *arguments: turns.append(1) or exchange(*arguments))
    store = dist.HashStore()
    start.start(0, 1, (start.CountingStore(store, "alexnet"), start.CountingStore(store, "texts")), former=False)
    assert len(turns) == before_the_first_step + 1
