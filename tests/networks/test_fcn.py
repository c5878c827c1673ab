import pytest
import torch
import torch.nn.functional as F
from torch import nn

from overtile.inferers import OverlapTileInferer
from overtile.losses import WeightedCrossEntropyLoss
from overtile.networks import FCN

SCORES = ("score", "score_pool4", "score_pool3")


def small(dims=2, in_channels=1, classes=2, features=2, hidden=6, **options):
    """A small network in evaluation mode and float64 whose scores are not zero any more."""
    torch.manual_seed(0)
    network = FCN(dims, in_channels, classes, features=features, hidden=hidden, **options)
    for name in SCORES:
        for parameter in getattr(network, name).parameters():
            nn.init.normal_(parameter)
    return network.double().eval()


def count(module, trainable=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def test_the_number_of_parameters_is_that_of_vgg_16_and_of_the_scores():
    with torch.device("meta"):
        network = FCN()
    vgg = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    vgg += [(256, 512), *[(512, 512)] * 5]
    assert count(network.stages) == sum(9 * a * b + b for a, b in vgg) == 14_714_688
    assert count(network.classifier) == (49 * 512 + 1) * 4096 + (4096 + 1) * 4096 == 119_545_856
    assert [count(getattr(network, name)) for name in SCORES] == [(n + 1) * 21 for n in (4096, 512, 256)]
    ups = [network.up_score, network.up_pool4, network.up_pool3]
    assert [count(up) for up in ups] == [21 * 21 * 4 * 4, 21 * 21 * 4 * 4, 21 * 21 * 16 * 16]
    assert count(network) == 134_489_759
    assert count(network, trainable=True) == 134_489_759 - 112_896  # "the final layer is fixed to bilinear"


def test_the_stages_have_the_sizes_and_channels_of_vgg_16():
    with torch.device("meta"):
        network, seen = FCN(), []
    for stage in network.stages:
        stage.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:])))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert seen == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]


@pytest.mark.parametrize("shape", [(1, 1), (31, 33), (32, 64), (500, 375), (97, 95)], ids=str)
def test_it_answers_for_all_of_an_image_of_any_size(shape):
    with torch.device("meta"):
        network = FCN(features=1, hidden=1)
    assert network(torch.empty(2, 3, *shape, device="meta")).shape == (2, 21, *shape)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_up_samplings_begin_as_linear_interpolation_of_each_class(dims):
    network = small(dims, classes=3)
    scores = torch.randn(1, 3, *(6, 5, 4)[:dims], dtype=torch.float64)
    inside = lambda x, factor: x[(..., *[slice(factor, -factor)] * dims)]  # noqa: E731  # beyond the border are zeros
    for up, factor in ((network.up_score, 2), (network.up_pool4, 2), (network.up_pool3, 8)):
        expected = F.interpolate(scores, scale_factor=factor, mode=("bilinear", "trilinear")[dims - 2])
        torch.testing.assert_close(inside(up(scores), factor), inside(expected, factor), check_dtype=False)


@torch.no_grad()
def test_scores_of_three_depths_are_added():
    network, image = small(), torch.randn(1, 1, 70, 90, dtype=torch.float64)
    together, alone = network(image), []
    for kept in SCORES:
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for name in SCORES:
            for parameter in getattr(network, name).parameters():
                parameter.mul_(float(name == kept))
        alone.append(network(image))
        network.load_state_dict(state)
    assert all(part.std() > 1e-3 for part in alone)
    torch.testing.assert_close(sum(alone), together)


@torch.no_grad()
def test_scores_lie_on_the_image_without_an_offset():
    """Where every kernel is its own mirror image, the mirrored image has the mirrored answer."""
    network, image = small(), torch.randn(1, 1, 64, 96, dtype=torch.float64)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.add_(module.weight.flip(2)).add_(module.weight.flip(3))
    for axis in (2, 3):
        torch.testing.assert_close(network(image.flip(axis)), network(image).flip(axis))


def test_a_new_network_is_undecided_and_learns():
    torch.manual_seed(0)
    network, loss = FCN(2, 1, 2, features=8, hidden=16, dropout=0.0), WeightedCrossEntropyLoss()
    label = torch.zeros(1, 1, 60, 70)
    label[..., 16:40, 20:50] = 1
    image = label + 0.3 * torch.randn(label.shape)
    assert not network(image).any()  # "we zero-initialize the class scoring convolution"
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 0.003)
    fixed = network.up_pool3.weight.clone()
    for _ in range(40):
        optimizer.zero_grad()
        energy = loss(network(image), label)
        energy.backward()
        optimizer.step()
    assert energy < 0.2
    assert torch.equal(network.up_pool3.weight, fixed)


@pytest.mark.parametrize(("dims", "shape"), [(2, (64, 65)), (3, (32, 33, 32))], ids=["2D", "3D"])
def test_the_gradient_reaches_every_parameter_but_the_last_up_sampling(dims, shape):
    network = small(dims, 2, 3, features=4, hidden=16).train()
    logits = network(torch.randn(2, 2, *shape, dtype=torch.float64))
    (logits * torch.randn_like(logits)).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["up_pool3.weight"]


def test_dropout_closes_both_layers_that_were_fully_connected():
    network, image = small(hidden=32), torch.randn(1, 1, 32, 32, dtype=torch.float64)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))
    assert [module.p for module in network.classifier if isinstance(module, nn.Dropout)] == [0.5, 0.5]
    assert torch.equal(*(small(dropout=0.0).train()(image) for _ in range(2)))


@torch.no_grad()
def test_any_tiling_equals_one_pass():
    """In float64, where the rounding is far below what the farthest voxels change."""
    network = small(features=2)
    image = torch.randn(1, 1, 700, 40, dtype=torch.float64)
    padded = F.pad(image, (0, 24, 0, 4), mode="reflect")  # to 704 x 64
    expected = network(padded)[..., :700, :40]
    for size in (32, (100, 32)):
        tiled = OverlapTileInferer(size)(image, network)
        torch.testing.assert_close(tiled, expected, rtol=0.0, atol=1e-11 * float(expected.abs().max()))


def test_the_margin_is_what_a_logit_sees_rounded_up_to_the_step():
    network = small(features=1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            nn.init.zeros_(module.bias)
    for stage in network.stages:
        stage[-1] = nn.AvgPool2d(2)  # a maximum passes a gradient to one of its voxels only
    furthest = [0, 0]
    for place in range(320, 352):
        image = torch.ones(1, 1, 32, 672, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(image)[..., place].sum(), image)
        seen = gradient.abs().sum((0, 1, 2)).nonzero()
        furthest = [max(furthest[0], place - int(seen.min())), max(furthest[1], int(seen.max()) - place)]
    assert furthest == [245, 245]
    assert (network.geometry.step, network.geometry.margin, network.geometry.loss) == (32, 256, 0)


def test_torchscript_of_it_answers_the_same_at_all_sizes(same_when_scripted):
    same_when_scripted(small(), [(1, 1, 33, 64), (1, 1, 20, 70)])


@pytest.mark.parametrize("dims", [2, 3])
def test_onnx_of_it_answers_the_same_at_all_sizes(dims, same_in_onnx_runtime):
    shapes = [(2, 1, *shape[:dims]) for shape in ((32, 64, 32), (40, 33, 20))]
    same_in_onnx_runtime(small(dims).float(), (1, 1, *(32, 64, 32)[:dims]), shapes, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 1, 32), (1, 1, 32, 32, 32)], ids=str)
def test_an_image_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"takes \(batch, 1, \*2 axes\), got shape"):
        small()(torch.empty(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    "options",
    [
        {"spatial_dims": 1},
        {"in_channels": 0},
        {"out_channels": 0},
        {"features": 0},
        {"hidden": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_an_option_that_no_network_has_is_refused_by_its_name(options):
    (name,) = options
    with torch.device("meta"), pytest.raises(ValueError, match=name):
        FCN(**options)
