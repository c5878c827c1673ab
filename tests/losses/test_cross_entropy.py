import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from overtile.losses import WeightedCrossEntropyLoss

NORMALIZATIONS = ("weights", "voxels", "none")


def energy(logits, label, weight, normalization):
    """Slow twin, voxel by voxel in float64: E = -sum w(x) log p_l(x)(x)."""
    total = sum_of_weights = voxels = 0.0
    for batch, *voxel in np.ndindex(label.shape):
        a = np.array([logits[(batch, k, *voxel)] for k in range(logits.shape[1])], np.float64)
        w = float(weight[(batch, *voxel)])
        if w > 0:
            total += w * (np.log(np.exp(a - a.max()).sum()) + a.max() - a[int(label[(batch, *voxel)])])
        sum_of_weights, voxels = sum_of_weights + w, voxels + 1
    divisor = {"weights": sum_of_weights or 1.0, "voxels": voxels, "none": 1.0}[normalization]
    return total / divisor


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_loss_equals_the_papers_sum_over_voxels(normalization, weighted_cases, data):
    case = data.draw(weighted_cases(1))
    logits, label, weight = case
    loss = WeightedCrossEntropyLoss(normalization)(*map(torch.from_numpy, case))
    assert loss.dtype == torch.float32
    # float32 sums of some 200 terms
    np.testing.assert_allclose(float(loss), energy(logits, label, weight, normalization), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 2)], ids=["2D", "3D"])
def test_with_unit_weights_it_is_pytorchs_cross_entropy(spatial, example):
    logits, label, weight = example(spatial)
    expected = F.cross_entropy(logits, label[:, 0])
    for unit in (None, torch.ones_like(weight)):
        for normalization, times in (("weights", 1), ("voxels", 1), ("none", label.numel())):
            loss = WeightedCrossEntropyLoss(normalization)(logits, label, unit)
            torch.testing.assert_close(loss, times * expected)


@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 2)], ids=["2D", "3D"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_label_and_weight_come_as_two_channels_or_two_tensors_with_or_without_channel_axis(
    spatial, normalization, example
):
    logits, label, weight = example(spatial)
    loss = WeightedCrossEntropyLoss(normalization)
    expected = loss(logits, label, weight)
    # channels of one tensor lie apart in memory, which changes the order of a float32 sum
    torch.testing.assert_close(loss(logits, torch.cat([label.float(), weight], 1)), expected)
    assert torch.equal(loss(logits, label[:, 0], weight[:, 0]), expected)
    assert torch.equal(loss(logits, label[:, 0], weight), expected)


def test_two_channels_are_label_and_weight_also_for_two_classes(example):
    logits, label, weight = example(classes=2)
    loss = WeightedCrossEntropyLoss()
    torch.testing.assert_close(loss(logits, torch.cat([label, weight], 1)), loss(logits, label, weight))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32, torch.float64], ids=str)
def test_labels_and_weights_may_be_of_any_number_type(dtype, example):
    logits, label, _ = example(classes=2)
    weight = torch.arange(label.numel()).reshape(label.shape) % 3
    expected = WeightedCrossEntropyLoss()(logits, label, weight.float())
    assert torch.equal(WeightedCrossEntropyLoss()(logits, label.to(dtype), weight), expected)
    if dtype != torch.bool:
        assert torch.equal(WeightedCrossEntropyLoss()(logits, label, weight.to(dtype)), expected)


@pytest.mark.parametrize("nonsense", [-1, 255, 3])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_voxel_without_weight_gets_no_gradient_and_its_label_may_be_anything(normalization, nonsense, example):
    logits, label, weight = example()
    ignored = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    weight[ignored] = 0
    results = []
    for value in (0, nonsense):
        leaf = logits.clone().requires_grad_()
        loss = WeightedCrossEntropyLoss(normalization)(leaf, label.masked_fill(ignored, value), weight)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    (expected, gradient), (got, got_gradient) = results
    assert torch.equal(got, expected)
    assert torch.equal(got_gradient, gradient)
    everywhere = ignored.expand_as(gradient)
    assert not gradient[everywhere].any()
    assert gradient[~everywhere].all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_gradient_is_the_weighted_difference_of_probability_and_truth(normalization, example):
    logits, label, weight = example()
    logits.requires_grad_()
    WeightedCrossEntropyLoss(normalization)(logits, label, weight).backward()
    truth = F.one_hot(label[:, 0], 3).movedim(-1, 1)
    divisor = {"weights": weight.sum(), "voxels": label.numel(), "none": 1}[normalization]
    torch.testing.assert_close(logits.grad, weight * (logits.detach().softmax(1) - truth) / divisor)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_where_every_weight_is_zero_the_loss_and_its_gradient_are_zero(normalization, example):
    logits, label, weight = example()
    logits.requires_grad_()
    loss = WeightedCrossEntropyLoss(normalization)(logits, label - 7, torch.zeros_like(weight))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_half_precision_logits_of_any_size_give_the_loss_and_gradient_of_float64(dtype, autocast, example):
    _, label, weight = example((16, 16))
    logits = (3e4 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))).clamp(-6e4, 6e4).to(dtype)
    logits.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = WeightedCrossEntropyLoss()(logits, label, weight)
    loss.backward()
    assert loss.dtype == torch.float32
    exact = logits.detach().double().requires_grad_()
    expected = (weight[:, 0] * F.cross_entropy(exact, label[:, 0], reduction="none")).sum() / weight.double().sum()
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    assert logits.grad.dtype == dtype
    # rounded to half precision, whose smallest float16 is 6e-8
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-2, atol=1e-7)


def test_the_logits_of_an_autocast_network_can_be_trained_on(example):
    layer = torch.nn.Conv2d(1, 3, 1)
    _, label, weight = example()
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(torch.rand(2, 1, 5, 4))
        loss = WeightedCrossEntropyLoss()(logits, label, weight)
    loss.backward()
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize("bad", [-1, 3, 255])
def test_a_weighted_voxel_outside_the_classes_is_refused(bad, example):
    logits, label, weight = example()
    label[1, 0, 2, 2] = bad
    with pytest.raises(ValueError, match=rf"class indices 0 to 2 for 3 classes, got values from .*{bad}.*weight 0"):
        WeightedCrossEntropyLoss()(logits, label, weight)


@pytest.mark.parametrize(
    ("label", "weight", "name"),
    [
        ((2, 1, 9, 8), None, "label"),
        ((2, 3, 5, 4), None, "label"),
        ((1, 1, 5, 4), None, "label"),
        ((2, 1, 5, 4), (2, 1, 9, 8), "weight"),
        ((2, 1, 5, 4), (5, 4), "weight"),
        ((2, 2, 5, 4), (2, 1, 5, 4), "label"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_with_the_remedy(label, weight, name, example):
    logits, *_ = example()
    with pytest.raises(ValueError, match=f"{name} must have one value per voxel .* crop it to the write window"):
        WeightedCrossEntropyLoss()(
            logits, torch.zeros(label, dtype=torch.long), None if weight is None else torch.ones(weight)
        )


def test_an_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="normalization must be 'weights', 'voxels' or 'none', got 'mean'"):
        WeightedCrossEntropyLoss("mean")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_ignored_voxel_gets_no_gradient_whatever_its_logits(value):
    logits = torch.tensor([[[[1.0, value]], [[0.0, 0.0]]]], requires_grad=True)
    WeightedCrossEntropyLoss()(logits, torch.tensor([[[[0, 1]]]]), torch.tensor([[[[1.0, 0.0]]]])).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[..., 1] == 0).all()
