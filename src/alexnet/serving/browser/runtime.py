"""onnxruntime-web, which runs the page's network: its npm package, pinned and checked, in the user's cache.

The package is MIT-licensed and is no part of this one. Nothing is fetched unless somebody exports a page.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

from alexnet._runtime.cache import cache_folder
from alexnet.errors import UserError, require

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
MEGABYTES = 33.1
_MOST_BYTES = 40_000_000
SHA512 = ("ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
          "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61")
"""Of the tarball: what the registry gives as its integrity."""

SCRIPT, LOADER, BINARY = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
"""Three of the package's 60 files: the interface, the loader of the WebAssembly module, and the module."""

LICENSE = f"""\
{SCRIPT}, {LOADER} and {BINARY} are files of onnxruntime-web {VERSION}
({URL}), under the MIT License:

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


@dataclass(frozen=True)
class BrowserRuntime:
    """The three files of onnxruntime-web that a page needs."""

    script: bytes
    loader: bytes
    binary: bytes

    def files(self) -> dict[str, bytes]:
        """Name -> content."""
        return {SCRIPT: self.script, LOADER: self.loader, BINARY: self.binary}


def cached_tarball() -> Path:
    """Where the downloaded package is kept."""
    return cache_folder() / "onnxruntime-web" / f"onnxruntime-web-{VERSION}.tgz"


def fetch_tarball() -> Path:
    """Download the package into the cache, unless it is there, and verify its checksum.

    Raises:
        UserError: there is no network, or the file is another one.
    """
    from alexnet._runtime.download import Download, fetch
    from alexnet._runtime.progress import Bar

    with Bar(f"fetching {URL}", "bytes") as bar:
        return fetch(Download(
            URL, f"sha512:{SHA512}", _MOST_BYTES,
            remedy=f"download it elsewhere and give it with --runtime onnxruntime-web-{VERSION}.tgz",
        ), cached_tarball(), bar)


def read_runtime(tarball: Path) -> BrowserRuntime:
    """The files in the package's tarball.

    Raises:
        UserError: the file is missing, or is not this version of the package.
    """
    require(tarball.is_file(), f"{tarball} is not a file", f"give the file of {URL}")
    with tarball.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").hexdigest()
    require(digest == SHA512, f"{tarball} is not onnxruntime-web {VERSION}: its SHA-512 begins with {digest[:8]}, not "
            f"with {SHA512[:8]}", f"give the file of {URL}, or delete this one if alexnet downloaded it")
    with tarfile.open(tarball) as archive:
        def content(name: str) -> bytes:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise UserError(f"{tarball} has no dist/{name}", f"give the file of {URL}")
            return member.read()

        return BrowserRuntime(content(SCRIPT), content(LOADER), content(BINARY))
