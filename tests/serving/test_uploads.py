"""What is taken of a request: forms by the letter, and room that nobody keeps for himself."""

import asyncio
import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request

from alexnet.serving.uploads import MOST_PARTS, Intake, Upload, of_form

names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters='"\\'), min_size=1)


def named(uploads: list[Upload]) -> list[tuple[str, bytes]]:
    return [(upload.name, bytes(upload.data)) for upload in uploads]


@given(st.lists(st.tuples(names, st.binary()), max_size=5), st.text("abc-'()+_,./:=?09", min_size=1, max_size=70))
def test_files_arrive_as_httpx_sends_them(files, boundary):
    sent = httpx.Request("POST", "http://x", data={"note": "text"}, files=[("p", file) for file in files],
                         headers={"content-type": f'multipart/form-data; boundary="{boundary}"'} if files else {})
    if files and not any(f"--{boundary}".encode() in data for _, data in files):
        got = of_form(sent.read(), sent.headers["content-type"])
        assert named(got) == [(name[:200], data) for name, data in files]


@given(st.lists(st.sampled_from([b"--b", b"\r\n", b"--", b"Content-Disposition: form-data", b'; filename="', b'"', b"x",
                                 b"\\", b"; filename*=utf-8''%ff%", b"\0", b"\xff"]), max_size=30).map(b"".join),
       st.sampled_from(["multipart/form-data; boundary=b", "multipart/form-data; boundary=b; charset=undefined",
                        "multipart/form-data; boundary=\xff", "multipart/form-data; boundary=", ""]))
def test_any_form_is_read_or_refused(body, content_type):
    with contextlib.suppress(HTTPException):
        assert sum(len(upload.data) for upload in of_form(body, content_type)) <= len(body)


def test_the_names_and_places_of_files():
    body = (b"preamble\r\n--b\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; filename=a.png\r\n\r\none"
            b"\r\n--b\r\nContent-Disposition: form-data; name=p; filename*=UTF-8''na%C3%AFf.png\r\n\r\n\r\n--b\r\n"
            b'Content-Disposition: form-data; name="t"\r\n\r\ntext\r\n--b--\r\nepilogue')
    got = of_form(body, "multipart/form-data; charset=undefined; boundary=b")
    assert named(got) == [("a.png", b"one"), ("naïf.png", b"")]


@pytest.mark.parametrize(("body", "status"), [
    (b"--b\r\n\r\n\r\n" * MOST_PARTS + b"--b--", 413), (b"--b\r\n\r\n\r\n" * (MOST_PARTS - 1) + b"--b", 400),
    (b"--b\r\nX: " + b"y" * 5000 + b"\r\n\r\n\r\n--b--", 400)])
def test_parts_and_their_heads_are_limited(body, status):
    with pytest.raises(HTTPException) as refused:
        of_form(body, "multipart/form-data; boundary=b")
    assert refused.value.status_code == status


def sent_in(*pieces: bytes, ends: bool = True) -> Request:
    """A request whose body comes in those pieces, and then no further or for ever not."""
    left = list(pieces)

    async def receive():
        if not left and not ends:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left) or not ends}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}, receive)


def test_bodies_that_never_end_give_way_to_one_that_does():
    intake, statuses = Intake(body=100, held=200, seconds=60), []

    async def unfinished():
        try:
            async with intake.images(sent_in(b"x" * 90, ends=False)):
                pass
        except HTTPException as refusal:
            statuses.append(refusal.status_code)

    async def go():
        stuck = [asyncio.create_task(unfinished()) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert intake.holding == 180
        async with intake.images(sent_in(b"y" * 50, b"y" * 40)) as uploads:
            assert uploads[0].data == b"y" * 90
            await asyncio.sleep(0.05)
            assert statuses == [503]
            assert intake.holding == 180
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert intake.holding == 0

    asyncio.run(go())


def test_many_who_come_at_once_to_a_full_house_leave_room_for_one_another():
    async def one(intake: Intake, pieces: int) -> int:
        try:
            async with intake.images(sent_in(*[b"x" * 10] * pieces, ends=False)):
                return 200
        except HTTPException as refusal:
            return refusal.status_code

    async def go():
        intake = Intake(body=100, held=100, seconds=0.3)
        statuses = await asyncio.gather(*(one(intake, pieces) for pieces in range(1, 10)))
        assert set(statuses) == {408, 503}
        assert intake.holding == 0

    asyncio.run(go())
