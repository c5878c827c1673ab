"""Tiles that other programs put together, against the inferer."""

import itertools

import pytest
import torch

from overtile.exports import WithHalo
from overtile.geometry import Geometry, read_mirrored
from overtile.inferers import OverlapTileInferer

NETWORKS = [
    pytest.param(2, {"levels": 1}, id="one level"),
    pytest.param(2, {"levels": 2, "norm": "batch"}, id="two levels"),
    pytest.param(2, {"levels": 3, "up_relu": True}, id="three levels"),
    pytest.param(2, {"levels": 4, "norm": "batch"}, id="four levels"),
    pytest.param(3, {"levels": 1, "norm": "batch", "double_before_pool": True}, id="3D"),
]


def tiled(network, image, kept):
    """What a program makes that knows a step and a halo only; ``kept`` voxels of each tile along each axis."""
    shape, halo = image.shape[2:], network.halo
    result = None
    for corner in itertools.product(*(range(0, size, kept) for size in shape)):
        window = [slice(start - halo, start + kept + halo) for start in corner]
        answer = network(read_mirrored(image, window))[(..., *[slice(halo, halo + kept)] * len(shape))]
        if result is None:
            result = answer.new_empty((*answer.shape[:2], *shape))
        place = [slice(start, min(start + kept, size)) for start, size in zip(corner, shape, strict=True)]
        crop = [slice(0, part.stop - part.start) for part in place]
        result[(..., *place)] = answer[(..., *crop)]
    return result


@pytest.mark.parametrize(("dims", "options"), NETWORKS)
def test_tiles_without_their_halo_are_the_inferers_result_at_the_borders_too(dims, options, random_u_net):
    network = random_u_net(dims, **options)
    image = torch.rand(1, 2, *(45, 38, 31)[:dims])
    with torch.no_grad():
        stitched = tiled(WithHalo(network), image, kept=2 * network.geometry.step)
    torch.testing.assert_close(stitched, OverlapTileInferer()(image, network), atol=1e-4, rtol=1e-4)


def test_a_same_padded_network_agrees_where_its_own_borders_are_out_of_sight(random_u_net):
    network = random_u_net(padding="same")
    image = torch.rand(1, 2, 96, 80)
    haloed = WithHalo(network)
    with torch.no_grad():
        stitched = tiled(haloed, image, kept=16)
    inner = (..., *[slice(haloed.halo, -haloed.halo)] * 2)
    torch.testing.assert_close(stitched[inner], OverlapTileInferer()(image, network)[inner], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_reversed_axes_are_reversed_back(dims, random_u_net):
    network = random_u_net(dims, levels=1)
    forward, backward = WithHalo(network), WithHalo(network, reverse_axes=True)
    image = torch.rand(1, 2, *range(18, 18 + 2 * dims, 2))
    assert torch.equal(backward(image.transpose(2, -1)), forward(image).transpose(2, -1))
    assert not torch.allclose(backward(image), forward(image))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("levels", range(6))
def test_the_smallest_input_keeps_one_step_and_is_legal_as_all_that_follow_are(levels, padding, random_u_net):
    network = random_u_net(levels=0)
    haloed = WithHalo(network, Geometry(levels, padding))
    assert haloed.smallest_input - 2 * haloed.halo == haloed.step == 2**levels
    assert haloed.halo % haloed.step == 0
    for n in range(3):
        assert Geometry(levels, padding).is_legal_input(haloed.smallest_input + n * haloed.step - haloed.lead)


def test_a_network_of_one_size_is_refused_since_other_programs_choose_sizes():
    with pytest.raises(ValueError, match="takes tiles of 224 voxels only"):
        WithHalo(torch.nn.Identity(), Geometry(levels=0, padding="same", margin=28, tile=224))


def test_a_network_that_does_not_say_its_geometry_is_refused():
    with pytest.raises(ValueError, match=r"give geometry=Geometry\(levels, padding\)"):
        WithHalo(torch.nn.Identity())
