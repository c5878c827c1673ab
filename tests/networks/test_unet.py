import math
from collections import Counter

import pytest
import torch
from torch import nn

from overtile.networks import UNet

PAPER_3D = {"spatial_dims": 3, "levels": 3, "features": 32, "double_before_pool": True, "dropout": 0.0}
CONVS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def on_meta(**options):
    """The network without weights: shapes cost nothing."""
    with torch.device("meta"):
        return UNet(**options)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def layers(network, shape):
    """Channels and spatial shape behind every convolution, in the order of the pass."""
    seen = []
    for module in network.modules():
        if isinstance(module, CONVS):
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:])))
    network(torch.empty(1, network.in_channels, *shape, device="meta"))
    return seen


@pytest.mark.parametrize(
    ("options", "count"),
    [
        pytest.param({}, 31_030_658, id="2015 as in the paper"),
        pytest.param({"out_channels": 3}, 31_030_723, id="three classes"),
        pytest.param({"in_channels": 3}, 31_031_810, id="RGB"),
        pytest.param({"up_relu": True, "top_up_features": 128}, 31_100_354, id="2015 as released"),
        pytest.param({"padding": "same", "norm": "batch"}, 31_030_658 + 2 * 5_888, id="same, batch norm"),
        pytest.param({**PAPER_3D, "in_channels": 3, "out_channels": 3}, 19_069_955, id="2016 without batch norm"),
        pytest.param(
            {**PAPER_3D, "in_channels": 3, "out_channels": 3, "norm": "batch"}, 19_074_627, id="2016 with its affine"
        ),
    ],
)
def test_the_number_of_parameters_is_the_papers(options, count):
    assert parameters(on_meta(**options)) == count


def test_every_layer_of_figure_1_has_its_channels_and_size():
    down = [(64, 570), (64, 568), (128, 282), (128, 280), (256, 138), (256, 136), (512, 66), (512, 64)]
    bottom = [(1024, 30), (1024, 28)]
    up = [(512, 56), (512, 54), (512, 52), (256, 104), (256, 102), (256, 100)]
    up += [(128, 200), (128, 198), (128, 196), (64, 392), (64, 390), (64, 388)]
    seen = layers(on_meta(), (572, 572))
    assert seen == [(channels, size, size) for channels, size in [*down, *bottom, *up, (2, 388)]]
    assert len(seen) == 23  # "In total the network has 23 convolutional layers."


def test_figure_1_crops_its_skips_by_4_16_40_and_88_voxels_per_side():
    network, skips, ups = on_meta(), [], []
    for block in network.encoder[:-1]:
        block.register_forward_hook(lambda _module, _inputs, out: skips.append(out.shape[-1]))
    for up in network.ups:
        up.register_forward_hook(lambda _module, _inputs, out: ups.append(out.shape[-1]))
    network(torch.empty(1, 1, 572, 572, device="meta"))
    assert [(skip - up) / 2 for skip, up in zip(reversed(skips), ups, strict=True)] == [4, 16, 40, 88]


def test_every_layer_of_2016_has_its_channels_and_a_tile_of_132_132_116_gives_44_44_28():
    seen = layers(on_meta(**PAPER_3D, in_channels=3, out_channels=3), (132, 132, 116))
    down, up = [32, 64, 64, 128, 128, 256, 256, 512], [512, 256, 256, 256, 128, 128, 128, 64, 64]
    assert [channels for channels, *_ in seen] == [*down, *up, 3]
    assert seen[0] == (32, 130, 130, 114)
    assert seen[-1] == (3, 44, 44, 28)


def kinds(block):
    return [type(module).__name__.removesuffix("2d").removesuffix("3d") for module in block]


@pytest.mark.parametrize("norm", [None, "batch", "instance", "group"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_normalisation_stands_between_each_3x3_convolution_and_its_relu_and_nowhere_else(norm, spatial_dims):
    network = on_meta(spatial_dims=spatial_dims, features=4, levels=2, norm=norm, dropout=0.0, up_relu=True)
    names = {None: [], "batch": ["BatchNorm"], "instance": ["InstanceNorm"], "group": ["GroupNorm"]}[norm]
    for block in (*network.encoder, *network.decoder):
        assert kinds(block) == ["Conv", *names, "ReLU"] * 2
    for up in network.ups:
        assert kinds(up) == ["ConvTranspose", "ReLU"]


def test_weights_are_gaussian_with_the_papers_standard_deviation_and_biases_zero():
    torch.manual_seed(0)
    network, tested = UNet(features=16), Counter()
    for module in network.modules():
        if not isinstance(module, CONVS):
            continue
        assert not module.bias.any()
        n = module.weight.numel()
        # N incoming nodes; for the up-convolution the release's filler counts as here (Caffe's count / num)
        std = math.sqrt(2 / module.weight[0].numel())
        z = module.weight.double().flatten() / std
        # five standard errors: of the mean, of the standard deviation, of the kurtosis (3 for a Gaussian)
        assert abs(z.mean()) < 5 / math.sqrt(n)
        assert abs(z.square().mean().sqrt() - 1) < 5 / math.sqrt(2 * n)
        if n > 1000:
            assert abs(z.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
        tested[type(module)] += 1
    assert tested == {nn.Conv2d: 19, nn.ConvTranspose2d: 4}


def test_a_seed_fixes_the_weights_and_another_changes_them():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(UNet(features=2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


def test_dropout_closes_the_two_lowest_levels_of_the_contracting_path_only():
    network = on_meta()
    for level, block in enumerate(network.encoder):
        assert kinds(block) == ["Conv", "ReLU"] * 2 + ["Dropout"] * (level >= 3)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]
    assert not any(isinstance(module, nn.Dropout) for module in on_meta(dropout=0.0).modules())


def test_dropout_acts_in_training_only_and_the_skip_carries_it():
    torch.manual_seed(0)
    network, seen = UNet(levels=1, features=8, dropout=0.5), {}
    network.encoder[0].register_forward_hook(lambda _m, _i, out: seen.update(level=out.clone()))
    network.encoder[0][-2].register_forward_hook(lambda _m, _i, out: seen.update(relu=out.clone()))
    network.decoder[0].register_forward_pre_hook(lambda _m, inputs: seen.update(concat=inputs[0].clone()))
    image = torch.rand(1, 1, 20, 20)

    network.eval()
    assert torch.equal(network(image), network(image))
    assert torch.equal(seen["level"], seen["relu"])
    network.train()
    assert not torch.equal(network(image), network(image))
    kept = seen["level"] != 0
    assert torch.equal(seen["level"][kept], 2 * seen["relu"][kept])
    alive = seen["relu"] != 0
    assert 0.4 < kept[alive].double().mean() < 0.6  # thousands of draws at 0.5
    assert torch.equal(seen["concat"][:, 8:], seen["level"][:, :, 4:-4, 4:-4])


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("spatial_dims", "shape"), [(2, (32, 48)), (3, (16, 8, 24))])
def test_a_same_padded_network_answers_for_all_of_its_input(spatial_dims, shape, padding_mode):
    network = on_meta(
        spatial_dims=spatial_dims, levels=2, features=2, out_channels=3, padding="same", padding_mode=padding_mode
    )
    assert network(torch.empty(2, 1, *shape, device="meta")).shape == (2, 3, *shape)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 1, 572, 570), "input size 570 .* the nearest are 556 and 572"),
        ({}, (1, 1, 100, 188), "input size 100 .* the nearest are 188"),
        ({"padding": "same"}, (1, 1, 32, 40), "input size 40 .* the nearest are 32 and 48"),
        ({"padding": "same", "padding_mode": "reflect"}, (1, 1, 16, 32), "needs at least 32 voxels per axis"),
        ({}, (1, 3, 188, 188), r"takes \(batch, 1, \*2 axes\), got shape \(1, 3, 188, 188\)"),
        ({}, (1, 1, 188, 188, 188), "a 2D network with 1 input channels takes"),
        ({}, (1, 188, 188), "a 2D network"),
        ({"spatial_dims": 3, "levels": 3}, (1, 1, 92, 92, 96), "input size 96 .* the nearest are 92 and 100"),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_image_that_does_not_fit_is_refused_with_the_remedy(options, shape, message):
    network = on_meta(features=2, **options)
    with pytest.raises(ValueError, match=message):
        network(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    "options",
    [
        {"spatial_dims": 1},
        {"in_channels": 0},
        {"out_channels": 0},
        {"features": 0},
        {"levels": -1},
        {"padding": "full"},
        {"padding_mode": "circular"},
        {"norm": "layer"},
        {"dropout": 1.0},
        {"dropout": -0.1},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_an_option_that_no_network_has_is_refused_by_its_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        on_meta(**options)
