"""The rehearsal of a page finds output that its blocks do not print."""

import pytest

from rehearsal import Rehearsal


@pytest.fixture
def page(tmp_path):
    """A function that runs a page of these blocks."""
    def run(*blocks):
        path = tmp_path / "page.md"
        path.write_text("\n".join(f"```{language}\n{text}\n```\n" for language, text in blocks))
        Rehearsal(tmp_path, tmp_path, tmp_path).page(path)
    return run


LISTED, SILENT = ("sh", "alexnet list weights tiny-imagenet-200"), ("sh", "alexnet list > list.txt")


def test_what_is_printed_is_found(page):
    page(("text", "a drawing before any command"), LISTED, ("text", "..."))
    page(("python", "print('a  b')\nprint('c')"), ("text", "c\n...\na b"), ("text", "a b"))


@pytest.mark.parametrize("blocks", [
    [LISTED, ("text", "not a line of it")], [SILENT, ("text", "tiny-imagenet-200")],
    [("python", "print('a')"), ("text", "b")], [("python", "a = 1"), ("text", "a")],
    [("python", "print('x')"), SILENT, ("text", "x")],
    [("sh", "alexnet list"), ("python", "a = 1"), ("text", "networks")]])
def test_what_is_not_printed_fails(page, blocks):
    with pytest.raises(AssertionError, match=r"page\.md: not printed"):
        page(*blocks)


def test_a_block_that_is_not_run_has_no_output_to_compare(page, tmp_path):
    path = tmp_path / "page.md"
    path.write_text("```python\nprint('x')\n```\n\n<!-- Not run by the tests: it needs a GPU. -->\n\n"
                    "```sh\nnvidia-smi\n```\n\n```text\nGPU 0\n```\n")
    Rehearsal(tmp_path, tmp_path, tmp_path).page(path)
