"""Every backend against PyTorch as it is."""

import os
import sys

import pytest
import torch
from torch import nn

from overtile.geometry import Geometry
from overtile.inferers import OverlapTileInferer, with_backend
from overtile.networks import UNet, unwrapped

EXTRAS = {"openvino": ["openvino"], "onnxruntime": ["onnxruntime", "onnx"]}
NETWORKS = [
    pytest.param(
        {"spatial_dims": 2, "in_channels": 1},
        [(1, 1, 44, 44), (1, 1, 60, 52), (2, 1, 44, 76)],
        id="2D valid",
    ),
    pytest.param(
        {"spatial_dims": 2, "in_channels": 3, "padding": "same", "norm": "batch", "up_relu": True},
        [(1, 3, 16, 16), (1, 3, 8, 24), (2, 3, 4, 20)],
        id="2D same",
    ),
    pytest.param(
        {"spatial_dims": 2, "in_channels": 1, "padding": "same", "padding_mode": "reflect"},
        [(1, 1, 16, 16), (1, 1, 8, 24), (2, 1, 20, 12)],
        id="2D mirrored",
    ),
    pytest.param(
        {"spatial_dims": 3, "in_channels": 2, "norm": "batch", "double_before_pool": True},
        [(1, 2, 44, 44, 44), (1, 2, 44, 48, 52), (2, 2, 48, 44, 44)],
        id="3D valid",
    ),
    pytest.param(
        {"spatial_dims": 3, "in_channels": 1, "padding": "same", "norm": "instance"},
        [(1, 1, 16, 16, 16), (1, 1, 8, 12, 24), (2, 1, 12, 16, 8)],
        id="3D same",
    ),
]


class Cubed(nn.Module):
    """A network of another make, without a geometry."""

    def forward(self, image):
        return image**3


def unet(**options):
    """A small network with batch norm's statistics and biases that are not those of the beginning."""
    torch.manual_seed(0)
    network = UNet(out_channels=3, levels=2, features=2, **options)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def needs(backend):
    """Skips a test of an extra that is not installed."""
    for package in EXTRAS.get(backend, []):
        pytest.importorskip(package, reason=f'needs pip install "overtile[{backend}]"')


def assert_like(answers, expected, tolerance=1e-4):
    assert answers.dtype == expected.dtype
    assert answers.shape == expected.shape
    assert (answers - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("backend", ["channels_last", "openvino", "onnxruntime"])
@pytest.mark.parametrize(("options", "shapes"), NETWORKS)
def test_a_backend_answers_tiles_of_all_sizes_as_pytorch_does(backend, options, shapes):
    needs(backend)
    network = unet(**options)
    executed = with_backend(network, backend)
    assert executed.geometry == network.geometry
    for shape in shapes:
        tile = torch.rand(shape)
        assert_like(executed(tile), network(tile).detach())


@pytest.mark.parametrize(
    "compiler",
    [
        "eager",  # all but the C++ code, whose compilation takes minutes
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif("OVERTILE_TEST_INDUCTOR" not in os.environ, reason="set OVERTILE_TEST_INDUCTOR=1"),
        ),
    ],
)
def test_inductor_answers_as_pytorch_does_and_does_not_compile_for_every_size(compiler, monkeypatch):
    compile_with = torch.compile
    if compiler != "inductor":
        monkeypatch.setattr(
            torch, "compile", lambda network, dynamic, options: compile_with(network, dynamic=dynamic, backend=compiler)
        )
    network = unet(in_channels=1)
    executed = with_backend(network, "inductor")
    torch._dynamo.utils.counters.clear()
    for shape in [(1, 1, 44, 44), (1, 1, 60, 52), (1, 1, 44, 76), (1, 1, 48, 48), (1, 1, 52, 60)]:
        tile = torch.rand(shape)
        assert_like(executed(tile), network(tile).detach())
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2  # squares may have their own


@pytest.mark.parametrize("backend", ["eager", "channels_last", "openvino", "onnxruntime"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_an_image_is_segmented_alike_on_every_backend(backend, padding):
    needs(backend)
    network = unet(in_channels=1, padding=padding)
    image = torch.rand(2, 1, 50, 37).transpose(2, 3)  # as test-time averaging hands it: not contiguous
    inferer = OverlapTileInferer(16, averaging="rotations")
    assert_like(inferer(image, with_backend(network, backend)), inferer(image, network))


@pytest.mark.parametrize("backend", ["channels_last", "openvino", "onnxruntime"])
def test_a_backend_takes_networks_of_any_make(backend):
    needs(backend)
    executed = with_backend(Cubed().eval(), backend)
    for shape in [(1, 2, 5, 7), (3, 2, 4, 1)]:
        tile = torch.rand(shape)
        assert_like(executed(tile), tile**3)


def test_one_channel_too_comes_with_its_channels_last():
    seen = []

    class Layout(nn.Module):
        def forward(self, image):
            seen.append(image.stride())
            return image

    with_backend(Layout().eval(), "channels_last")(torch.rand(1, 1, 5, 7))
    assert seen == [(35, 1, 7, 1)]  # by these strides PyTorch's convolutions know it


@pytest.mark.parametrize("backend", ["eager", "channels_last", "openvino"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_less_precision_is_near_and_the_answer_has_the_dtype_of_the_tile(backend, precision):
    needs(backend)
    network = unet(in_channels=1)
    tile = torch.rand(1, 1, 44, 44)
    assert_like(with_backend(network, backend, precision)(tile), network(tile).detach(), tolerance=0.03)


def test_less_precision_reaches_the_layers():
    seen = []
    network = unet(in_channels=1)
    network.head.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.dtype))
    with_backend(network, "eager", "bfloat16")(torch.rand(1, 1, 44, 44))
    assert seen == [torch.bfloat16]


def test_eager_in_single_precision_is_the_network_itself():
    network = unet(in_channels=1)
    assert with_backend(network) is network


def test_weights_loaded_before_the_first_tile_count_and_go_where_a_parallel_wrapper_has_them():
    network, trained = unet(in_channels=1), unet(in_channels=1)
    nn.init.uniform_(trained.head.weight)
    executed = with_backend(nn.DataParallel(network), "channels_last")
    unwrapped(executed).load_state_dict(trained.state_dict())
    tile = torch.rand(1, 1, 44, 44)
    assert_like(executed(tile), trained(tile).detach())
    assert not executed(tile).requires_grad


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_extra_that_is_not_installed_is_named(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(ImportError, match=rf'backend .{backend}. needs .* pip install "overtile\[{backend}\]"'):
        with_backend(unet(in_channels=1), backend)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorflow",), "backend must be one of 'eager', .* got 'tensorflow'"),
        (("eager", "int8"), "precision must be one of 'float32', .* got 'int8'"),
        (("onnxruntime", "float16"), "float32 only, got precision 'float16'"),
    ],
    ids=["backend", "precision", "both"],
)
def test_an_unknown_option_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        with_backend(unet(in_channels=1), *arguments)


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        with_backend(unet(in_channels=1).train(), "channels_last")(torch.rand(1, 1, 44, 44))


def test_a_size_that_a_compiled_network_would_silently_cut_is_refused():
    network = unet(in_channels=1)
    assert network.geometry == Geometry(2)
    with pytest.raises(ValueError, match="nearest are 44 and 48"):
        with_backend(network, "channels_last")(torch.rand(1, 1, 46, 44))
