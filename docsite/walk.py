"""Write the walk through the pretrained network into the site: page of `alexnet export pretrained PAGE --to web`."""

from __future__ import annotations

import sys
from pathlib import Path

from alexnet.models.formats.open_weights import open_weights
from alexnet.serving.browser.network_file import make_network_file
from alexnet.serving.browser.page import write_browser_page
from alexnet.serving.browser.runtime import URL, cached_tarball, read_runtime

LEFT_OUT = f"""\
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Left out</title>
<h1>Left out of this site</h1>
<p>The page needs onnxruntime-web, which was not in the cache when the site was built. <code>make docs</code> downloads
it, where there is a network: {URL}</p>
</html>
"""


def write_walk(path: Path) -> None:
    """Write the page as one HTML file, 11 MB. Nothing is downloaded.

    Without onnxruntime-web in the cache a note takes its place, and a line on standard error says so.
    """
    tarball = cached_tarball()
    if not tarball.is_file():
        print(f"the walk through the network is left out: {tarball} is not there; download {URL}", file=sys.stderr)
        path.write_text(LEFT_OUT, encoding="utf-8")
        return
    saved = open_weights("pretrained")
    write_browser_page(path, saved, make_network_file(saved), read_runtime(tarball))
