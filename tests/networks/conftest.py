"""What several networks are tested for in the same way."""

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def same_when_scripted():
    """Asserts that TorchScript answers as a network in float64 does, for images of several shapes."""

    def check(network, shapes):
        scripted = torch.jit.script(network)
        for shape in shapes:
            image = torch.randn(*shape, dtype=torch.float64)
            torch.testing.assert_close(scripted(image), network(image))

    return check


@pytest.fixture
def same_in_onnx_runtime(in_onnx_runtime):
    """Asserts that ONNX Runtime answers as a network does, for images of the example's and of other shapes."""

    def check(network, example, shapes, **tolerances):
        exported = in_onnx_runtime(network, torch.randn(*example))
        for shape in shapes:
            image = torch.randn(*shape)
            with torch.no_grad():
                torch.testing.assert_close(exported(image), network(image), **tolerances)

    return check


@pytest.fixture
def same_when_traced_and_exported():
    """Asserts that a network of one size answers the same when it is traced and when it is exported by torch.export."""

    def check(network, shape):
        image, example = torch.rand(*shape), torch.rand(*shape)
        with torch.no_grad():
            torch.testing.assert_close(torch.jit.trace(network, example)(image), network(image))
            torch.testing.assert_close(torch.export.export(network, (example,)).module()(image), network(image))

    return check


@pytest.fixture
def losses_on_bright_boxes():
    """Trains a network on two images of bright boxes in noise, and returns the loss of each step."""

    def train(network, optimizer, steps):
        target = torch.zeros(2, 32, 32, dtype=torch.long)
        target[0, 8:20, 4:28] = target[1, 12:, :12] = 1
        image = target[:, None] + 0.3 * torch.randn(2, 1, 32, 32)
        losses = []
        for _ in range(steps):
            loss = F.cross_entropy(network(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return train
