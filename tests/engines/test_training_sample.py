import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import CastToTyped, Compose, Flipd, RandScaleIntensityd

from overtile.data import LoadImagesd
from overtile.engines.training_sample import training_sample
from overtile.transforms import RandElasticDeformd, SeparationWeightsd

KEYS = ["image", "label", "weight"]


@pytest.fixture
def data(tmp_path):
    """One image of 60x40 pixels with two cells; values tell the place."""
    image = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    label = np.zeros((40, 60), np.uint16)
    label[10:20, 10:20], label[25:35, 30:50] = 1, 2
    for name, array in (("image", image), ("label", label)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    return [{name: str(tmp_path / f"{name}.tif") for name in ("image", "label")}]


def transforms(**options):
    deform = {"sigma": 2.0, "rotate_range": 3.0, **options}
    return Compose(
        [
            LoadImagesd(["image", "label"]),
            SeparationWeightsd("label"),
            RandElasticDeformd(
                KEYS, spatial_size=16, margin=(8, 0, 0), mode=("bilinear", "nearest", "nearest"), **deform
            ),
            RandScaleIntensityd("image", factors=0.5, prob=1.0),
        ]
    )


def test_the_whole_image_is_as_before_the_random_transforms_and_the_sample_as_after_them(data):
    sample = training_sample(data, transforms())
    assert np.array_equal(sample.image, np.arange(2400).reshape(40, 60).T)
    assert set(np.unique(sample.label)) == {0, 1, 2}
    assert sample.weight.shape == sample.label.shape == (60, 40)
    assert sample.read.shape == (32, 32)
    assert sample.write_label.shape == sample.write_weight.shape == (16, 16)
    assert sample.margin == (8, 8)


def test_the_coordinates_are_those_of_the_voxels_that_the_network_reads(data):
    sample = training_sample(data, transforms(sigma=0.0, rotate_range=0.0))
    positions = sample.coordinates.round().astype(int)
    x, y = (size - 1 - abs(size - 1 - abs(p)) for p, size in zip(positions, (60, 40), strict=True))  # mirrored
    scale = sample.read[0, 0] / sample.image[x[0, 0], y[0, 0]]  # of the intensity
    assert sample.read == pytest.approx(scale * sample.image[x, y], rel=1e-5)
    assert np.array_equal(sample.write_label, sample.label[x, y][8:-8, 8:-8])


def test_the_same_sample_is_drawn_every_time(data):
    first, second = (training_sample(data, transforms()) for _ in range(2))
    assert np.array_equal(first.read, second.read)
    assert not np.array_equal(first.read, training_sample(data, transforms(), seed=1).read)


def test_channels_are_shown_as_their_mean(data):
    steps = transforms().transforms
    colour = Compose([*steps[:1], lambda d: {**d, "image": torch.cat([d["image"], 3 * d["image"]])}, *steps[1:]])
    assert np.array_equal(training_sample(data, colour).image, 2 * np.arange(2400).reshape(40, 60).T)


def test_data_are_listed_when_asked_for_and_may_be_missing(data, caplog):
    def missing():
        raise FileNotFoundError("no training images")

    assert training_sample(lambda: data, transforms()) is not None
    caplog.set_level("INFO")
    assert training_sample(missing, transforms()) is None
    assert "no training images" in caplog.text
    assert training_sample([], transforms()) is None


def test_without_random_transforms_there_is_no_sample(data):
    assert training_sample(data, Compose([LoadImagesd(["image", "label"])])) is None


def test_without_an_elastic_deformation_nobody_knows_where_the_sample_came_from(data):
    steps = transforms().transforms
    plain = Compose([*steps[:2], CastToTyped("label", torch.uint8), *steps[3:], Flipd("image", 0)])
    sample = training_sample(data, plain)
    assert sample.coordinates is None
    assert sample.margin == (0, 0)
