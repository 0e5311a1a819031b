"""A page that shows a command of an extra says so near it, so that `pip install .` alone leads to no surprise."""

import os
import re
import subprocess
import sys

import pytest

from alexnet._runtime.extras import EXTRAS, install_line
from rehearsal import ROOT

NEEDS = {r"attribute ": "interpret", r"serve\b": "serve", r"export .*(\.onnx|\.html|--to web)": "export",
         r"map ": "map", r"(predict|export|train|import) .*hf://": "hub", r"import .*\.caffemodel": "caffe"}
"""What follows `alexnet ` in a command -> the extra without which it is refused."""
REFUSED = (["attribute", "photo.jpg"], ["serve"], ["export", "net.onnx"], ["map", "pretrained", "photos"])
NEWCOMERS = {"docs/index.md", "docs/interpret/index.md"}
"""Pages that name an extra in the same section. On others it stands anywhere."""


def needed():
    """Each command of docs/ that needs an extra: its page, the text that must name the extra, the extra."""
    found = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if page in NEWCOMERS else [text]:
            for command in re.findall(r"^alexnet (.*)", "".join(re.findall(r"```sh\n(.*?)```", part, re.DOTALL)),
                                      re.MULTILINE):
                found += [(page, command, part, extra) for pattern, extra in NEEDS.items()
                          if re.match(pattern, command.split("#")[0].strip())]
    return found


def test_the_extra_of_a_command_is_named_near_it():
    commands = needed()
    assert {page for page, *_ in commands} > NEWCOMERS
    assert len(commands) > 20
    assert [f"{page}: alexnet {command} needs {extra}" for page, command, part, extra in commands
            if not re.search(rf"extras?\s[^.]*`{extra}`", part)] == []


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: words[0])
def test_a_command_is_refused_without_its_extra(words, class_folders, tmp_path):
    (extra,) = {extra for pattern, extra in NEEDS.items() if re.match(pattern, " ".join(words) + " ")}
    (tmp_path / "photo.jpg").symlink_to(next(class_folders.rglob("*.png")))
    (tmp_path / "photos").symlink_to(class_folders)
    hidden = (f"import sys; sys.modules.update(dict.fromkeys({EXTRAS[extra].modules}))\n"
              f"from alexnet.cli.main import main; main({words})")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ran = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 2
    assert install_line(extra) in ran.stderr
