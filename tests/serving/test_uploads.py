"""Uploads: parsing of forms, and the limits on bytes and time over all requests."""

import asyncio
import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload, parse_form
from alexnet.serving.pace import Activity, BodyPace
from alexnet.serving.responses import RequestError
from alexnet.serving.uploads import UploadReader

PARTS = Limits().form_parts

names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters='"\\'), min_size=1)


def named(uploads: list[Upload]) -> list[tuple[str, bytes]]:
    return [(upload.name, bytes(upload.data)) for upload in uploads]


@given(st.lists(st.tuples(names, st.binary()), max_size=5), st.text("abc-'()+_,./:=?09", min_size=1, max_size=70))
def test_files_arrive_as_httpx_sends_them(files, boundary):
    sent = httpx.Request("POST", "http://x", data={"note": "text"}, files=[("p", file) for file in files],
                         headers={"content-type": f'multipart/form-data; boundary="{boundary}"'} if files else {})
    if files and not any(f"--{boundary}".encode() in data for _, data in files):
        got = parse_form(sent.read(), sent.headers["content-type"], Limits())
        assert named(got) == [(name[:200], data) for name, data in files]


@given(st.lists(st.sampled_from([b"--b", b"\r\n", b"--", b"Content-Disposition: form-data", b'; filename="', b'"', b"x",
                                 b"\\", b"; filename*=utf-8''%ff%", b"\0", b"\xff"]), max_size=30).map(b"".join),
       st.sampled_from(["multipart/form-data; boundary=b", "multipart/form-data; boundary=b; charset=undefined",
                        "multipart/form-data; boundary=\xff", "multipart/form-data; boundary=", ""]))
def test_any_form_is_parsed_or_rejected(body, content_type):
    with contextlib.suppress(RequestError):
        assert sum(len(upload.data) for upload in parse_form(body, content_type, Limits())) <= len(body)


def test_file_names_and_contents():
    body = (b"preamble\r\n--b\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; filename=a.png\r\n\r\none"
            b"\r\n--b\r\nContent-Disposition: form-data; name=p; filename*=UTF-8''na%C3%AFf.png\r\n\r\n\r\n--b\r\n"
            b'Content-Disposition: form-data; name="t"\r\n\r\ntext\r\n--b--\r\nepilogue')
    got = parse_form(body, "multipart/form-data; charset=undefined; boundary=b", Limits())
    assert named(got) == [("a.png", b"one"), ("naïf.png", b"")]


@pytest.mark.parametrize(("body", "status"), [
    (b"--b\r\n\r\n\r\n" * PARTS + b"--b--", 413), (b"--b\r\n\r\n\r\n" * (PARTS - 1) + b"--b", 400),
    (b"--b\r\nX: " + b"y" * 5000 + b"\r\n\r\n\r\n--b--", 400)])
def test_parts_and_their_headers_are_limited(body, status):
    with pytest.raises(RequestError) as error:
        parse_form(body, "multipart/form-data; boundary=b", Limits())
    assert error.value.status == status


def request_of(*pieces: bytes, ends: bool = True) -> Request:
    """A request whose body arrives in these pieces and then ends, or never ends."""
    left = list(pieces)

    async def receive():
        if not left and not ends:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left) or not ends}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}, receive)


def reader_of(limits: Limits) -> UploadReader:
    return UploadReader(limits, BodyPace(limits.large_body_bytes_per_second, limits.free_body_bytes, Activity()))


def test_unfinished_uploads_are_evicted_for_one_that_ends():
    reader = reader_of(Limits(body_bytes=100, total_body_bytes=200, body_seconds=60))
    statuses = []

    async def unfinished():
        try:
            async with reader.images(request_of(b"x" * 90, ends=False)):
                pass
        except RequestError as error:
            statuses.append(error.status)

    async def run():
        stuck = [asyncio.create_task(unfinished()) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert reader.held_bytes == 180
        async with reader.images(request_of(b"y" * 50, b"y" * 40)) as uploads:
            assert uploads[0].data == b"y" * 90
            await asyncio.sleep(0.05)
            assert statuses == [503]
            assert reader.held_bytes == 180
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert reader.held_bytes == 0

    asyncio.run(run())


def test_many_simultaneous_uploads_do_not_all_evict_one_another():
    async def upload(reader: UploadReader, pieces: int) -> int:
        try:
            async with reader.images(request_of(*[b"x" * 10] * pieces, ends=False)):
                return 200
        except RequestError as error:
            return error.status

    async def run():
        reader = reader_of(Limits(body_bytes=100, total_body_bytes=100, body_seconds=0.3))
        statuses = await asyncio.gather(*(upload(reader, pieces) for pieces in range(1, 10)))
        assert set(statuses) == {408, 503}
        assert reader.held_bytes == 0

    asyncio.run(run())
