"""What a pass computes: compared with a second, plain implementation, compiled passes, and the gradient's reach."""

import copy
import itertools
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from overtile.geometry import Geometry
from overtile.networks import UNet


def normalised(x, norm):
    """Batch norm with running statistics; instance and group norm with the image's own."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    if isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
        mean, variance = norm.running_mean.reshape(shape), norm.running_var.reshape(shape)
    else:
        groups = getattr(norm, "num_groups", x.shape[1])
        grouped = x.reshape(len(x), groups, -1)
        mean, variance = (
            moment.repeat_interleave(x.shape[1] // groups, 1).reshape(len(x), *shape[1:])
            for moment in (grouped.mean(2), grouped.var(2, correction=0))
        )
    return (x - mean) / torch.sqrt(variance + norm.eps) * norm.weight.reshape(shape) + norm.bias.reshape(shape)


def two_convolutions(x, block, padding, mode):
    dims = x.ndim - 2
    modules = [m for m in block if not isinstance(m, (nn.ReLU, nn.Dropout))]
    half = len(modules) // 2
    for conv, *norm in (modules[:half], modules[half:]):
        if padding == "same":
            x = F.pad(x, [1] * (2 * dims), mode="constant" if mode == "zeros" else mode)
        x = (F.conv2d if dims == 2 else F.conv3d)(x, conv.weight, conv.bias)
        x = (normalised(x, norm[0]) if norm else x).clamp(min=0)
    return x


def up_convolved(x, up):
    """Every voxel becomes a block of 2 x 2 (x 2), each of its voxels with its own matrix over channels."""
    axes = "xyz"[: x.ndim - 2]
    fine = torch.einsum(f"bc{axes},co{axes.upper()}->bo{''.join(a + a.upper() for a in axes)}", x, up.weight)
    fine = fine.reshape(*fine.shape[:2], *(2 * size for size in x.shape[2:]))
    return fine if up.bias is None else fine + up.bias.reshape(1, -1, *[1] * len(axes))


def pooled(x):
    for axis in range(2, x.ndim):
        x = x.unflatten(axis, (-1, 2)).amax(axis + 1)
    return x


def cropped(skip, like):
    for axis in range(2, skip.ndim):
        lost = (skip.shape[axis] - like.shape[axis]) // 2
        skip = skip[(slice(None),) * axis + (slice(lost, skip.shape[axis] - lost),)]
    return skip


def twin(network, image, padding, mode):
    skips, x = [], image
    for level, block in enumerate(network.encoder):
        x = two_convolutions(pooled(x) if level else x, block, padding, mode)
        skips.append(x)
    skips.pop()
    for up, block in zip(network.ups, network.decoder, strict=True):
        x = up_convolved(x, up[0])
        if len(up) == 2:
            x = x.clamp(min=0)
        x = two_convolutions(torch.cat([x, cropped(skips.pop(), x)], 1), block, padding, mode)  # [upsampled, skip]
    weight = network.head.weight.flatten(1)
    return torch.einsum("oc,bc...->bo...", weight, x) + network.head.bias.reshape(1, -1, *[1] * (x.ndim - 2))


OPTIONS = {
    "2015": {},
    "2015 released": {"up_relu": True, "top_up_features": 7},
    "2016": {"double_before_pool": True, "norm": "batch", "dropout": 0.0},
    "batch": {"norm": "batch"},
    "instance": {"norm": "instance"},
    "group": {"norm": "group", "features": 12},
    "same": {"padding": "same"},
    "same mirrored": {"padding": "same", "padding_mode": "reflect", "norm": "batch"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("spatial_dims", "levels", "shape"), [(2, 3, (92, 108)), (2, 0, (9, 5)), (3, 1, (18, 22, 20))])
def test_a_pass_equals_the_plain_twin(options, spatial_dims, levels, shape, randomise):
    torch.manual_seed(0)
    options = {"features": 3, **options}
    padding, mode = options.get("padding", "valid"), options.get("padding_mode", "zeros")
    if padding == "same":
        shape = [-(-size // 2 ** (levels + 1)) * 2 ** (levels + 1) for size in shape]
    network = randomise(UNet(spatial_dims, 2, 3, levels=levels, **options), spread=0.3).eval().double()
    image = torch.randn(2, 2, *shape, dtype=torch.float64)
    with torch.no_grad():
        # float64: only the order of the sums differs
        torch.testing.assert_close(network(image), twin(network, image, padding, mode), rtol=1e-9, atol=1e-9)


def reached(levels):
    """Rows that the answer at each phase of the pooling grid depends on, as (first, last), 0 the answer's own row.

    With positive weights, a positive image and the mean in place of the maximum no gradient is zero by chance.
    """
    network = UNet(levels=levels, features=1, dropout=0.0).double()
    network.pool = nn.AvgPool2d(2)
    for parameter in network.parameters():
        parameter.data.abs_()
    geometry = network.geometry
    size = geometry.input_size(geometry.step)
    image = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = network(image)
    for phase in range(geometry.step):
        (gradient,) = torch.autograd.grad(logits[0, 0, phase, phase], image, retain_graph=True)
        rows = gradient[0, 0].any(1).nonzero().flatten() - (phase + geometry.margin)
        yield int(rows[0]), int(rows[-1])


@pytest.mark.parametrize(
    ("levels", "sizes"), [(1, {18: 2}), (2, {44: 4}), (3, {92: 4, 100: 4}), (4, {188: 4, 204: 12})]
)
def test_the_receptive_field_depends_on_the_phase_and_stays_within_the_margins(levels, sizes):
    rows = list(reached(levels))
    assert Counter(last - first + 1 for first, last in rows) == sizes
    margin = Geometry(levels).margin
    assert max(max(-first, last) for first, last in rows) == margin + 2**levels - 1  # what "same" reads for a halo
    assert Geometry(levels, "same").margin >= margin + 2**levels - 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("spatial_dims", "norm", "padding"), list(itertools.product((2, 3), (None, "batch"), ("valid", "same")))
)
def test_scripted_and_exported_networks_answer_as_the_eager_one(spatial_dims, norm, padding):
    torch.manual_seed(0)
    network = UNet(spatial_dims, levels=1, features=2, norm=norm, padding=padding).eval()
    image = torch.rand(1, 1, *(20, 18, 22)[:spatial_dims])
    with torch.no_grad():
        expected = network(image)
        torch.testing.assert_close(torch.jit.script(network)(image), expected)
        torch.testing.assert_close(torch.export.export(network, (image,)).module()(image), expected)


def test_a_copy_answers_alike_and_state_holds_each_tensor_once():
    network = UNet(levels=1, features=2, norm="batch").eval()
    image = torch.rand(1, 1, 20, 20)
    assert torch.equal(copy.deepcopy(network)(image), network(image))
    state = network.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
