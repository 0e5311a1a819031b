"""The decoder: pixels or an error for each upload, and a bound on large images."""

import asyncio
import threading

import numpy as np
import pytest

from alexnet.data.images import decode, square
from alexnet.serving.admission import Overloaded, WorkEstimate
from alexnet.serving.decoder import ImageDecoder
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload
from alexnet.serving.responses import RequestError
from inprocess import encoded
from sample_images import draw

PNG = encoded(draw(np.random.default_rng(0), 0, side=40))


def decoder_of(**limits: int) -> ImageDecoder:
    return ImageDecoder(32, Limits(**limits), WorkEstimate())


def test_each_upload_gives_pixels_or_an_error_in_order():
    decoder = decoder_of()
    first, second, third = asyncio.run(decoder.decode([
        Upload("a.png", PNG), Upload("", b"no image"), Upload("c.png", memoryview(PNG))]))
    np.testing.assert_array_equal(first, square(decode(PNG, "a.png"), 32))
    np.testing.assert_array_equal(first, third)
    assert isinstance(second, RequestError)
    assert (second.status, second.remedy) == (422, "send another image")
    assert second.problem.startswith("image 2 cannot be decoded: it begins with b'no image'")
    assert decoder.estimate.seconds_per_item > 0


def test_large_images_are_decoded_one_at_a_time_and_no_more_of_them_wait_than_the_limit(monkeypatch):
    decoder = decoder_of(large_pixels=1000, large_images=1)
    release, running, most = threading.Event(), [0], [0]
    original = decoder._decode

    def blocking(name, data):
        running[0] += 1
        most[0] = max(most[0], running[0])
        assert release.wait(30)
        running[0] -= 1
        return original(name, data)

    monkeypatch.setattr(decoder, "_decode", blocking)

    async def run():
        # Of one request all large images are accepted, however many; those of the next request are not.
        first = asyncio.create_task(decoder.decode([Upload("a.png", PNG), Upload("b.png", PNG)]))
        await asyncio.sleep(0.2)
        with pytest.raises(Overloaded):
            await decoder.decode([Upload("c.png", PNG)])
        release.set()
        assert [pixels.shape for pixels in await first] == [(32, 32, 3)] * 2
        assert len(await decoder.decode([Upload("c.png", PNG)])) == 1

    asyncio.run(run())
    assert most == [1]
