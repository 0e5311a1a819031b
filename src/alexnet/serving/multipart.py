"""multipart/form-data (RFC 7578) -> the uploaded files, without copying them.

The parser searches the body for its boundary only. Its time and memory are bounded by the size of the body, however
the form is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from alexnet.serving.limits import Limits
from alexnet.serving.responses import RequestError

# A quoted string, or a token. Browsers and curl write a quote in a file name as %22 or with a backslash.
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_DISPOSITION = re.compile(r"^content-disposition:.*", re.IGNORECASE | re.MULTILINE)
_FILENAME = re.compile(r""";\s*filename(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))|\*=utf-8'[^']*'([^\s;]*))""",
                       re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """One uploaded file.

    Attributes:
        name: file name, on one line; "" where the client sent none. It is only displayed.
        data: the encoded image.
    """

    name: str
    data: bytes | memoryview


def parse_form(body: bytes, content_type: str, limits: Limits) -> list[Upload]:
    """Return the files of a form; text fields are ignored.

    Args:
        body: the whole body.
        content_type: the header Content-Type, with the boundary.
        limits: of parts and of their headers.

    Returns:
        The files in order; their data are views of `body`.

    Raises:
        RequestError: 400 for a malformed form, 413 for too many parts.
    """
    match = _BOUNDARY.search(content_type)
    if not match:
        raise _malformed("the boundary is missing from the content type")
    boundary = b"--" + (match[1] or match[2]).encode("latin-1")
    view, uploads = memoryview(body), list[Upload]()
    position = 0 if body.startswith(boundary) else body.find(b"\r\n" + boundary) + 2
    if not body.startswith(boundary, position):
        raise _malformed("the boundary is not in the body")
    for _ in range(limits.form_parts):
        position += len(boundary)
        if body.startswith(b"--", position):
            return uploads
        header_end = body.find(b"\r\n\r\n", position, position + limits.part_header_bytes)
        end = body.find(b"\r\n" + boundary, header_end + 2)
        if header_end < 0 or end < 0:
            raise _malformed("it ends too early, or the header of a part is too long")
        header = body[position:header_end].decode("utf-8", "replace")
        disposition = _DISPOSITION.search(header)
        if disposition and (name := _FILENAME.search(disposition[0])):
            file_name = _one_line(name[1] or name[2] or unquote(name[3] or ""))[:limits.file_name_characters]
            uploads.append(Upload(file_name, view[min(header_end + 4, end):end]))
        position = end + 2
    raise RequestError(f"the form has more than {limits.form_parts} parts",
                       f"send images only, at most {limits.images}", status=413)


def _malformed(reason: str) -> RequestError:
    return RequestError(f"the form cannot be read ({reason})", "send it as multipart/form-data with its boundary")


def _one_line(name: str) -> str:
    return " ".join(name.encode("utf-8", "replace").decode().split())
