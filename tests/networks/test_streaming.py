"""Rows through the network, strip by strip: what one pass gives, and nothing computed twice."""

import pytest
import torch
from torch import nn

from overtile.networks import can_stream, stream, streaming

OPTIONS = {
    "2015": {},
    "batch norm": {"norm": "batch"},
    "2016": {"double_before_pool": True, "norm": "batch"},
    "release": {"up_relu": True, "top_up_features": 5},
    "same": {"padding": "same"},
    "same mirrored": {"padding": "same", "padding_mode": "reflect", "norm": "batch"},
}
SHAPES = {(2, 1): (30, 26), (2, 3): (140, 92), (3, 1): (22, 18, 26), (3, 2): (44, 60, 48)}


@pytest.fixture
def network(random_u_net):
    return random_u_net


def close(result, expected):
    """Equal to the rounding of float32: a convolution may sum in an order that depends on the shape."""
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def legal(shape, levels, padding="valid"):
    return [size if padding == "valid" else size // 2**levels * 2**levels for size in shape]


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("dims", "levels"), SHAPES, ids=lambda value: str(value))
def test_rows_streamed_through_are_those_of_one_pass(network, dims, levels, options):
    net = network(dims, levels, **options)
    image = torch.randn(2, 2, *legal(SHAPES[dims, levels], levels, options.get("padding", "valid")))
    expected = net(image)
    assert expected.std() > 1e-2
    for axis in range(dims):
        for height in (1, 5, 2**levels, 1000):
            pieces = list(stream(net, image.split(height, dim=2 + axis), axis))
            close(torch.cat(pieces, dim=2 + axis), expected)
            assert min(piece.shape[2 + axis] for piece in pieces) > 0


@torch.no_grad()
def test_strips_may_be_of_any_unequal_heights(network):
    net = network()
    image = torch.randn(1, 2, 84, 44)
    strips = image.split([1, 2, 40, 7, 3, 31], dim=2)
    close(torch.cat(list(stream(net, strips)), dim=2), net(image))


@torch.no_grad()
@pytest.mark.parametrize(("dims", "shape"), [(2, (156, 76)), (3, (60, 44, 52))], ids=["2D", "3D"])
@pytest.mark.parametrize("height", [4, 8, 16, 32])
def test_of_one_backend_they_are_bit_for_bit_the_same(network, dims, shape, height):
    net = network(dims)
    image = torch.randn(2, 2, *shape)  # PyTorch computes small single images by another library than large ones
    assert torch.equal(torch.cat(list(stream(net, image.split(height, dim=2))), dim=2), net(image))


@torch.no_grad()
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_no_layer_computes_a_row_twice(network, padding, monkeypatch):
    net = network(padding=padding)
    image = torch.randn(1, 2, 84, 44)
    rows = {}

    def count(layer, _inputs, output):
        rows[layer] = rows.get(layer, 0) + output.shape[2]

    hooks = [
        layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, nn.ReLU | nn.ConvTranspose2d)
    ]
    net(image)
    once = dict(rows)
    rows.clear()
    monkeypatch.setattr(streaming, "can_stream", lambda network: True)  # which hooks would forbid
    list(stream(net, image.split(4, dim=2)))
    for hook in hooks:
        hook.remove()
    lost = net.geometry.loss  # what a skip crops away is needed below, but the last of it by nothing
    assert set(rows) == set(once)
    assert all(once[layer] - 2 * lost <= rows[layer] <= once[layer] for layer in rows)


@torch.no_grad()
def test_the_rows_that_wait_do_not_grow_with_the_image(network, monkeypatch):
    waiting = []

    class Watched(streaming._Rows):
        def push(self, chunk):
            super().push(chunk)
            waiting.append(self.count)

    monkeypatch.setattr(streaming, "_Rows", Watched)
    net = network()
    most = []
    for height in (164, 644):
        waiting.clear()
        list(stream(net, torch.randn(1, 2, height, 44).split(8, dim=2)))
        most.append(max(waiting))
    assert most[0] == most[1] <= 2 * net.geometry.margin + 3 * 8


@torch.no_grad()
def test_rows_come_out_before_the_last_have_gone_in(network):
    net = network()
    drawn = []

    def strips():
        for strip in torch.randn(1, 2, 644, 44).split(8, dim=2):
            drawn.append(strip)
            yield strip

    next(stream(net, strips()))
    assert len(drawn) <= (2 * net.geometry.margin + 4) // 8 + 2


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_u_net_in_evaluation_mode_can_be_streamed_and_only_such(network, norm):
    net = network(norm=norm)
    assert can_stream(net)
    assert not can_stream(net.train())
    assert not can_stream(nn.DataParallel(net.eval()))
    assert not can_stream(lambda image: image)


def test_a_norm_in_training_mode_is_not_streamed(network):
    net = network(norm="batch")
    next(layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)).train()
    assert not can_stream(net)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_norms_that_need_the_whole_input_are_not_streamed(network, norm):
    assert not can_stream(network(norm=norm))


def test_what_cannot_be_streamed_is_refused(network):
    with pytest.raises(ValueError, match="only a UNet without instance or group norm, in evaluation mode"):
        next(stream(network(norm="instance"), [torch.zeros(1, 2, 44, 44)]))


@pytest.mark.parametrize("shape", [(1, 3, 44, 44), (1, 2, 44, 44, 44), (2, 44, 44)], ids=str)
def test_strips_of_another_kind_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"a 2D network with 2 input channels takes \(batch, 2, \*2 axes\), got shape"):
        next(stream(network(), [torch.zeros(shape)]))


def test_a_network_whose_passes_are_watched_is_not_streamed(network):
    net = network()
    hook = net.register_forward_hook(lambda *_: None)
    assert not can_stream(net)
    hook.remove()
    assert can_stream(net)
