"""The start of many ranks: a short form of row 22 of docs/reliability.md."""

import start


def test_the_requests_of_a_start_grow_with_the_number_of_ranks_and_not_with_its_square():
    finding = start.measure(ranks=32)
    assert finding.holds, finding
