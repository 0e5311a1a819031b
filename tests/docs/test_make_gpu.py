"""`make gpu` selects the tests that need a GPU, on a machine that has one and neither a network nor playwright."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from requirements import missing

ROOT = Path(__file__).parents[2]
HAS_A_GPU = """import sys
sys.modules["playwright"] = None  # importing it raises ImportError
import torch
torch.cuda.is_available = lambda: True
"""


def recipe() -> str:
    if not shutil.which("make"):
        missing("make is not on the PATH")
    return subprocess.run(["make", "-n", "gpu", "PYTHON=python3"], cwd=ROOT, capture_output=True, text=True,
                          check=True).stdout


def test_make_gpu_installs_nothing():
    printed = recipe()
    assert "pip" not in printed
    assert "-m pytest -m gpu --require-extras" in printed


def test_make_gpu_names_every_file_that_has_a_test_for_a_gpu():
    named = {word for word in recipe().split() if word.endswith(".py")}
    assert named == {str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py")
                     if f"mark.{'gpu'}" in file.read_text(encoding="utf-8")}


@pytest.mark.slow
def test_make_gpu_runs_the_triton_tests_and_the_training_runs(tmp_path):
    (tmp_path / "has_a_gpu.py").write_text(HAS_A_GPU)
    files = [word for word in recipe().split() if word.endswith(".py")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "has_a_gpu", "-p", "no:cacheprovider", "--collect-only", "-q", "-m",
         "gpu", *files], cwd=ROOT, capture_output=True, text=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}", "PATH": "/usr/bin:/bin"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    selected = {line.partition("::")[2].partition("[")[0] for line in ran.stdout.splitlines() if "::" in line}
    assert selected == {
        "test_normalization_and_its_gradient", "test_views", "test_resized_crops", "test_one_update_of_all_tensors",
        "test_updates_of_more_tensors_than_a_launch_takes", "test_an_update_of_a_tensor_at_an_odd_address",
        "test_an_update_of_nothing", "test_triton_drops_what_numpy_drops",
        "test_all_that_follows_a_convolution_and_its_gradients", "test_after_a_convolution_of_the_images",
        "test_of_equal_maxima_the_first_one_gets_the_gradient", "test_no_images_are_no_work",
        "test_nan_and_infinity_go_where_torch_lets_them_go",
        "test_a_network_trains_the_same_with_and_without_one_kernel",
        "test_a_gpu_run_with_triton_kernels_equals_one_without", "test_a_gpu_learns_in_every_precision",
        "test_a_step_waits_for_nothing_on_the_gpu", "test_cuda_graphs_train_what_launched_kernels_train_on_the_gpu",
        "test_the_gpu_computes_with_the_rounded_weights"}
