import pytest
import torch
import torch.nn.functional as F
from torch import nn

from overtile.geometry import Geometry
from overtile.inferers import OverlapTileInferer
from overtile.losses import WeightedCrossEntropyLoss
from overtile.networks import MultiResUNet
from overtile.networks.multiresunet import MultiResBlock, ResPath


def on_meta(*args, **options):
    """The network without weights: shapes cost nothing."""
    with torch.device("meta"):
        return MultiResUNet(*args, **options)


def trainable(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def statistics(network):
    return sum(buffer.numel() for name, buffer in network.named_buffers() if name.endswith(("_mean", "_var")))


@pytest.fixture
def randomised(randomise):
    """Makes modules lively, always in the same way, and puts them into evaluation mode and float64."""

    def make(module):
        torch.manual_seed(0)
        return randomise(module).double().eval()

    return make


@pytest.mark.parametrize(
    ("dims", "channels", "parameters", "keras"),
    [(2, 3, 7_238_228, 7_262_750), (3, 4, 18_633_167, 18_657_689)],
    ids=["2D", "3D, four channels"],
)
def test_the_numbers_of_parameters_are_those_of_the_authors_keras_code(dims, channels, parameters, keras):
    network = on_meta(dims, in_channels=channels)
    assert trainable(network) == parameters
    assert trainable(network) + statistics(network) == keras  # Keras counts moving averages as parameters


def test_blocks_have_the_channels_and_paths_the_lengths_of_the_paper():
    network = on_meta()
    channels = [[conv[0].out_channels for conv in block.convs] for block in (*network.encoder, network.bottom)]
    assert channels == [[8, 17, 26], [17, 35, 53], [35, 71, 106], [71, 142, 213], [142, 284, 427]]
    assert [block.out_channels for block in (*network.encoder, network.bottom)] == [51, 105, 212, 426, 853]
    assert [block.out_channels for block in network.decoder] == [426, 212, 105, 51]
    assert [len(path.convs) for path in network.paths] == [4, 3, 2, 1]
    assert [path.convs[0][0].out_channels for path in network.paths] == [32, 64, 128, 256]


def norm(x, state, name):
    """Batch norm of Keras in evaluation: epsilon 0.001; without a scale where there is none."""
    shape = (-1, *[1] * (x.ndim - 2))
    mean, var = (state[f"{name}.running_{kind}"].reshape(shape) for kind in ("mean", "var"))
    scale = state[f"{name}.weight"].reshape(shape) if f"{name}.weight" in state else 1.0
    return (x - mean) / (var + 1e-3).sqrt() * scale + state[f"{name}.bias"].reshape(shape)


def conv(x, state, name):
    weight = state[f"{name}.0.weight"]
    convolve = F.conv2d if x.ndim == 4 else F.conv3d
    return norm(convolve(x, weight, padding=weight.shape[-1] // 2), state, f"{name}.1")


@pytest.mark.parametrize("dims", [2, 3])
def test_a_block_is_three_convolutions_in_a_row_joined_beside_a_shortcut(dims, randomised):
    block = randomised(MultiResBlock(dims, 3, 8, 1.67))
    state = block.state_dict()
    x = torch.randn(2, 3, *(7, 9, 5)[:dims], dtype=torch.float64)
    a = F.relu(conv(x, state, "convs.0"))
    b = F.relu(conv(a, state, "convs.1"))
    c = F.relu(conv(b, state, "convs.2"))
    joined = norm(torch.cat([a, b, c], 1), state, "joined_norm")
    expected = norm(F.relu(conv(x, state, "shortcut") + joined), state, "norm")
    assert sum("weight" in name for name in state) == 4 + 2  # convolutions, and the two norms that scale
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_path_is_convolutions_each_beside_a_shortcut(dims, randomised):
    path = randomised(ResPath(dims, 5, 4, length=3))
    state = path.state_dict()
    x = expected = torch.randn(2, 5, *(7, 9, 5)[:dims], dtype=torch.float64)
    for unit in range(3):
        residual = F.relu(conv(expected, state, f"convs.{unit}"))
        added = F.relu(conv(expected, state, f"shortcuts.{unit}") + residual)
        expected = norm(added, state, f"norms.{unit}")
    torch.testing.assert_close(path(x), expected)


def test_a_skip_goes_through_its_path_and_stands_behind_the_up_convolution(randomised):
    network, seen = randomised(MultiResUNet(2, 1, 2, features=4, levels=1)), {}
    network.encoder[0].register_forward_hook(lambda _m, _i, out: seen.update(block=out))
    network.ups[0].register_forward_hook(lambda _m, _i, out: seen.update(up=out))
    network.decoder[0].register_forward_pre_hook(lambda _m, inputs: seen.update(joined=inputs[0]))
    network(torch.randn(1, 1, 8, 8, dtype=torch.float64))
    torch.testing.assert_close(seen["joined"], torch.cat([seen["up"], network.paths[0](seen["block"])], 1))


def test_one_class_has_the_authors_norm_before_the_sigmoid_and_several_have_none():
    one, several = (on_meta(out_channels=classes).head for classes in (1, 3))
    assert [type(layer) for layer in one] == [nn.Conv2d, nn.BatchNorm2d]
    assert one[0].bias is None
    assert one[1].weight is None
    assert isinstance(several, nn.Conv2d)
    assert [trainable(head) for head in (one, several)] == [51 + 1, 3 * (51 + 1)]


@pytest.mark.parametrize("out_channels", [1, 3])
@pytest.mark.parametrize(("dims", "shape"), [(2, (16, 32)), (3, (16, 16, 16))], ids=["2D", "3D"])
def test_the_gradient_reaches_every_parameter(dims, shape, out_channels):
    torch.manual_seed(0)
    network = MultiResUNet(dims, 2, out_channels, features=8)
    logits = network(torch.randn(2, 2, *shape))
    assert logits.shape == (2, out_channels, *shape)
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_it_learns_with_the_soft_max_loss():
    torch.manual_seed(0)
    network, loss = MultiResUNet(2, 1, 2, features=4, levels=2), WeightedCrossEntropyLoss()
    label = torch.zeros(1, 1, 32, 32)
    label[..., 8:20, 10:25] = 1
    image = label + 0.3 * torch.randn(label.shape)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        energy = loss(network(image), label)
        energy.backward()
        optimizer.step()
    assert energy < 0.05  # with a norm before the soft-max it is 0.06 after 200 steps, at its limit


@pytest.mark.parametrize(
    ("dims", "levels", "shape", "sizes"),
    [(2, 1, (50, 31), [2, 9, 16]), (2, 2, (130, 21), [4, (20, 8)]), (3, 1, (40, 5, 6), [4, (9, 4, 4)])],
    ids=["2D one level", "2D two levels", "3D"],
)
@torch.no_grad()
def test_any_tiling_equals_one_pass(dims, levels, shape, sizes, randomised):
    """In float64, where the rounding is far below what the farthest voxels change."""
    network = randomised(MultiResUNet(dims, 2, 3, features=4, levels=levels))
    image = torch.randn(1, 2, *shape, dtype=torch.float64)
    step = network.geometry.step
    padded = F.pad(image, [end for size in reversed(shape) for end in (0, -size % step)], mode="reflect")
    expected = network(padded)[(..., *map(slice, shape))]
    for size in sizes:
        tiled = OverlapTileInferer(size)(image, network)
        torch.testing.assert_close(tiled, expected, rtol=0.0, atol=1e-11 * float(expected.abs().max()))


@torch.no_grad()
def test_the_margin_of_a_u_net_would_not_do(randomised):
    network = randomised(MultiResUNet(2, 1, 2, features=4, levels=2))
    image = torch.randn(1, 1, 160, 8, dtype=torch.float64)
    whole, short = (OverlapTileInferer(4, geometry=g)(image, network) for g in (None, Geometry(2, "same")))
    assert (whole - short).abs().max() > 1e-7 * whole.abs().max()


def reach(network, size):
    """How far a logit's gradient reaches to the left and to the right, at most, where all of the network adds up."""
    for name, tensor in network.state_dict().items():
        if name.endswith("weight"):
            tensor.abs_()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(2))  # a maximum passes a gradient to one of its voxels only
    furthest = [0, 0]
    for place in range(size // 2, size // 2 + network.geometry.step):
        image = torch.ones(1, 1, 8 * network.geometry.step, size, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(image)[..., place].sum(), image)
        seen = gradient.abs().sum((0, 1, 2)).nonzero()
        furthest = [max(furthest[0], place - int(seen.min())), max(furthest[1], int(seen.max()) - place)]
    return furthest


@pytest.mark.parametrize(("levels", "expected"), [(1, 13), (2, 33), (3, 73), (4, 153)])
def test_the_margin_is_what_a_logit_sees_rounded_up_to_the_pooling_grid(levels, expected):
    network = MultiResUNet(2, 1, 2, features=4, levels=levels).double().eval()
    step = network.geometry.step
    size = (2 * expected // step + 6) * step
    assert reach(network, size) == [expected, expected]
    assert network.geometry.margin == -(-expected // step) * step
    assert (network.geometry.levels, network.geometry.padding) == (levels, "same")


def test_torchscript_of_it_answers_the_same_at_all_sizes(same_when_scripted, randomised):
    same_when_scripted(randomised(MultiResUNet(2, 1, 1, features=4, levels=2)), [(2, 1, 8, 12), (2, 1, 16, 4)])


@pytest.mark.parametrize("dims", [2, 3])
def test_onnx_of_it_answers_the_same_at_all_sizes(dims, same_in_onnx_runtime, randomised):
    network = randomised(MultiResUNet(dims, 1, 2, features=4, levels=2)).float()
    shapes = [(2, 1, *shape[:dims]) for shape in ((8, 12, 16), (16, 8, 4))]
    same_in_onnx_runtime(network, (1, 1, *(8, 12, 16)[:dims]), shapes, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 3, 32, 40), "input size 40 .* the nearest are 32 and 48"),
        ({}, (1, 3, 8, 16), "input size 8 .* the nearest are 16"),
        ({}, (1, 1, 32, 32), r"takes \(batch, 3, \*2 axes\), got shape \(1, 1, 32, 32\)"),
        ({"spatial_dims": 3}, (1, 3, 32, 32), "a 3D network with 3 input channels takes"),
    ],
    ids=["40", "8", "channels", "axes"],
)
def test_an_image_that_does_not_fit_is_refused_with_the_remedy(options, shape, message):
    with pytest.raises(ValueError, match=message):
        on_meta(features=4, **options)(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    "options",
    [
        {"spatial_dims": 1},
        {"in_channels": 0},
        {"out_channels": 0},
        {"features": 0},
        {"features": 3},
        {"alpha": 0.1},
        {"levels": -1},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_an_option_that_no_network_has_is_refused_by_its_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        on_meta(**options)
