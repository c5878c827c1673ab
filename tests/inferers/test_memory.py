import pytest
import torch
from torch import nn

from overtile.geometry import Geometry, fitted_output_size, plan_tiles
from overtile.inferers import OverlapTileInferer, activation_bytes
from overtile.inferers.memory import OVERHEAD, PAPER_BYTES
from overtile.networks import UNet

TILE = (204, 204)


class Counted(nn.Module):
    """A network with its calls' input shapes."""

    def __init__(self, network):
        super().__init__()
        self.module, self.shapes = network, []

    def forward(self, image):
        self.shapes.append(tuple(image.shape))
        return self.module(image)


def test_the_estimate_counts_what_the_largest_layer_reads_and_writes():
    network = nn.Sequential(nn.Conv2d(1, 5, 1), nn.Conv2d(5, 7, 1), nn.Conv2d(7, 2, 1))
    assert activation_bytes(network, 1, (10, 30)) == pytest.approx(OVERHEAD * (5 + 7) * 4)
    assert activation_bytes(network.half(), 1, (10, 30)) == pytest.approx(OVERHEAD * (5 + 7) * 2)


def test_the_network_of_2015_needs_what_its_two_widest_layers_of_the_top_level_do():
    with torch.device("meta"):
        network = UNet()
    # at most 128 channels in and 64 out for every voxel of the input, and of it the borders are lost
    assert 0.6 * PAPER_BYTES < activation_bytes(network, 1, (572, 572)) < PAPER_BYTES
    assert 0.8 * PAPER_BYTES < activation_bytes(network, 1, (4092, 4092)) < PAPER_BYTES


def test_twice_as_many_features_need_twice_the_memory_and_depth_none():
    few, many, deep = (
        activation_bytes(UNet(levels=levels, features=n, padding="same"), 1, (64, 64))
        for levels, n in ((2, 8), (2, 16), (3, 8))
    )
    assert many == 2 * few
    assert deep == few


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_looking_at_a_network_leaves_it_as_it_was(training):
    network = UNet(levels=1, features=2, norm="batch").train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seed = torch.get_rng_state()
    activation_bytes(network, 1, (20, 20))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), seed)
    assert network.training == training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


class Stubborn(nn.Module):
    """Cannot run where there are shapes only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.constant = torch.ones(1)  # no buffer, so it stays behind on the CPU

    def forward(self, image):
        return self.conv(image) * float(image.sum() * self.constant)


class TwoInputs(nn.Module):
    def forward(self, image, other):
        return image + other


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "network",
    [
        pytest.param(lambda image: image, id="function"),
        pytest.param(Stubborn(), id="values needed"),
        pytest.param(TwoInputs(), id="two inputs"),
        pytest.param(torch.jit.script(nn.Conv2d(1, 1, 1)), id="scripted"),
    ],
)
def test_what_cannot_be_traced_counts_as_the_network_of_2015(network):
    assert activation_bytes(network, 1, TILE) == PAPER_BYTES
    if isinstance(network, Stubborn):
        assert not network.conv._forward_hooks


def test_a_parallel_wrapper_needs_what_its_network_does():
    network = UNet(levels=1, features=4)
    assert activation_bytes(Counted(network), 1, TILE) == activation_bytes(network, 1, TILE)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_smaller_limit_means_smaller_tiles_all_within_it(batch):
    network = Counted(UNet(levels=1, features=2, norm="batch").eval())
    image, calls, results = torch.rand(batch, 1, 46, 30), [], []
    for kibibytes in (10_000, 200, 100, 1):
        network.shapes.clear()
        results.append(OverlapTileInferer(memory_limit=kibibytes / 2**20)(image, network))
        assert len(set(network.shapes)) == 1
        calls.append(len(network.shapes))
        tile = network.shapes[0][2:]
        needed = batch * activation_bytes(network, 1, tile) * tile[0] * tile[1]
        assert needed <= kibibytes * 1024 or tile == (18, 18)
    assert calls[0] == 1
    assert calls == sorted(calls)
    assert calls[-1] == 23 * 15  # write windows of 2 voxels: the smallest tile, though it needs more
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


def test_the_tiles_are_the_fitted_ones():
    network = Counted(UNet(levels=2, features=2, padding="same").eval())
    shape, geometry = (60, 100), Geometry(2, "same")
    limit = 80 * 90
    inferer = OverlapTileInferer(memory_limit=limit * activation_bytes(network, 1, (64, 64)) / 2**30)
    inferer(torch.rand(1, 1, *shape), network)
    tiles = plan_tiles(shape, fitted_output_size(shape, geometry, limit), geometry)
    assert [shape[2:] for shape in network.shapes] == [tile.input_shape for tile in tiles]


def test_a_network_with_one_module_under_two_names_is_left_as_it_is():
    part = nn.Conv2d(2, 2, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), part, nn.Sequential(part))
    before = activation_bytes(nn.Sequential(*(nn.Conv2d(c, 2, 3, padding=1) for c in (1, 2, 2))), 1, (16, 16))
    assert activation_bytes(network, 1, (16, 16)) == before
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}
    network(torch.zeros(1, 1, 16, 16))
