"""One torch thread for the comparisons with NumPy."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small layers gain nothing from threads, and waiting for them takes five times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
