import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from overtile.inferers import OverlapTileInferer
from overtile.networks import TransUNet
from overtile.networks.attention import attend
from overtile.networks.transunet import StandardizedConv2d, standardized

SMALL = {"image_size": 32, "features": 4, "units": (1, 2, 1), "hidden": 8, "layers": 2, "heads": 2, "mlp": 12}
SMALL["decoder"] = (8, 8, 4, 4, 3)


@pytest.fixture
def small():
    """Makes a small network in evaluation mode, the same each time."""

    def make(**options):
        torch.manual_seed(0)
        return TransUNet(**{**SMALL, **options}).eval()

    return make


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def unit(channels, middle, out, project=False):
    """1x1, 3x3 and 1x1 convolution without bias, each with a scale and a shift per channel; perhaps a fourth."""
    convs = channels * middle + 9 * middle**2 + middle * out + project * channels * out
    return convs + 2 * (2 * middle + out) + project * 2 * out


def dense(channels, out):
    return channels * out + out


def two_convs(channels, out):
    """3x3 convolutions without bias, each with batch norm."""
    return 9 * channels * out + 9 * out * out + 2 * 2 * out


def test_the_number_of_parameters_is_that_of_the_authors_code_part_by_part():
    with torch.device("meta"):
        network = TransUNet(in_channels=3, out_channels=9, image_size=224)
    encoder, resnet = network.encoder, network.encoder.resnet

    assert parameters(resnet.root) == 3 * 64 * 7 * 7 + 2 * 64 == 9_536
    stages = [
        unit(64, 64, 256, project=True) + 2 * unit(256, 64, 256),
        unit(256, 128, 512, project=True) + 3 * unit(512, 128, 512),
        unit(512, 256, 1024, project=True) + 8 * unit(1024, 256, 1024),
    ]
    assert [parameters(stage) for stage in resnet.stages] == stages == [215_808, 1_219_584, 10_449_920]
    assert parameters(resnet) == 11_894_848
    assert parameters(encoder.embedding) == dense(1024, 768) == 787_200
    assert encoder.position.numel() == 14 * 14 * 768 == 150_528
    layer = 4 * dense(768, 768) + dense(768, 3072) + dense(3072, 768) + 2 * 2 * 768
    assert [parameters(one) for one in encoder.layers] == [layer] * 12
    assert layer == 7_087_872
    assert parameters(encoder.norm) == 2 * 768

    assert parameters(network.bottom) == 9 * 768 * 512 + 2 * 512 == 3_539_968
    steps = [two_convs(512 + 512, 256), two_convs(256 + 256, 128), two_convs(128 + 64, 64), two_convs(64, 16)]
    assert [parameters(step) for step in network.decoder] == steps == [2_950_144, 737_792, 147_712, 11_584]
    assert parameters(network.head) == 9 * 16 * 9 + 9 == 1_305

    total = 11_894_848 + 787_200 + 150_528 + 12 * 7_087_872 + 1_536 + 3_539_968 + sum(steps) + 1_305
    assert parameters(network) == total == 105_277_081


def test_a_gray_image_passes_as_three_equal_channels_and_needs_no_other_parameters(small):
    gray, color = small(in_channels=1), small(in_channels=3)
    assert gray.state_dict().keys() == color.state_dict().keys()
    assert parameters(gray) == parameters(color)
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(gray(image), color(image.repeat(1, 3, 1, 1)))


def test_two_or_four_channels_pass_as_they_are(small):
    for channels in (2, 4):
        assert small(in_channels=channels).encoder.resnet.root[0].in_channels == channels


def test_every_map_has_the_size_and_the_channels_of_the_authors_at_224():
    with torch.device("meta"):
        network = TransUNet(out_channels=9).eval()
    seen = []
    for part in (network.encoder.resnet.root, *network.encoder.resnet.stages, network.bottom, *network.decoder):
        part.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:3])))
    answer = network(torch.empty(2, 1, 224, 224, device="meta"))
    down = [
        (64, 112),
        (256, 55),
        (512, 28),
        (1024, 14),
    ]  # 55: the pooling is not padded
    assert seen == [*down, (512, 14), (256, 28), (128, 56), (64, 112), (16, 224)]
    assert answer.shape == (2, 9, 224, 224)


@pytest.mark.parametrize("size", [32, 48, 64, 80])
def test_the_answer_is_as_large_as_the_image_for_every_multiple_of_16(small, size):
    assert small(image_size=size)(torch.rand(1, 1, size, size)).shape == (1, 2, size, size)


def test_standardised_filters_have_mean_0_and_variance_1_but_for_the_authors_epsilon():
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64) * 0.1 + 4
    filters = standardized(weight).flatten(1)
    variance = weight.flatten(1).var(1, correction=0)
    torch.testing.assert_close(filters.mean(1), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(filters.var(1, correction=0), variance / (variance + 1e-5))
    assert (variance / (variance + 1e-5) > 0.99).all()


def test_a_standardised_convolution_does_not_see_a_shift_or_a_scale_of_its_filters():
    torch.manual_seed(0)
    conv, other = (StandardizedConv2d(3, 4, 3, stride=2, padding=1, bias=False) for _ in range(2))
    with torch.no_grad():
        other.weight.copy_(100 * conv.weight + 7)
    image = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(conv(image), other(image), atol=2e-3, rtol=0)  # 1e-5 weighs less where filters are large
    assert not torch.allclose(F.conv2d(image, conv.weight, None, 2, 1), F.conv2d(image, other.weight, None, 2, 1))


def test_every_convolution_of_the_resnet_is_standardised_and_none_of_the_decoder(small):
    network = small()
    assert {type(m) for m in network.encoder.resnet.modules() if isinstance(m, nn.Conv2d)} == {StandardizedConv2d}
    assert {type(m) for m in network.decoder.modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}


def test_attention_equals_loops_over_heads_and_tokens():
    torch.manual_seed(0)
    heads, count, width = 3, 5, 4
    qkv = torch.randn(2, count, 3 * heads * width, dtype=torch.float64)
    bias = torch.randn(heads, count, count, dtype=torch.float64)
    slow = torch.zeros(2, count, heads * width, dtype=torch.float64)
    for item in range(2):
        for head in range(heads):
            q, k, v = (qkv[item, :, (part * heads + head) * width :][:, :width] for part in range(3))
            for token in range(count):
                scores = [float(q[token] @ k[other]) / math.sqrt(width) for other in range(count)]
                powers = [math.exp(score + float(bias[head, token, other])) for other, score in enumerate(scores)]
                for other in range(count):
                    slow[item, token, head * width :][:width] += powers[other] / sum(powers) * v[other]
    torch.testing.assert_close(attend(qkv, heads, bias), slow)
    assert not torch.allclose(attend(qkv, heads), slow)


def test_one_voxel_reaches_every_voxel_of_the_answer_in_inference(small):
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    network = small(layers=1).double()
    changed = image.clone()
    changed[0, 0, 3, 5] += 1
    assert ((network(image) - network(changed)).abs() > 0).all()


def test_gradients_reach_all_parameters(small):
    network = small().train()
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    dead = [name for name, p in network.named_parameters() if not p.grad.any()]
    # a constant added to all keys changes no soft-max; all else learns
    assert dead == []
    qkv = network.encoder.layers[0].qkv.bias.grad
    assert qkv[8:16].abs().max() < 1e-3 * qkv[16:].abs().max()


def test_dropout_acts_in_training_only(small):
    network, image = small(dropout=0.5), torch.rand(2, 1, 32, 32)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))
    network = small(dropout=0.0).train()
    assert torch.equal(network(image), network(image))


def test_a_few_training_steps_find_bright_boxes(small, losses_on_bright_boxes):
    network = small(dropout=0.0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = losses_on_bright_boxes(network, optimizer, steps=20)
    assert losses[-1] < 0.5 * losses[0]


def test_a_traced_and_an_exported_network_answer_as_the_network(small, same_when_traced_and_exported):
    same_when_traced_and_exported(small(), (2, 1, 32, 32))


def test_onnx_runtime_answers_as_the_network_for_batches_of_any_size(small, same_in_onnx_runtime):
    same_in_onnx_runtime(small(), (1, 1, 32, 32), [(3, 1, 32, 32)], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 30), (64, 64), (70, 33)], ids=str)
@pytest.mark.parametrize("size", [48, 64, 224])
def test_an_image_of_any_shape_is_cut_into_tiles_whose_patches_lie_on_one_grid(small, size, shape):
    network = small(image_size=size)
    geometry, read = network.geometry, []
    network.register_forward_pre_hook(lambda _, inputs: read.append(tuple(inputs[0].shape[2:])))
    assert OverlapTileInferer()(torch.rand(1, 1, *shape), network).shape == (1, 2, *shape)
    assert set(read) == {(size, size)}
    assert geometry.stride(1) % 16 == 0
    assert geometry.stride(1) == size - 2 * geometry.margin


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 48, 48), r"takes images of 32 x 32 voxels only, its image_size, got \(48, 48\); cut others into tiles"),
        ((1, 1, 32, 48), "32 x 32 voxels only"),
        ((1, 3, 32, 32), "with 1 input channels takes"),
        ((1, 32, 32), "takes .batch, 1"),
    ],
    ids=str,
)
def test_an_image_that_does_not_fit_is_refused_with_the_remedy(small, shape, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(shape))


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 40},
        {"image_size": 16},
        {"units": (3, 4)},
        {"units": (0, 1, 1)},
        {"decoder": (8, 8)},
        {"out_channels": 0},
        {"heads": 3},
        {"layers": 0},
        {"dropout": 1.0},
    ],
    ids=str,
)
def test_an_option_that_no_network_has_is_refused_by_its_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        TransUNet(**{**SMALL, **options})
