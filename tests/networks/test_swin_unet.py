import itertools
import math

import numpy as np
import pytest
import torch

from overtile.inferers import OverlapTileInferer
from overtile.networks import SwinUNet
from overtile.networks.patches import PatchExpanding, PatchMerging
from overtile.networks.swin_unet import DropPath
from overtile.networks.windows import WindowAttention, in_windows, of_windows

SMALL = {"image_size": 32, "patch": 2, "features": 4, "depths": (2, 2, 2), "heads": (1, 2, 2), "window": 4}


@pytest.fixture
def small():
    """Makes a small network in evaluation mode with lively weights, the same each time."""

    def make(**options):
        torch.manual_seed(0)
        network = SwinUNet(**{**SMALL, **options}).eval()
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        return network

    return make


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def dense(channels, out):
    return channels * out + out


def block(channels, heads, window=7):
    """Two normalisations, the attention with its biases, two dense layers."""
    attention = dense(channels, 3 * channels) + dense(channels, channels) + heads * (2 * window - 1) ** 2
    return 2 * 2 * channels + attention + dense(channels, 4 * channels) + dense(4 * channels, channels)


def merging(channels):
    return 2 * 4 * channels + 4 * channels * 2 * channels


def expanding(channels, out, factor=2):
    return channels * factor**2 * out + 2 * out


def test_the_number_of_parameters_is_that_of_the_authors_code_part_by_part():
    with torch.device("meta"):
        network = SwinUNet(in_channels=3, out_channels=9, image_size=224)
    encoder, pairs = network.encoder, [2 * block(96 * 2**level, 3 * 2**level) for level in range(4)]
    assert pairs == [224_694, 891_756, 3_552_984, 14_183_856]

    assert parameters(encoder.patch_embed) == dense(3 * 4 * 4, 96) + 2 * 96 == 4_896
    assert [parameters(layer.blocks) for layer in encoder.layers] == pairs
    merged = [merging(96), merging(192), merging(384)]
    assert [parameters(layer.downsample) for layer in encoder.layers] == [*merged, 0]
    assert sum(merged) == 1_553_664
    assert parameters(encoder.norm) == 2 * 768
    assert parameters(encoder) == 4_896 + sum(pairs) + 1_553_664 + 1_536 == 20_413_386

    ups = [expanding(768, 384), expanding(384, 192), expanding(192, 96)]
    assert [parameters(up) for up in network.ups] == ups == [1_180_416, 295_296, 73_920]
    joins = [dense(2 * 384, 384), dense(2 * 192, 192), dense(2 * 96, 96)]
    assert [parameters(join) for join in network.joins] == joins == [295_296, 73_920, 18_528]
    assert [parameters(blocks) for blocks in network.decoder] == pairs[2::-1]  # as on the way down
    assert parameters(network.norm) == 2 * 96
    assert parameters(network.final) == expanding(96, 96, factor=4) == 147_648
    assert parameters(network.head) == 9 * 96
    decoder = sum(ups) + sum(joins) + sum(pairs[:3]) + 192 + 147_648 + 864
    assert decoder == 6_755_514
    assert parameters(network) == 20_413_386 + 6_755_514 == 27_168_900


def test_a_gray_image_passes_as_three_equal_channels_and_needs_no_other_parameters(small):
    gray, color = small(in_channels=1), small(in_channels=3)
    assert parameters(gray) == parameters(color)
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(gray(image), color(image.repeat(1, 3, 1, 1)))


def test_every_level_has_the_size_and_the_channels_of_the_authors_at_224():
    with torch.device("meta"):
        network = SwinUNet(out_channels=9).eval()
    seen = []
    for part in (*network.encoder.layers, *network.ups, *network.decoder, network.final):
        part.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:])))
    assert network(torch.empty(2, 1, 224, 224, device="meta")).shape == (2, 9, 224, 224)
    down = [(28, 28, 192), (14, 14, 384), (7, 7, 768), (7, 7, 768)]
    up = [(size, size, channels) for size, channels in ((14, 384), (28, 192), (56, 96)) for _ in range(2)]
    assert seen == [*down, *up, (224, 224, 96)]


def test_every_second_block_is_shifted_by_half_a_window_but_where_one_window_is_all():
    with torch.device("meta"):
        network = SwinUNet()
    assert [[one.attn.shift for one in layer.blocks] for layer in network.encoder.layers] == [[0, 3]] * 3 + [[0, 0]]
    assert [[one.attn.shift for one in blocks] for blocks in network.decoder] == [[0, 3]] * 3


def test_branches_are_left_out_the_more_often_the_deeper_and_as_often_on_the_way_up():
    with torch.device("meta"):
        network = SwinUNet(drop_path=0.14)
    down = [one.drop_path.probability for layer in network.encoder.layers for one in layer.blocks]
    assert down == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14])
    up = [[one.drop_path.probability for one in blocks] for blocks in network.decoder]
    assert up == [pytest.approx([0.08, 0.1]), pytest.approx([0.04, 0.06]), pytest.approx([0.0, 0.02])]


def slow_attention(attention, tokens):
    """Token by token: each looks at those of its window that are its neighbours in the map too, not across borders."""
    size, channels = tokens.shape[1], tokens.shape[3]
    window, shift, heads = attention.window, attention.shift, attention.heads
    width = channels // heads
    places = [(row, column) for row in range(size) for column in range(size)]
    out = torch.zeros_like(tokens)

    def window_of(place):
        return tuple((axis - shift) % size // window for axis in place)

    def region_of(place):
        """Which side of the cut through the windows that the roll closes: those cut apart by the border differ."""
        return tuple(axis < shift for axis in place)

    for here in places:
        q, _, _ = attention.qkv(tokens[0][here]).reshape(3, heads, width)
        scores, values = [], []
        for there in places:
            if window_of(there) != window_of(here) or region_of(there) != region_of(here):
                continue
            assert all(abs(a - b) < window for a, b in zip(here, there, strict=True))
            _, k, v = attention.qkv(tokens[0][there]).reshape(3, heads, width)
            down, right = (a - b + window - 1 for a, b in zip(here, there, strict=True))
            bias = attention.relative_position_bias_table[down * (2 * window - 1) + right]
            scores.append((q * k).sum(1) / math.sqrt(width) + bias)
            values.append(v)
        parts = torch.stack(scores).softmax(0)[..., None] * torch.stack(values)
        out[0][here] = attention.proj(parts.sum(0).flatten())
    return out


def lively_attention(size, window, shifted, channels=6, heads=2):
    torch.manual_seed(0)
    attention = WindowAttention(channels, heads, size, window, shifted).double()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    return attention


CASES = [(6, 3, False), (6, 3, True), (8, 4, True), (8, 2, True), (10, 5, True), (3, 3, True), (3, 7, True)]


@pytest.mark.parametrize(("size", "window", "shifted"), CASES, ids=str)
@torch.no_grad()
def test_attention_within_windows_equals_loops_over_tokens(size, window, shifted):
    attention = lively_attention(size, window, shifted)
    tokens = torch.randn(1, size, size, 6, dtype=torch.float64)
    torch.testing.assert_close(attention(tokens), slow_attention(attention, tokens))


@pytest.mark.parametrize(
    ("place", "shifted", "rows", "columns"),
    [
        pytest.param((0, 0), False, (0, 4), (0, 4), id="plain-corner"),
        pytest.param((5, 6), False, (4, 8), (4, 8), id="plain-inside"),
        pytest.param((5, 6), True, (2, 6), (6, 8), id="shifted: two columns at the right border"),
        pytest.param((3, 3), True, (2, 6), (2, 6), id="shifted: the middle"),
        pytest.param((0, 1), True, (0, 2), (0, 2), id="shifted: the corner sees none of the other borders"),
        pytest.param((7, 7), True, (6, 8), (6, 8), id="shifted: the opposite corner"),
    ],
)
@torch.no_grad()
def test_a_token_changes_those_of_its_window_and_no_others(place, shifted, rows, columns):
    attention = lively_attention(8, 4, shifted)
    tokens = torch.randn(2, 8, 8, 6, dtype=torch.float64)
    changed = tokens.clone()
    changed[(1, *place)] += 1
    differ = (attention(tokens) != attention(changed)).any(-1)
    expected = torch.zeros(2, 8, 8, dtype=torch.bool)
    expected[1, slice(*rows), slice(*columns)] = True
    assert torch.equal(differ, expected)


def test_windows_are_put_back_where_they_came_from():
    tokens = torch.arange(2 * 6 * 6 * 2).reshape(2, 6, 6, 2)
    windows = in_windows(tokens, 3)
    assert windows.shape == (2, 4, 9, 2)
    assert torch.equal(windows[1, 2], tokens[1, 3:, :3].reshape(9, 2))
    assert torch.equal(of_windows(windows, 3, 6), tokens)


def bare(module):
    """A merging or expanding that only moves channels."""
    module.norm = torch.nn.Identity()
    for name in ("reduction", "expand"):
        if hasattr(module, name):
            setattr(module, name, torch.nn.Identity())
    return module


def test_merging_puts_four_tokens_into_one_the_first_column_first_as_in_the_release():
    tokens = torch.rand(2, 4, 6, 3)
    corners = [tokens[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert torch.equal(bare(PatchMerging(3))(tokens), torch.cat(corners, dim=-1))


@pytest.mark.parametrize("factor", [2, 4])
def test_expanding_lays_a_block_of_tokens_row_by_row(factor):
    tokens = torch.rand(2, 4, 6, factor**2 * 3)
    expanded = bare(PatchExpanding(tokens.shape[-1], 3, factor))(tokens)
    assert expanded.shape == (2, 4 * factor, 6 * factor, 3)
    for row in range(factor):
        for column in range(factor):
            first = 3 * (row * factor + column)
            assert torch.equal(expanded[:, row::factor, column::factor], tokens[..., first : first + 3])


def test_expanding_undoes_merging_of_the_map_turned_over():
    """The authors merge column by column and expand row by row: so the one undoes the other's transpose."""
    tokens = torch.rand(2, 4, 6, 3)
    merge, expand = bare(PatchMerging(3)), bare(PatchExpanding(12, 3))
    assert torch.equal(expand(merge(tokens.transpose(1, 2)).transpose(1, 2)), tokens)


def test_a_left_out_branch_is_zero_for_whole_images_and_the_others_make_up_for_it():
    torch.manual_seed(0)
    path = DropPath(0.25)
    branch = torch.ones(4000, 2, 2, 1)
    dropped = path.train()(branch)
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(dropped.amax((1, 2, 3)), dropped.amin((1, 2, 3)))
    assert abs((dropped > 0).double().mean() - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 4000)
    assert path.eval()(branch) is branch
    assert DropPath(0.0).train()(branch) is branch


def test_gradients_reach_all_parameters(small):
    network = small(drop_path=0.0).train()
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not [name for name, parameter in network.named_parameters() if not parameter.grad.any()]


def test_chance_acts_in_training_only(small):
    network, image = small(drop_path=0.5), torch.rand(4, 1, 32, 32)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))
    network = small(drop_path=0.0).train()
    assert torch.equal(network(image), network(image))


def test_weights_begin_as_the_authors():
    torch.manual_seed(0)
    network = SwinUNet(features=24, heads=(1, 2, 4, 8))
    attention = network.encoder.layers[1].blocks[1].attn
    for weight in (attention.qkv.weight, attention.relative_position_bias_table, network.ups[0].expand.weight):
        assert abs(weight.std() / 0.02 - 1) < 5 / math.sqrt(2 * weight.numel())
        assert abs(weight.mean()) < 5 * 0.02 / math.sqrt(weight.numel())
    assert not attention.qkv.bias.any()


def test_a_few_training_steps_find_bright_boxes(losses_on_bright_boxes):
    torch.manual_seed(0)
    network = SwinUNet(**SMALL, drop_path=0.0).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = losses_on_bright_boxes(network, optimizer, steps=40)
    assert losses[-1] < 0.5 * losses[0]


def test_a_traced_and_an_exported_network_answer_as_the_network(small, same_when_traced_and_exported):
    same_when_traced_and_exported(small(), (2, 1, 32, 32))


def test_onnx_runtime_answers_as_the_network_for_batches_of_any_size(small, same_in_onnx_runtime):
    same_in_onnx_runtime(small(), (1, 1, 32, 32), [(3, 1, 32, 32)], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 30), (32, 32), (70, 33)], ids=str)
@pytest.mark.parametrize(
    ("options", "size", "margin"), [({}, 32, 4), ({"image_size": 56, "window": 7}, 56, 7)], ids=["32", "56"]
)
def test_an_image_of_any_shape_is_tiled_and_the_middle_of_each_tile_is_kept(small, options, size, margin, shape):
    network, image, kept = small(**options), torch.rand(1, 1, *shape), size - 2 * margin
    answer = OverlapTileInferer()(image, network)
    around = [(0, 0), (0, 0), (margin, size), (margin, size)]
    mirrored = torch.from_numpy(np.pad(image.numpy(), around, mode="reflect"))
    with torch.no_grad():
        for row, column in itertools.product(*(range(0, axis, kept) for axis in shape)):
            middle = network(mirrored[..., row : row + size, column : column + size])[
                ..., margin:-margin, margin:-margin
            ]
            here = answer[..., row : row + kept, column : column + kept]
            torch.testing.assert_close(here, middle[..., : here.shape[2], : here.shape[3]])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 64, 64), r"takes images of 32 x 32 voxels only, its image_size, got \(64, 64\); cut others into tiles"),
        ((1, 3, 32, 32), "with 1 input channels takes"),
        ((1, 1, 32, 32, 32), "takes .batch, 1"),
    ],
    ids=str,
)
def test_an_image_that_does_not_fit_is_refused_with_the_remedy(small, shape, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 36}, r"image_size must be a multiple of patch \* 2 \*\* \(levels - 1\) = 8"),
        ({"image_size": 40}, "whole windows of 4 tokens .* multiple of 32, or .* windows that fit: 5, 10, 20$"),
        ({"image_size": 224, "patch": 4, "window": 8}, "windows that fit: 2, 7, 14, 28, 56$"),
        ({"depths": (2, 2)}, "depths and heads"),
        ({"depths": (2,), "heads": (1,)}, "two or more levels"),
        ({"depths": (2, 0, 2)}, "depths"),
        ({"heads": (1, 3, 2)}, "heads must divide"),
        ({"window": 1}, "window must be at least 2"),
        ({"out_channels": 0}, "out_channels"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
    ids=str,
)
def test_an_option_that_no_network_has_is_refused_by_its_name(options, message):
    with pytest.raises(ValueError, match=message):
        SwinUNet(**{**SMALL, **options})
