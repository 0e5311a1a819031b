"""The decoder: pixels or an error for each upload, and a bound on large images."""

import asyncio
import io
import struct
import threading
import time

import numpy as np
import pytest
from PIL import Image, features

from alexnet.data.decode_memory import decode_cost
from alexnet.data.images import decode
from alexnet.data.square import square
from alexnet.serving.admission import WorkEstimate
from alexnet.serving.decoder import ImageDecoder
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload
from alexnet.serving.request_record import Stopwatch
from alexnet.serving.responses import RequestError
from inprocess import encoded
from sample_images import draw

PNG = encoded(draw(np.random.default_rng(0), 0, side=40))


def decoder_of(**limits: int) -> ImageDecoder:
    return ImageDecoder(Limits(**limits), WorkEstimate(), cores=2)


def test_each_upload_gives_pixels_or_an_error_in_order():
    decoder = decoder_of()
    first, second, third = asyncio.run(decoder.decode("client", [
        Upload("a.png", PNG), Upload("", b"no image"), Upload("c.png", memoryview(PNG))], 32))
    np.testing.assert_array_equal(first, square(decode(PNG, "a.png"), 32))
    np.testing.assert_array_equal(first, third)
    assert isinstance(second, RequestError)
    assert (second.status, second.remedy) == (422, "send another image")
    assert second.problem.startswith("image 2 cannot be decoded: it begins with 'no image'")
    assert decoder.estimate.seconds_per_item > 0


def blocked(decoder, monkeypatch):
    """Make each decode wait for the first event; the list holds how many run and how many have run at most."""
    release, counts, original, lock = threading.Event(), [0, 0], decoder._decode, threading.Lock()

    def blocking(*arguments):
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        assert release.wait(30)
        with lock:
            counts[0] -= 1
        return original(*arguments)

    monkeypatch.setattr(decoder, "_decode", blocking)
    return release, counts


async def until(holds):
    """Wait for what other threads do, on a busy machine for long."""
    for _ in range(300):
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError


def statuses(decoded):
    return [pixels.status if isinstance(pixels, RequestError) else 200 for pixels in decoded]


def test_large_images_are_decoded_one_at_a_time_and_each_counts(monkeypatch):
    """40 x 40 pixels of a PNG take 12 bytes each, so with a limit of 10,000 bytes this one is large."""
    decoder = decoder_of(large_bytes=10_000, large_images=3)
    release, counts = blocked(decoder, monkeypatch)

    async def run():
        first = asyncio.create_task(decoder.decode("a", [Upload("", PNG)] * 64, 32))
        await until(lambda: counts[0] == 1)
        second = asyncio.create_task(decoder.decode("b", [Upload("b.png", PNG)] * 2, 32))
        await asyncio.sleep(0.2)
        release.set()
        # Of client a, all but one of the three places; the last one is another client's.
        assert statuses(await first) == [200, 200] + [503] * 62
        assert statuses(await second) == [200, 503]
        assert "b.png is a large image, and too many of those are queued" in (await second)[1].problem
        assert statuses(await decoder.decode("a", [Upload("", PNG)], 32)) == [200]

    asyncio.run(run())
    assert counts == [0, 1]
    decoder.shutdown()  # ends the worker process, where large images are decoded


def test_a_requests_images_beyond_its_share_of_pixels_have_an_error_each():
    """1,600 pixels each. The first image is decoded however large it is, as any image within `pixels`."""
    decoder = decoder_of(request_pixels=3200)
    assert statuses(asyncio.run(decoder.decode("a", [Upload("", PNG)] * 4, 32))) == [200, 200, 413, 413]
    assert statuses(asyncio.run(decoder_of(request_pixels=100).decode("a", [Upload("", PNG)] * 2, 32))) == [200, 413]


@pytest.mark.parametrize(("images", "budget"), [(1, 40_000_000), (2, 50_000)])
def test_the_memory_of_images_in_parallel_has_a_budget(monkeypatch, images, budget):
    """Each takes 12 bytes for each of 1,600 pixels and the file: about 20 kB. A budget of 50 kB has room for two. The
    only image of a request has 16 MB, since its header has not been read."""
    decoder = decoder_of(decode_bytes=budget)
    monkeypatch.setattr(decoder._threads, "count", 9)
    release, counts = blocked(decoder, monkeypatch)

    async def run():
        requests = [asyncio.create_task(decoder.decode(client, [Upload("", PNG)] * images, 32)) for client in "abcd"]
        await asyncio.sleep(0.3)
        assert counts[0] == 2
        release.set()
        assert statuses([image for request in requests for image in await request]) == [200] * 4 * images

    asyncio.run(run())
    assert counts[1] == 2


def test_a_client_leaves_a_thread_for_others(monkeypatch):
    decoder = decoder_of()
    release, counts = blocked(decoder, monkeypatch)

    async def run():
        many = asyncio.create_task(decoder.decode("a", [Upload("", PNG)] * 60, 32))
        await until(lambda: counts[0] == decoder._threads.count - 1)
        await asyncio.sleep(0.2)
        assert counts[0] == decoder._threads.count - 1
        other = asyncio.create_task(decoder.decode("b", [Upload("", PNG)], 32))
        await until(lambda: counts[0] == decoder._threads.count)
        release.set()
        assert statuses(await other) == [200]
        assert statuses(await many) == [200] * 60

    asyncio.run(run())


def test_what_has_not_begun_is_dropped_with_its_request_and_what_has_begun_is_waited_for(monkeypatch):
    decoder = decoder_of()
    release, counts = blocked(decoder, monkeypatch)

    async def run():
        request = asyncio.create_task(decoder.decode("a", [Upload("", PNG)] * 60, 32))
        await until(lambda: counts[0] == decoder._threads.count - 1)
        begun = counts[0]
        request.cancel()
        await asyncio.sleep(0.2)
        assert not request.done()  # two threads still read the body
        assert len(decoder._threads._waiting) == 0
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert counts == [0, begun]
        assert decoder._threads._used_memory == 0
        assert not decoder._threads._running

    asyncio.run(run())


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
@pytest.mark.parametrize("count", [1, 2])
def test_an_avif_whose_frame_is_larger_than_it_states_is_decoded_in_a_worker_process(monkeypatch, count):
    stream = io.BytesIO()
    Image.new("RGB", (1600, 1200)).save(stream, "AVIF", speed=10)
    stated, place = bytearray(stream.getvalue()), 0
    while (place := stated.find(b"ispe", place) + 4) > 3:  # box of the size: version and flags, width, height
        stated[place + 4 : place + 12] = struct.pack(">II", 64, 64)
    assert (decode_cost(bytes(stated)).pixels, decode_cost(bytes(stated)).is_exact) == (64 * 64, False)
    assert decode_cost(PNG).is_exact
    decoder, in_workers = decoder_of(), []
    monkeypatch.setattr(decoder._workers, "decode", lambda data, name, side: in_workers.append(name))
    asyncio.run(decoder.decode("client", [Upload("a.avif", bytes(stated)), Upload("b.png", PNG)][:count], 32))
    assert in_workers == ["a.avif"]


def test_the_time_of_a_forms_headers_counts_for_its_images(monkeypatch):
    """It was measured by nothing: a form of 64 slow headers held a thread, and the estimate said that it was fast."""
    def slow_cost(data):
        time.sleep(0.05)
        return decode_cost(data)

    monkeypatch.setattr("alexnet.serving.decoder.decode_cost", slow_cost)
    decoder, watch = decoder_of(), Stopwatch()
    asyncio.run(decoder.decode("client", [Upload("", PNG)] * 4, 32, watch))
    assert decoder.estimate.seconds_per_item > 0.05 / decoder._parallel
    assert watch.seconds > 0.2
