"""Hostile and damaged input: short forms of scripts in benchmarks/reliability/; docs/reliability.md has the long forms.

The quick tests take the smallest form of each script, the slow tests a larger one.
"""

import bitflips
import fulldisk
import fuzz
import mutants
import odd
import pickles
import pytest

slow = pytest.mark.slow


@slow  # quick cover: a full disk in test_checkpoint.py and test_packing.py
def test_full_disk_and_read_only_folder_leave_existing_files_as_they_were():
    finding = fulldisk.measure(offsets=4, bisections=0)
    assert finding.holds, finding


@slow  # quick cover: damaged files in test_checkpoint.py and test_packed.py
def test_every_flipped_bit_is_detected_and_the_previous_checkpoint_used():
    finding = bitflips.measure(flips=30, truncations=10)
    assert finding.holds, finding


@slow
def test_no_hostile_pickle_is_executed():
    finding = pickles.measure(pickles=2)
    assert finding.holds, finding


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=slow)])
def test_mutated_images_are_decoded_or_rejected(count: int):
    finding = mutants.measure(mutants=count)
    assert finding.holds, finding


@pytest.mark.slow
@pytest.mark.parametrize(("folders", "images"), [(2, 10), pytest.param(8, len(odd.PICTURES), marks=slow)])
def test_broken_folders_and_odd_images_have_the_documented_outcome(folders: int, images: int):
    finding = odd.measure(folders=folders, pictures=images)
    assert finding.holds, finding


@slow
@pytest.mark.needs("atheris", "pip install -c constraints.txt '.[ci]' on Linux x86_64, with Python older than 3.14")
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_fuzzed_bytes_are_read_or_rejected(target: str):
    finding = fuzz.measure(target, seconds=1.0)
    assert finding.holds, finding
