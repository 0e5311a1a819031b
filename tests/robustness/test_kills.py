"""Training that is killed or fed invalid numbers: short forms of rows 1, 2, 3, 12 and 13 of docs/reliability.md."""

import kills
import notanumber
import pytest
import resume
import signals
import victims
import workers


@pytest.mark.slow
def test_run_killed_at_random_moments_and_resumed_ends_with_the_same_bits():
    finding = kills.measure(kills=5, kills_of_two=1, kills_under_torchrun=0, in_saves=0, epochs=3, seconds=0.6)
    assert finding.holds, finding


@pytest.mark.parametrize(("chains", "deaths"), [(1, 2), pytest.param(2, 4, marks=pytest.mark.slow)])
def test_run_killed_at_chosen_points_and_resumed_with_other_readers_ends_with_the_same_bits(chains: int, deaths: int):
    finding = resume.measure(chains=chains, kills=deaths, epochs=3)
    assert finding.holds, finding


@pytest.mark.slow
def test_signal_to_the_command_saves_a_checkpoint_and_sets_the_exit_code():
    finding = signals.measure(each=1, epochs=6)
    assert finding.holds, finding


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nan_stops_the_command_and_gets_into_no_checkpoint(processes: int):
    finding = notanumber.measure(rates=1, sizes=processes)
    assert finding.holds, finding


@pytest.mark.slow
def test_run_survives_read_errors_killed_packing_and_small_shared_memory():
    finding = workers.measure(readers=3, packings=2, processes=1, epochs=2)
    assert finding.holds, finding


def test_a_single_differing_bit_is_counted(tmp_path):
    """The other tests rely on this count."""
    data = victims.packed(tmp_path)
    first, second = (victims.whole(data, tmp_path / name, 1) for name in ("first", "second"))
    assert victims.differing_bits(first, second)[0] == 0
    log = second / "log.jsonl"
    log.write_text(log.read_text().replace('"epoch": 1,', '"epoch": 3,'))  # 1 and 3 differ in one bit
    assert victims.differing_bits(first, second)[0] == log.read_text().count('"epoch": 3,') > 0
