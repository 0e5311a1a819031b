"""The server under attack, under load and at shutdown, and compared with evaluate, predict and ONNX.

Short forms of rows 9, 10, 11, 14, 17 and 25 of docs/reliability.md. Their time limits are wide, since the tests share
the machine with other work; the long forms have the real ones.
"""

import sys

import attack
import decode_peak
import fourways
import load
import pytest
import sigterm
import starve

pytestmark = pytest.mark.slow  # tests/serving has the quick tests of the same


def test_attacks_get_documented_statuses_and_leave_no_memory_behind():
    found = attack.measure(requests=120, megabytes=40, slow_clients=20, seconds=1, forms=1, longest=30)
    assert found.holds, found


def test_an_overloaded_server_rejects_requests_and_recovers():
    found = load.measure(seconds=2, share=0.3, overload=5, slack=30)
    assert found.holds, found


def test_no_accepted_request_is_lost_at_sigterm():
    found = sigterm.measure(times=1, drain=2.0)
    assert found.holds, found


@pytest.mark.skipif(sys.platform != "linux", reason="two clients need two addresses of the loopback network")
def test_a_client_with_expensive_requests_does_not_starve_another():
    """Decoding them in the server made each response of the other client wait for about 60 times its usual time."""
    found = starve.measure(seconds=2, factor=25, megabytes=900,
                           only="WebP|16 flat PNGs|above the limit|as numbers in JSON")
    assert found.holds, found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs several addresses of the loopback network")
def test_images_that_fill_the_budget_of_decoding_stay_below_the_computed_memory():
    found = decode_peak.measure(cores="8", kinds="progressive CMYK JPEG")
    assert found.holds, found


def test_evaluate_predict_onnx_and_the_server_agree(images):
    found = fourways.measure(images=12, preset="small", settings=("output_init_std=0.1",))
    assert found.holds, found
