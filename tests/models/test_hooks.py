"""Forward hooks capture the outputs of named layers, and are removed afterwards."""

import pytest
import torch

from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.hooks import captured_outputs, on_outputs


@pytest.fixture
def network(tiny):
    return AlexNet(tiny, seed=1).eval()


def hooks_of(network: AlexNet) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_captured_outputs_are_those_of_the_layers(network):
    views = torch.randn(2, 3, 28, 28)
    with captured_outputs(network, ["relu1", "fc7"]) as captured:
        logits = network(views)
    assert list(captured) == ["relu1", "fc7"]
    assert torch.equal(captured["fc7"], logits)
    index = network.layer_names().index("relu1")
    assert torch.equal(captured["relu1"], network.features[:index + 1](views))
    assert hooks_of(network) == 0


def test_a_second_forward_pass_replaces_the_outputs(network):
    with captured_outputs(network, ["fc7"]) as captured:
        network(torch.randn(2, 3, 28, 28))
        logits = network(torch.randn(5, 3, 28, 28))
    assert torch.equal(captured["fc7"], logits)


def test_captured_outputs_keep_their_gradient_on_request(network):
    with captured_outputs(network, ["relu1"], retain_grad=True) as captured:
        network(torch.randn(2, 3, 28, 28)).sum().backward()
    assert captured["relu1"].grad is not None


def test_hooks_are_removed_after_an_error(network):
    with pytest.raises(RuntimeError, match="from the handler"), on_outputs(network, ["relu1", "fc7"], fail):
        network(torch.randn(1, 3, 28, 28))
    assert hooks_of(network) == 0


def fail(name: str, output: torch.Tensor) -> None:
    raise RuntimeError(f"{name}: from the handler")


def test_an_unknown_layer_is_rejected_and_leaves_no_hook(network):
    with pytest.raises(UserError, match=r"small has no layer 'relu9'; did you mean relu\d\?"), captured_outputs(
            network, ["relu1", "relu9"]):
        pass
    assert hooks_of(network) == 0


def test_a_compiled_network_runs_uncompiled_where_outputs_are_captured(network):
    """Code that was compiled before a hook was set skips it, and nothing says so."""
    views = torch.randn(2, 3, 28, 28)
    network.compile(backend="eager")
    logits = network(views)
    with captured_outputs(network, ["relu1", "fc7"]) as captured:
        again = network(views)
    assert list(captured) == ["relu1", "fc7"]
    assert torch.equal(captured["fc7"], again)
    assert torch.equal(logits, again)
