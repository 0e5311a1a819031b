"""The server under attack, under load, told to stop, and compared: the short forms of docs/reliability.md's rows.

Their limits of time are wide, since other work may run on the machine; the long forms have the real ones.
"""

import attack
import fourways
import load
import sigterm


def test_attacks_are_answered_as_promised_and_leave_no_memory_behind():
    found = attack.measure(requests=120, megabytes=40, slow_clients=20, seconds=1, bombs=1, longest=30)
    assert found.holds, found


def test_a_server_asked_too_much_refuses_and_recovers():
    found = load.measure(seconds=2, share=0.3, times=5, slack=30)
    assert found.holds, found


def test_no_accepted_request_is_lost_to_sigterm():
    found = sigterm.measure(times=1)
    assert found.holds, found


def test_evaluate_predict_onnx_and_the_server_say_the_same(images):
    found = fourways.measure(images=12, preset="small", settings=("output_init_std=0.1",))
    assert found.holds, found
