import monai.transforms
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from overtile.transforms import RandHistogramShift, RandHistogramShiftd

IMAGES = {
    "image": torch.randn(2, 40, 50, generator=torch.manual_seed(0)),
    "positive": torch.rand(1, 8, 9, 10, generator=torch.manual_seed(1)) * 1e4 + 5e4,
    "float64": torch.randn(1, 30, 30, dtype=torch.float64, generator=torch.manual_seed(2)),
    "float16": torch.randn(1, 30, 30, generator=torch.manual_seed(3)).half(),
    "array": np.random.default_rng(4).normal(size=(1, 30, 30)).astype(np.float32),
}


@pytest.mark.parametrize("points", [3, 5, 12, (4, 9)], ids=str)
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_shifted_as_by_monai(name, points):
    image = IMAGES[name]
    ours = RandHistogramShift(points, prob=0.7).set_random_state(seed=1)
    monais = monai.transforms.RandHistogramShift(points, prob=0.7).set_random_state(seed=1)
    # MONAI's are rounded too, to the type of the image
    tolerance = float(np.abs(np.asarray(image)).max()) * (1e-2 if name == "float16" else 2e-6)
    changed = 0
    for _ in range(20):
        found, expected = ours(image), monais(image)
        assert found.dtype == expected.dtype
        assert type(found) is type(expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        changed += not np.array_equal(found, image)
    assert 5 < changed < 20


def test_whole_numbers_and_constant_images_are_left_to_monai():
    shift = RandHistogramShift(5, prob=1.0).set_random_state(seed=0)
    monais = monai.transforms.RandHistogramShift(5, prob=1.0).set_random_state(seed=0)
    image = torch.arange(30).reshape(1, 5, 6)
    assert torch.equal(shift(image), monais(image))
    with pytest.warns(UserWarning, match="single value"):
        assert torch.equal(shift(torch.ones(1, 5, 6)), torch.ones(1, 5, 6))


def test_keys_share_one_draw_and_keep_their_metadata():
    image = MetaTensor(IMAGES["image"], affine=np.diag([2.0, 3.0, 1.0, 1.0]), meta={"name": "a"})
    shift = RandHistogramShiftd(["image", "other"], num_control_points=5, prob=1.0).set_random_state(seed=3)
    monais = monai.transforms.RandHistogramShiftd(["image", "other"], 5, 1.0).set_random_state(seed=3)
    sample, expected = shift({"image": image, "other": image.clone()}), monais({"image": image, "other": image.clone()})
    assert torch.equal(sample["image"], sample["other"])
    torch.testing.assert_close(sample["image"], expected["image"], rtol=0, atol=1e-5)
    assert sample["image"].meta["name"] == "a"
    assert torch.equal(sample["image"].affine, image.affine)
