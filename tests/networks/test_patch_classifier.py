import pytest
import torch
import torch.nn.functional as F
from torch import nn

from overtile.inferers import OverlapTileInferer
from overtile.networks import PatchClassifier

# (dims, kernels, size of the last map, shape of the image): the answers lie on all places of the poolings' grid
CASES = {
    "one convolution": (2, (2,), 2, (9, 12)),
    "two convolutions": (2, (2, 3), 2, (20, 17)),
    "three convolutions": (2, (4, 5, 2), 1, (44, 33)),
    "even and odd kernels": (2, (2, 4, 1), 3, (46, 47)),
    "3D": (3, (2, 2), 1, (14, 9, 11)),
}
PARAMETERS = [pytest.param(*case, id=name) for name, case in CASES.items()]


def classifier(dims, kernels, last_size, **options):
    torch.manual_seed(0)
    network = PatchClassifier(dims, 2, 3, features=5, kernels=kernels, hidden=7, last_size=last_size, **options)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


def test_the_layers_of_n4_have_the_papers_sizes_and_219290_parameters():
    network, seen = PatchClassifier(), []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:])))
    network.classify(torch.zeros(1, 1, 95, 95))
    maps = [(48, size, size) for size in (92, 46, 42, 21, 18, 9, 6, 3)]
    assert seen == [*maps, (200, 1, 1), (2, 1, 1)]
    layers = [(16, 48), (25 * 48, 48), (16 * 48, 48), (16 * 48, 48), (9 * 48, 200), (200, 2)]
    assert sum(p.numel() for p in network.parameters()) == sum((a + 1) * b for a, b in layers) == 219_290
    assert (network.patch_size, network.margin) == (95, 47)


@torch.no_grad()
def test_n4_at_once_answers_for_every_voxel_as_n4_slid_over_the_image():
    torch.manual_seed(0)
    network = PatchClassifier().eval()
    image = torch.randn(1, 1, 95 + 16, 95 + 2)  # 17 x 3 voxels: beyond a step of the four poolings
    dense, slid = network(image), network.slide(image)
    assert dense.shape == (1, 2, 17, 3)
    assert slid.std() > 0.01
    torch.testing.assert_close(dense, slid, rtol=0.0, atol=1e-5 * float(slid.abs().max()))  # float32, sums of 1,200


@pytest.mark.parametrize(("dims", "kernels", "last_size", "shape"), PARAMETERS)
@torch.no_grad()
def test_all_voxels_at_once_are_the_answers_of_the_patches_around_them(dims, kernels, last_size, shape):
    network = classifier(dims, kernels, last_size)
    image = torch.randn(2, 2, *shape, dtype=torch.float64)
    dense = network(image)
    size = network.patch_size
    assert dense.shape == (2, 3, *(length - size + 1 for length in shape))
    assert min(dense.shape[2:]) > 1
    torch.testing.assert_close(dense, network.slide(image, patches=50))
    corner = image[(slice(1, 2), slice(None), *(slice(length - size, length) for length in shape))]
    torch.testing.assert_close(network.classify(corner)[0], dense[(1, slice(None), *[-1] * dims)])


@torch.no_grad()
def test_it_is_the_network_with_dilated_convolutions_and_poolings():
    network = classifier(2, (2, 3, 2), 2)
    image = x = torch.randn(1, 2, 50, 41, dtype=torch.float64)
    dilation = 1
    for conv, _relu in network.convs:
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, dilation=dilation))
        x = F.max_pool2d(x, 2, stride=1, dilation=dilation)
        dilation *= 2
    first, _relu, second = network.head
    x = second(F.relu(F.conv2d(x, first.weight, first.bias, dilation=dilation)))
    torch.testing.assert_close(network(image), x)


@pytest.mark.parametrize(("dims", "kernels", "last_size", "shape"), PARAMETERS)
def test_training_at_once_has_the_gradient_of_training_on_all_patches(dims, kernels, last_size, shape):
    network = classifier(dims, kernels, last_size)
    image = torch.randn(1, 2, *shape, dtype=torch.float64)
    gradients = []
    for run in (network, network.slide):
        network.zero_grad()
        logits = run(image)
        logits.logsumexp(1).mul(torch.linspace(0, 1, logits.shape[-1])).sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    assert all(gradient.any() for gradient in gradients[0])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_an_answer_does_not_depend_on_where_the_tile_begins():
    network = classifier(2, (4, 5, 2), 1)
    image = torch.randn(1, 2, 60, 50, dtype=torch.float64)
    whole = network(image)
    for top, left in ((0, 1), (3, 0), (7, 10)):
        part = network(image[..., top : top + 40, left : left + 35])
        torch.testing.assert_close(part, whole[..., top : top + part.shape[2], left : left + part.shape[3]])


def test_torchscript_of_it_answers_the_same_at_all_sizes(same_when_scripted):
    same_when_scripted(classifier(2, (2, 3), 2), [(2, 2, 13, 20), (2, 2, 21, 17)])


@pytest.mark.parametrize("dims", [2, 3])
def test_onnx_of_it_answers_the_same_at_all_sizes(dims, same_in_onnx_runtime):
    shapes = [(2, 2, *shape[:dims]) for shape in ((9, 9, 9), (11, 14, 10))]
    same_in_onnx_runtime(classifier(dims, (2, 2), 1).float(), (1, 2, *(9, 9, 9)[:dims]), shapes, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "shape", "message"),
    [
        ("forward", (1, 2, 12, 20), r"at least the 13 voxels .* got \(12, 20\); mirror it by 6 voxels"),
        ("slide", (1, 2, 20, 12), "at least the 13 voxels"),
        ("classify", (1, 2, 13, 14), r"a patch has 13 voxels along every axis, got \(13, 14\)"),
        ("forward", (1, 1, 20, 20), r"takes \(batch, 2, \*2 axes\), got shape \(1, 1, 20, 20\)"),
        ("classify", (2, 13, 13), "a 2D network with 2 input channels"),
    ],
    ids=["small", "small, slid", "no patch", "channels", "axes"],
)
def test_an_image_that_does_not_fit_is_refused_with_the_remedy(call, shape, message):
    with pytest.raises(ValueError, match=message):
        getattr(classifier(2, (2, 3), 2), call)(torch.empty(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    "options",
    [
        {"spatial_dims": 1},
        {"in_channels": 0},
        {"out_channels": 0},
        {"features": 0},
        {"kernels": ()},
        {"kernels": (4, 0)},
        {"kernels": (5, 5, 4, 4)},
        {"hidden": 0},
        {"last_size": 0},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_an_option_that_no_network_has_is_refused_by_its_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        PatchClassifier(**options)


@pytest.mark.parametrize("output_size", [None, 1, 16, 33, (7, 30)], ids=str)
def test_an_image_in_tiles_is_answered_as_at_once(output_size):
    network = PatchClassifier(features=3, kernels=(4, 3), hidden=4, last_size=2).double().eval()
    image = torch.rand(1, 1, 41, 37, dtype=torch.float64, generator=torch.manual_seed(5))
    tiled = OverlapTileInferer(output_size)(image, network)
    margin = network.margin
    mirrored = F.pad(image, [margin] * 4, mode="reflect")
    torch.testing.assert_close(tiled, network(mirrored).detach(), rtol=0, atol=1e-12)
