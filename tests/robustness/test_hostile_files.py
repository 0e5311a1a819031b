"""Hostile and broken input, in short: what benchmarks/reliability/ does at length, docs/reliability.md records."""

import bitflips
import fulldisk
import fuzz
import mutants
import odd
import pickles
import pytest


def test_a_full_disk_and_a_read_only_folder_cost_nothing_that_was_there():
    found = fulldisk.measure(offsets=4, bisections=0)
    assert found.holds, found


def test_every_flipped_bit_is_found_and_the_state_before_used():
    found = bitflips.measure(flips=30, truncations=10)
    assert found.holds, found


def test_no_hostile_pickle_runs():
    found = pickles.measure(pickles=2)
    assert found.holds, found


def test_mutated_pictures_are_decoded_or_refused_and_nothing_else():
    found = mutants.measure(mutants=500)
    assert found.holds, found


def test_broken_folders_and_odd_pictures_come_out_as_the_table_says():
    found = odd.measure(folders=8, pictures=len(odd.PICTURES))
    assert found.holds, found


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_bytes_made_up_are_answered_or_refused(target: str):
    found = fuzz.measure(target, seconds=1.0)
    assert found.holds, found
