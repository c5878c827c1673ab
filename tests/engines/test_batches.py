import pytest
import torch
from monai.data import MetaTensor
from torch.nn.functional import cross_entropy

from overtile.engines import PrepareWeightedBatch, step_loss
from overtile.losses import WeightedCrossEntropyLoss


def batch(label_type=torch.float32, kind=torch.as_tensor):
    """Two samples as the data loader gives them: the image larger than label and weight by the margin."""
    random = torch.Generator().manual_seed(0)
    return {
        "image": kind(torch.randn(2, 3, 9, 9, generator=random)),
        "label": kind(torch.randint(0, 4, (2, 1, 5, 5), generator=random).to(label_type)),
        "weight": kind(torch.rand(2, 1, 5, 5, generator=random)),
    }


@pytest.mark.parametrize("label_type", [torch.uint8, torch.int32, torch.int64, torch.float32])
def test_label_and_weight_become_the_two_channels_of_one_target(label_type):
    data = batch(label_type)
    image, target = PrepareWeightedBatch()(data)
    assert torch.equal(image, data["image"])
    assert target.shape == (2, 2, 5, 5)
    assert torch.equal(target[:, :1], data["label"].float())
    assert torch.equal(target[:, 1:], data["weight"])


def test_the_loss_takes_the_target_apart_again():
    data = batch(torch.int64)
    _, target = PrepareWeightedBatch()(data)
    logits = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    voxels = cross_entropy(logits, data["label"][:, 0], reduction="none")
    expected = (voxels * data["weight"][:, 0]).sum() / data["weight"].sum()
    torch.testing.assert_close(WeightedCrossEntropyLoss(normalization="weights")(logits, target), expected)


def test_meta_data_does_not_travel_through_the_network():
    image, target = PrepareWeightedBatch()(batch(kind=MetaTensor))
    assert type(image) is type(target) is torch.Tensor


def test_image_and_target_go_to_the_device_in_the_wanted_type():
    image, target = PrepareWeightedBatch()(batch(), device="meta", dtype=torch.float64)
    assert (image.device.type, target.device.type) == ("meta", "meta")
    assert (image.dtype, target.dtype) == (torch.float64, torch.float64)


def test_keys_may_have_other_names():
    data = {f"my {key}": tensor for key, tensor in batch().items()}
    image, target = PrepareWeightedBatch("my image", "my label", "my weight")(data)
    expected = PrepareWeightedBatch()(batch())
    assert torch.equal(image, expected[0])
    assert torch.equal(target, expected[1])


def test_the_loss_of_a_step_is_a_plain_number():
    output = {"loss": torch.tensor(1.5, requires_grad=True)}
    assert step_loss(output) == 1.5
    assert type(step_loss(output)) is float
