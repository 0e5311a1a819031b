"""The notebooks run from their first cell to their last, in the time and memory that their page says.

Their files hold no outputs and no paths of a machine.
"""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import requirements
from alexnet.serving.browser import runtime
from rehearsal import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TARBALL = runtime.cached_tarball()
"""Where `make test` puts onnxruntime-web. Read before a test changes the cache's folder."""

CHECKED = """
import subprocess

def run_checked(command):
    ran = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ran.stdout)
    assert ran.returncode == 0, f"!{command}: {ran.stdout[-2000:]}"

get_ipython().system = run_checked
"""
"""A first cell for the tests: `!command` fails where the command fails, which a notebook passes over."""

USED = """
import json, re, resource
from pathlib import Path

own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps({"seconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
                  "kilobytes": int(peak) + children.ru_maxrss}))
"""
"""A last cell for the tests: processor time of the kernel and of its commands, and the largest memory of both together.

ru_maxrss of the kernel would include the process that started it.
"""


def cells(path, kind):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_are_three_and_the_page_lists_them():
    assert len(NOTEBOOKS) == 3
    page = (ROOT / "docs" / "learn" / "notebooks.md").read_text()
    for path in NOTEBOOKS:
        title = cells(path, "markdown")[0].splitlines()[0].removeprefix("# ")
        assert f"[{title}](../../notebooks/{path.name})" in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_file_has_no_outputs_no_machine_paths_and_short_cells(path):
    book = json.loads(path.read_text())
    assert book["metadata"].keys() == {"kernelspec", "language_info"}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert not re.search(r"""(?<![\w.:/<])/[A-Za-z]\w*/|[A-Z]:\\\\""", path.read_text()), "an absolute path"
    assert max(source.count("\n") for source in cells(path, "code")) < 50
    first = cells(path, "code")[0].splitlines()
    assert all(line.startswith("#") for line in first)  # installs nothing, unless the reader wants it
    given = [shlex.split(line)[2:] for line in (line.removeprefix("# ") for line in first) if line.startswith("%pip")]
    paths = [re.fullmatch(r"(\.[^[]*)\[all]", words[0])[1] for words in given]  # paths: the package is on no index
    assert paths == ["..", "./alexnet.zip"]
    assert (path.parent / paths[0] / "pyproject.toml").is_file()
    assert "alexnet[" not in path.read_text()


def test_their_numbers_are_the_papers():
    text = "\n".join("\n".join(cells(path, "markdown")) for path in NOTEBOOKS)
    for quoted in ("60,965,224 parameters",
                   "b = a / (2 + 0.0001 · Σ a²)^0.75", "reaches 25% training\nerror in a sixth",
                   "| one network, validation | 40.7% | 18.2% |",
                   "| five networks, validation | 38.1% | 16.4% |",
                   "| seven networks, validation | 36.7% | 15.4% |", "| seven networks, test | | 15.3% |",
                   "(SIFT + FVs), test | | 26.2% |", "top-1 error lower by 1.4 points, top-5 by 1.2",
                   "| 40.7%, 18.2% | 42.0%, 19.4% |", "| 47.0% | 47.1% |"):
        assert quoted in text, quoted


@pytest.mark.slow
@pytest.mark.needs("nbclient", "pip install '.[test]'")
@pytest.mark.needs("ipykernel", "pip install '.[test]'")
@pytest.mark.needs("onnxruntime", "pip install 'alexnet[export]'")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1800)  # a minute of computing each, of a machine that may be busy
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    if any("downloads" in cell.metadata.get("tags", ()) for cell in book.cells):
        if not TARBALL.is_file():
            requirements.missing(f"onnxruntime-web is not in {TARBALL.parent}; `make test` downloads it")
        (tmp_path / "cache" / "alexnet" / TARBALL.parent.name).mkdir(parents=True)
        shutil.copy(TARBALL, tmp_path / "cache" / "alexnet" / TARBALL.parent.name)
    book.cells = [nbformat.v4.new_code_cell(CHECKED), *book.cells, nbformat.v4.new_code_cell(USED)]
    work = tmp_path / "work"
    work.mkdir()
    NotebookClient(book, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(work)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    errors = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert not [text for text in errors if "Traceback" in text or "Warning" in text]
    used = json.loads(book.cells[-1].outputs[0].text)
    print(f"{path.stem}: {used['seconds']:.0f} s of processor time, {used['kilobytes'] / 1e6:.2f} GB")
    assert used["seconds"] <= 240  # twice what the page says
    assert used["kilobytes"] <= 4e6
