"""The kernels as operators of torch: `torch.library.opcheck`, and what a compiler sees of them."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from alexnet._runtime import kernels, native, operators
from alexnet._runtime.philox import Draw
from alexnet.architecture.spec import LRN
from alexnet.models.response_norm import ResponseNorm

pytestmark = pytest.mark.skipif(not native.level(), reason="no compiled kernels")
NORM = (2.0, 1e-4, 0.75, 5, 2)


def maps(dtype: torch.dtype = torch.float32, requires_grad: bool = False) -> torch.Tensor:
    made = torch.randn(2, 12, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype) * 30
    return made.contiguous(memory_format=torch.channels_last).requires_grad_(requires_grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_are_what_they_say_to_be(dtype):
    """Schemas, shapes of tensors without memory, gradients, and tracing with symbolic sizes."""
    torch.library.opcheck(operators.norm_forward, (maps(dtype, True), *NORM))
    torch.library.opcheck(operators.norm_backward, (maps(dtype), maps(dtype), *NORM))
    units, counter = torch.randn(3, 10).to(dtype).requires_grad_(), torch.tensor([7, 5, 11, 0, 5, 2])
    torch.library.opcheck(operators.dropout, (units, counter, 0.5, 4, 0))
    pixels, mean = torch.randint(0, 256, (2, 9, 9, 3), dtype=torch.uint8), torch.rand(1, 1, 3)
    torch.library.opcheck(operators.crop_normalize, (
        pixels, mean, torch.ones(3), torch.tensor([[0, 1], [2, 0]]), torch.tensor([True, False]), None, None, 7, True,
        dtype, False))
    torch.library.opcheck(operators.resized_crop_normalize, (
        pixels, mean[0, 0], torch.ones(3), torch.tensor([[0.0, 1, 5, 6], [2, 0, 7, 9]]), torch.tensor([True, False]),
        None, 7, True, dtype))


@pytest.mark.parametrize("copied", [False, True])
def test_the_update_changes_weights_velocities_and_copies_and_says_so(copied):
    w, v, g = [[torch.randn(shape) for shape in ((20,), (3, 5))] for _ in range(3)]
    copies = [tensor.bfloat16() for tensor in w] if copied else []
    torch.library.opcheck(operators.sgd_update, (w, v, g, [torch.tensor(0.1), torch.tensor(0.2)], [0.01, 0.0], copies,
                                                 0.9, True, False))


def test_an_operator_refuses_tensors_on_different_devices():
    with FakeTensorMode():
        here, there = [torch.empty(4, device="cuda")], [torch.empty(4)]
        pixels = torch.empty(1, 9, 9, 3, dtype=torch.uint8, device="cuda")
        for lists in range(5):
            given = [here] * 5
            given[lists] = there
            w, v, g, rates, copies = given
            with pytest.raises(RuntimeError, match="different devices"):
                operators.sgd_update(w, v, g, rates, [0.0], copies, 0.9, True, False)
        with pytest.raises(RuntimeError, match="different devices"):
            operators.resized_crop_normalize(pixels, here[0], here[0], torch.empty(1, 4), None, None, 7, True,
                                             torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_operator_computes_what_eager_code_does_to_the_last_bit(dtype):
    norm = ResponseNorm(LRN(), 12, 2)
    numbers = (norm.lrn.k, norm.alpha, norm.lrn.beta, norm.lrn.n, norm.towers)
    eager, operator = maps(dtype, True), maps(dtype, True)
    expected, result = norm(eager), operators.norm_forward(operator, *numbers)
    above = maps(dtype)
    expected.backward(above)
    result.backward(above)
    assert torch.equal(result, expected)
    assert torch.equal(operator.grad, eager.grad)
    draw, rows = Draw(0.3, 5 << 32 | 7, 11, 4), torch.tensor([0, 131_071])
    units = torch.randn(2, 130).to(dtype)
    counter = torch.tensor([7, 5, 11, *rows.tolist()])  # low and high word of the seed, step, positions
    assert torch.equal(operators.dropout(units, counter, draw.p, draw.layer, 3),
                       kernels.dropout(units, rows.numpy(), draw, 3))


def test_a_compiled_network_calls_the_kernel_and_an_exported_one_does_not():
    norm, graphs = ResponseNorm(LRN(), 12, 2), []

    def keep(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    eager, compiled = maps(requires_grad=True), maps(requires_grad=True)
    expected, result = norm(eager), torch.compile(norm, backend=keep, fullgraph=True)(compiled)
    expected.sum().backward()
    result.sum().backward()
    assert torch.equal(result, expected)
    assert torch.equal(compiled.grad, eager.grad)
    assert "alexnet.norm_forward" in graphs[0].code
    exported = torch.export.export(norm, (maps(),))
    assert "alexnet" not in exported.graph_module.code
    torch.testing.assert_close(exported.module()(maps()), expected.detach(), rtol=1e-5, atol=1e-5)
