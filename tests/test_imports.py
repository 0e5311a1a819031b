"""The tree's promises: reading order is import order, and nothing heavy or foreign is imported by accident."""

import ast
import subprocess
import sys
from pathlib import Path

import alexnet

ROOT = Path(alexnet.__file__).parent

#: Reading order, top to bottom: a file may import only files above it.
ORDER = [
    "config", "settings", "atomic", "allocator", "threads", "native", "progress", "palette", "explain", "scaling",
    "explorer", "compare", "images", "address", "photos", "imagenet", "folders", "ilsvrc", "download", "cifar",
    "embedded", "datasets", "manifest", "shards", "pack", "cache", "loader", "stream", "triton_kernels", "kernels",
    "augment", "response_norm", "model", "evaluate", "diagnostics", "checkpoint", "weights", "caffeproto", "caffe",
    "finetune", "optimise", "distributed", "runlog", "train", "fast", "predict", "neighbours", "sees", "tables",
    "experiments", "outcomes", "export", "answers", "figures", "blueprint", "plates", "report", "demo", "look",
    "gather", "guard", "intake", "openapi", "listen", "serve", "console", "inside", "serving", "cli", "__main__",
    "__init__",
]


def imported(file: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "alexnet":
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            found |= set(names)
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("alexnet.")}
    return found


def test_reading_order_lists_every_file():
    assert {file.stem for file in ROOT.glob("*.py")} == set(ORDER)


def test_every_import_points_upward():
    wrong = [f"{file.stem} imports {name}" for file in ROOT.glob("*.py") for name in imported(file)
             if ORDER.index(name) >= ORDER.index(file.stem)]
    assert not wrong


def test_figures_and_report_never_import_train():
    assert not {"train"} & (imported(ROOT / "figures.py") | imported(ROOT / "report.py"))


def test_help_and_explain_do_without_torch():
    code = ("import sys; from alexnet.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "assert 'torch' not in sys.modules, 'torch was imported'\n"
            "assert 'matplotlib' not in sys.modules, 'matplotlib was imported'")
    for arguments in (["--help"], ["explain", "paper"], ["presets"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_torchvision_is_never_imported():
    assert not [file for file in ROOT.glob("*.py") if "import torchvision" in file.read_text()]
