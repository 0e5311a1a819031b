"""The short forms of the reliability scripts that kill training: rows 1, 2, 3, 12 and 13 of docs/reliability.md."""

import kills
import notanumber
import resume
import signals
import victims
import workers


def test_killed_at_random_points_and_gone_on_with_it_ends_in_the_same_bits():
    found = kills.measure(kills=5, kills_of_two=1, kills_under_torchrun=0, in_saves=0, epochs=3, seconds=0.6)
    assert found.holds, found


def test_killed_at_chosen_points_and_read_by_other_threads_it_ends_in_the_same_bits():
    found = resume.measure(chains=2, kills=4, epochs=3)
    assert found.holds, found


def test_a_signal_to_the_command_leaves_a_checkpoint_a_sentence_and_its_exit_code():
    found = signals.measure(each=1, epochs=6)
    assert found.holds, found


def test_what_is_no_number_stops_the_command_and_gets_into_no_checkpoint():
    found = notanumber.measure(rates=1)
    assert found.holds, found


def test_what_reads_may_break_and_the_run_goes_on():
    found = workers.measure(readers=3, packings=2, processes=1, epochs=2)
    assert found.holds, found


def test_a_single_bit_is_seen_to_differ(tmp_path):
    """What the others rest on."""
    data = victims.packed(tmp_path)
    one, other = (victims.whole(data, tmp_path / name, 1) for name in ("one", "other"))
    assert victims.differing_bits(one, other)[0] == 0
    log = other / "log.jsonl"
    log.write_text(log.read_text().replace('"epoch": 1,', '"epoch": 3,'))  # 1 and 3 are a bit apart
    assert victims.differing_bits(one, other)[0] == log.read_text().count('"epoch": 3,') > 0
