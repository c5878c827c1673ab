import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from overtile.transforms import RandElasticDeformd
from overtile.transforms.windows import TRIES, draw_foreground_voxel, draw_start

SIZES = st.integers(1, 12)
AXES = st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=3)
SEEDS = st.integers(0, 2**32 - 1)


def source(seed=0):
    return np.random.RandomState(seed)


@given(AXES, SEEDS)
def test_a_window_lies_in_the_image_where_it_fits_and_covers_it_where_not(axes, seed):
    shape, window = zip(*axes, strict=True)
    for (size, width), start in zip(axes, draw_start(source(seed), shape, window), strict=True):
        assert 0 <= start <= size - width if width <= size else start <= 0 and size <= start + width


@given(st.data(), AXES, SEEDS)
def test_a_window_with_a_foreground_voxel_contains_it_and_is_one_that_could_be_drawn_without(data, axes, seed):
    shape, window = zip(*axes, strict=True)
    voxel = np.array([data.draw(st.integers(0, size - 1)) for size in shape])
    start = draw_start(source(seed), shape, window, voxel)
    assert (start <= voxel).all()
    assert (voxel < start + window).all()
    for (size, width), first in zip(axes, start, strict=True):
        assert min(0, size - width) <= first <= max(0, size - width)


@pytest.mark.parametrize(
    ("size", "window", "voxel", "starts"),
    [
        pytest.param(5, 3, None, {0, 1, 2}, id="fits"),
        pytest.param(5, 5, None, {0}, id="is the image"),
        pytest.param(5, 7, None, {-2, -1, 0}, id="covers the image"),
        pytest.param(9, 3, 4, {2, 3, 4}, id="around a voxel"),
        pytest.param(9, 3, 0, {0}, id="around the first voxel"),
        pytest.param(9, 3, 8, {6}, id="around the last voxel"),
        pytest.param(5, 7, 4, {-1, 0}, id="covers a voxel, not at its rim"),
        pytest.param(16, 8, 8, {3, 4, 5, 6}, id="has a voxel in its central half"),
    ],
)
def test_every_allowed_window_is_drawn_equally_often(size, window, voxel, starts):
    random, draws = source(), 600
    foreground = None if voxel is None else np.array([voxel])
    drawn = [int(draw_start(random, [size], [window], foreground)[0]) for _ in range(draws)]
    assert set(drawn) == starts
    expected = draws / len(starts)
    assert all(abs(drawn.count(start) - expected) < 5 * np.sqrt(expected) for start in starts)


def single_voxel(shape, voxel, dtype=np.uint8):
    label = np.zeros(shape, dtype)
    label[voxel] = 1
    return label


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, MetaTensor], ids=["NumPy", "tensor", "MetaTensor"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_a_single_foreground_voxel_in_a_corner_is_found(kind, dtype):
    label = kind(single_voxel((40, 50, 60), (39, 49, 59), dtype))  # 100 tries hit it once in 1200 runs
    assert draw_foreground_voxel(source(), label).tolist() == [39, 49, 59]


def test_without_foreground_there_is_no_voxel():
    assert draw_foreground_voxel(source(), np.zeros((4, 4), np.int32)) is None
    assert draw_foreground_voxel(source(), np.full((4, 4), -1)) is None


@pytest.mark.parametrize("size", [3, 40 * TRIES], ids=["frequent", "rare"])
def test_every_foreground_voxel_is_drawn_equally_often(size):
    label = np.zeros((2, size), np.uint8)
    label[0, 0] = label[1, 1] = label[1, size - 1] = 9
    random, draws = source(), 600
    drawn = [tuple(draw_foreground_voxel(random, label).tolist()) for _ in range(draws)]
    assert set(drawn) == {(0, 0), (1, 1), (1, size - 1)}
    assert all(abs(drawn.count(voxel) - draws / 3) < 5 * np.sqrt(draws / 3) for voxel in set(drawn))


def windows(size, chance, **options):
    """Windows alone, nothing deformed."""
    options |= {"sigma": 0, "foreground_key": "label", "foreground_prob": chance}
    return RandElasticDeformd(["image", "label"], size, mode="nearest", **options).set_random_state(0)


@pytest.mark.parametrize("voxel", [(0, 0), (29, 39), (0, 20)])
def test_a_single_foreground_voxel_is_in_every_window_that_must_have_one(voxel):
    label = np.zeros((1, 30, 40), np.uint8)
    label[0][voxel] = 1
    transform = windows(5, 1, margin=(4, 0))
    for _ in range(20):
        assert transform({"image": label, "label": label})["label"].sum() == 1


@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_other_windows_are_drawn_from_the_whole_image(chance):
    label, seen = np.zeros((1, 1, 40), np.uint8), 0
    label[..., 0] = 1
    transform = windows((1, 2), chance)
    for _ in range(400):
        seen += transform({"image": label, "label": label})["label"].sum()
    expected = chance + (1 - chance) / 39  # one of 39 windows holds the voxel
    assert abs(seen / 400 - expected) < 5 * np.sqrt(expected * (1 - expected) / 400)


def test_without_foreground_any_window_is_drawn():
    empty = np.zeros((1, 9, 9), np.uint8)
    transform = windows(3, 1)
    firsts = {
        int(transform({"image": np.arange(81).reshape(1, 9, 9), "label": empty})["image"][0, 0, 0]) for _ in range(400)
    }
    assert firsts == {9 * row + column for row in range(7) for column in range(7)}
