import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import DynUNet

from overtile.losses import DeepSupervisionLoss, DiceCrossEntropyLoss, WeightedCrossEntropyLoss

DIMS = [pytest.param((8, 4), id="2D"), pytest.param((4, 8, 4), id="3D")]


def example(spatial=(8, 4), heads=3, classes=3):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn((2, heads, classes, *spatial), generator=rng)
    label = torch.randint(classes, (2, 1, *spatial), generator=rng)
    weight = torch.rand((2, 1, *spatial), generator=rng) * 10
    return logits, label, torch.where(weight < 3, 0.0, weight)


@pytest.mark.parametrize("spatial", DIMS)
def test_it_is_the_mean_of_the_heads_with_halved_weights(spatial):
    logits, label, weight = example(spatial)
    loss = DiceCrossEntropyLoss()
    expected = sum(share * loss(logits[:, head], label, weight) for head, share in ((0, 4 / 7), (1, 2 / 7), (2, 1 / 7)))
    torch.testing.assert_close(DeepSupervisionLoss(loss)(logits, label, weight), expected)
    target = torch.cat([label.float(), weight], dim=1)
    torch.testing.assert_close(DeepSupervisionLoss(loss)(logits, target), expected)


def test_given_weights_are_divided_by_their_sum():
    logits, label, weight = example()
    loss = WeightedCrossEntropyLoss()
    given = DeepSupervisionLoss(loss, weights=[3, 0, 1])(logits, label, weight)
    torch.testing.assert_close(
        given, 0.75 * loss(logits[:, 0], label, weight) + 0.25 * loss(logits[:, 2], label, weight)
    )


@pytest.mark.parametrize("spatial", DIMS)
def test_the_answer_of_one_head_costs_what_the_loss_says(spatial):
    logits, label, weight = example(spatial)
    loss = DiceCrossEntropyLoss()
    deep = DeepSupervisionLoss(loss)
    assert torch.equal(deep(logits[:, 0], label, weight), loss(logits[:, 0], label, weight))
    torch.testing.assert_close(deep(logits[:, :1], label, weight), loss(logits[:, 0], label, weight))


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_an_ignored_voxel_gets_no_gradient_in_any_head(value):
    logits, label, weight = example()
    ignored = (weight == 0).unsqueeze(1).expand_as(logits)
    leaf = logits.masked_fill(ignored, value).requires_grad_()
    DeepSupervisionLoss(DiceCrossEntropyLoss())(leaf, label, weight).backward()
    assert ignored.any()
    assert not leaf.grad[ignored].any()
    assert leaf.grad[~ignored].all()


def test_an_enlarged_head_is_compared_with_all_voxels_of_the_label():
    """In the cross entropy it is as if the small head met the shares of the classes among the voxels below it."""
    _, label, _ = example()
    small = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(1))
    enlarged = F.interpolate(small, scale_factor=2)
    shares = F.avg_pool2d(F.one_hot(label[:, 0], 3).movedim(-1, 1).float(), 2)
    given = DeepSupervisionLoss(WeightedCrossEntropyLoss())(enlarged.unsqueeze(1), label)
    torch.testing.assert_close(given, F.cross_entropy(small, shares))


@pytest.mark.parametrize("dims", [2, 3])
def test_all_heads_of_monais_network_learn_under_autocast_and_in_evaluation_there_is_one(dims):
    torch.manual_seed(0)
    strides = {"strides": [1, 2, 2, 2], "upsample_kernel_size": [2, 2, 2], "filters": [2, 2, 3, 3]}
    network = DynUNet(dims, 1, 2, [3, 3, 3, 3], **strides, deep_supervision=True, deep_supr_num=2)
    image, label = torch.randn(2, 1, *[16] * dims), torch.randint(2, (2, 1, *[16] * dims))
    loss = DeepSupervisionLoss(DiceCrossEntropyLoss())
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image)
        given = loss(logits, label)
    given.backward()
    assert logits.shape == (2, 3, 2, *[16] * dims)
    assert given.dtype == torch.float32
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.deep_supervision_heads.parameters())
    with torch.no_grad():
        plain = network.eval()(image)
        assert torch.equal(loss(plain, label), DiceCrossEntropyLoss()(plain, label))


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0]], ids=str)
def test_weights_without_a_sum_or_below_zero_are_refused(weights):
    with pytest.raises(ValueError, match="0 or more, and one of them is more"):
        DeepSupervisionLoss(WeightedCrossEntropyLoss(), weights)


def test_another_number_of_heads_than_weights_is_refused():
    with pytest.raises(ValueError, match="2 weights for 3 heads"):
        DeepSupervisionLoss(WeightedCrossEntropyLoss(), [1, 0.5])(*example())


def test_logits_that_are_neither_one_head_nor_several_are_refused():
    logits, label, _ = example()
    with pytest.raises(ValueError, match="label with a channel axis"):
        DeepSupervisionLoss(WeightedCrossEntropyLoss())(logits, label[:, 0])
