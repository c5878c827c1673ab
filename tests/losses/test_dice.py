import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss, MaskedDiceLoss

from overtile.losses import DiceCrossEntropyLoss, SoftDiceLoss, WeightedCrossEntropyLoss

BATCHES = [pytest.param(False, id="per image"), pytest.param(True, id="per batch")]
DIMS = [pytest.param((5, 4), id="2D"), pytest.param((3, 4, 2), id="3D")]
LOSSES = [SoftDiceLoss(), SoftDiceLoss(batch=True), DiceCrossEntropyLoss()]


def slow_dice_loss(logits, label, weight, batch, smooth=1e-5):
    """The formula in float64, class by class, over the voxels that count and no others."""
    images, classes = logits.shape[:2]
    groups = [list(range(images))] if batch else [[image] for image in range(images)]
    scores = []
    for group in groups:
        for k in range(1, classes):
            shared = total = 0.0
            for image in group:
                counts = weight[image] > 0
                a = logits[image][:, counts].astype(np.float64)
                p = np.exp(a - a.max(0, initial=-np.inf))
                p = (p / p.sum(0))[k]
                t = label[image][counts] == k
                shared += (p * t).sum()
                total += p.sum() + t.sum()
            scores.append((2 * shared + smooth) / (total + smooth))
    return 1 - np.mean(scores)


@pytest.mark.parametrize("batch", BATCHES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_loss_is_one_minus_the_mean_dice_of_the_foreground_classes(batch, weighted_cases, data):
    case = data.draw(weighted_cases(2))
    loss = SoftDiceLoss(batch)(*map(torch.from_numpy, case))
    assert loss.dtype == torch.float32
    # sums in float32, of numbers that smooth = 1e-5 is added to
    np.testing.assert_allclose(float(loss), slow_dice_loss(*case, batch), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("spatial", DIMS)
def test_where_all_voxels_count_it_is_monais_dice_loss(spatial, batch, example):
    logits, label, weight = example(spatial)
    monais = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=batch)
    torch.testing.assert_close(SoftDiceLoss(batch)(logits, label), monais(logits, label))
    assert torch.equal(SoftDiceLoss(batch)(logits, label, weight), SoftDiceLoss(batch)(logits, label))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("spatial", DIMS)
def test_where_voxels_are_ignored_it_is_monais_masked_dice_loss(spatial, batch, example):
    logits, label, weight = example(spatial)
    weight[:, :, 1:3] = 0
    monais = MaskedDiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=batch)
    torch.testing.assert_close(SoftDiceLoss(batch)(logits, label, weight), monais(logits, label, weight > 0))


@pytest.mark.parametrize("spatial", DIMS)
def test_the_sum_is_dice_plus_weighted_cross_entropy(spatial, example):
    logits, label, weight = example(spatial)
    weight[:, :, 2] = 0
    target = torch.cat([label.float(), weight], dim=1)
    for normalization in ("weights", "voxels"):
        parts = (WeightedCrossEntropyLoss(normalization), SoftDiceLoss(batch=True))
        expected = sum(part(logits, label, weight) for part in parts)
        torch.testing.assert_close(DiceCrossEntropyLoss(normalization, batch=True)(logits, target), expected)


@pytest.mark.parametrize("loss", LOSSES, ids=["image", "batch", "sum"])
@pytest.mark.parametrize("spatial", DIMS)
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_ignored_voxel_gets_no_gradient_and_changes_nothing(loss, spatial, value, example):
    logits, label, weight = example(spatial)
    ignored = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    weight[ignored] = 0
    results = []
    for fill, nonsense in ((0.0, 0), (value, 255)):
        leaf = logits.masked_fill(ignored, fill).requires_grad_()
        given = loss(leaf, label.masked_fill(ignored, nonsense), weight)
        given.backward()
        results.append((given.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    everywhere = ignored.expand_as(logits)
    assert not results[1][1][everywhere].any()
    assert results[1][1][~everywhere].all()


@pytest.mark.parametrize("loss", LOSSES, ids=["image", "batch", "sum"])
def test_where_every_weight_is_zero_the_loss_and_its_gradient_are_zero(loss, example):
    logits, label, weight = example()
    logits.requires_grad_()
    given = loss(logits, label, torch.zeros_like(weight))
    given.backward()
    assert given.item() == 0
    assert not logits.grad.any()


def test_a_perfect_answer_costs_nothing_and_an_opposite_one_everything():
    label = torch.tensor([[[[0, 1], [1, 0]]]])
    right = 100 * torch.cat([label == 0, label == 1], dim=1).float()
    assert SoftDiceLoss()(right, label).item() == pytest.approx(0, abs=1e-6)
    assert SoftDiceLoss()(-right, label).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_give_the_loss_of_float32(dtype, example):
    logits, label, weight = example((16, 16))
    half = (1000 * logits).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = DiceCrossEntropyLoss()(half, label, weight)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, DiceCrossEntropyLoss()(half.float(), label, weight))
    assert half.grad.dtype == dtype
    assert torch.isfinite(half.grad).all()


def test_descending_the_loss_finds_the_truth(example):
    _, label, _ = example((8, 8))
    logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=50.0)
    for _ in range(60):
        optimizer.zero_grad()
        SoftDiceLoss()(logits, label).backward()
        optimizer.step()
    assert (logits.argmax(1) == label[:, 0]).all()


def test_a_single_class_has_no_foreground_and_is_refused():
    with pytest.raises(ValueError, match="2 or more channels, got 1"):
        SoftDiceLoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))


def test_labels_that_are_no_classes_or_of_another_size_are_refused(example):
    logits, label, weight = example()
    with pytest.raises(ValueError, match="class indices 0 to 2 for 3 classes"):
        SoftDiceLoss()(logits, label + 1, weight)
    with pytest.raises(ValueError, match="crop it to the write window"):
        SoftDiceLoss()(logits, label[..., 1:], weight)
