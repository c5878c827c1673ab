import itertools
import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from overtile.transforms import two_nearest
from overtile.transforms.two_nearest import distance_within, gap_width

SHAPES = st.one_of(
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=24), arrays.array_shapes(min_dims=3, max_dims=3, max_side=9)
)


@st.composite
def instances_and_sampling(draw):
    """A few voxels of many instances, so that the nearest ones are now close, now far and often equally near."""
    ids = np.zeros(draw(SHAPES), dtype=np.int32)
    places = st.tuples(*(st.integers(0, size - 1) for size in ids.shape))
    for place, number in draw(st.lists(st.tuples(places, st.integers(1, 12)), max_size=25)):
        ids[place] = number
    sizes = st.just((1.0,) * ids.ndim) | st.tuples(*[st.sampled_from([0.3, 1.0, 1.7, 4.0])] * ids.ndim)
    return ids, draw(sizes)


def sum_of_two_smallest(ids, sampling):
    """Slow twin: one distance transform per instance, sorted."""
    distances = [distance_transform_edt(ids != i, sampling) for i in np.unique(ids[ids > 0])]
    return np.sort(np.stack([*distances, *np.full((2, *ids.shape), np.inf)]), axis=0)[:2].sum(axis=0)


def assert_equal_within(reach, actual, expected):
    """Equal up to the reach and infinite beyond; at the reach itself rounding decides."""
    assert actual.dtype == np.float32
    clear = np.abs(expected - reach) > 1e-4
    expected = np.where(expected > reach, np.inf, expected)
    np.testing.assert_allclose(actual[clear], expected[clear], rtol=1e-6)


@settings(max_examples=200, deadline=None)
@given(instances_and_sampling(), st.floats(0, 40))
def test_the_gap_width_is_the_sum_of_the_two_smallest_of_all_distances(case, reach):
    ids, sampling = case
    assert_equal_within(reach, gap_width(ids, reach, sampling), sum_of_two_smallest(ids, sampling))


@settings(max_examples=100, deadline=None)
@given(instances_and_sampling(), st.floats(0, 40))
def test_the_distance_within_reach_is_that_of_a_distance_transform(case, reach):
    ids, sampling = case
    expected = distance_transform_edt(ids == 0, sampling) if ids.any() else np.full(ids.shape, np.inf)
    assert_equal_within(reach, distance_within(ids > 0, reach, sampling), expected)


def test_the_voxel_after_the_reach_is_beyond_it_also_where_their_ratio_is_rounded():
    mask = np.arange(7)[None, None] == 0  # 1.5 / 1.7 over 0.3 / 1.7 is a little less than 5
    expected = [0, 0.3, 0.6, 0.9, 1.2, 1.5, np.inf]
    np.testing.assert_allclose(distance_within(mask, 1.5, (1.7, 0.3, 0.3))[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("reach", [100, 170, 171, 400], ids="reach {}".format)
def test_a_long_reach_does_not_overflow(reach):
    ids = np.zeros((400, 500), dtype=np.int32)
    ids[0, 0], ids[200, 120], ids[399, 499] = 1, 2, 3
    assert_equal_within(reach, gap_width(ids, reach, (1.0, 1.0)), sum_of_two_smallest(ids, (1.0, 1.0)))


def test_more_instances_in_one_place_than_there_are_bits_are_told_apart():
    ids = np.random.default_rng(0).integers(-300, 150, (30, 40)).clip(0).astype(np.int32)
    assert len(np.unique(ids)) > 2 * 64
    assert_equal_within(30, gap_width(ids, 30, (1.0, 1.0)), sum_of_two_smallest(ids, (1.0, 1.0)))


def test_an_image_of_several_blocks_equals_the_slow_twin(monkeypatch):
    monkeypatch.setattr(two_nearest, "BLOCK", 999)
    rng = np.random.default_rng(0)
    ids = np.where(rng.random((3, 90, 110)) < 0.003, rng.integers(1, 20, (3, 90, 110)), 0).astype(np.int32)
    for image, sampling in ((ids[0], (1.0, 1.0)), (ids, (5.0, 0.5, 1.0))):
        assert_equal_within(25, gap_width(image, 25, sampling), sum_of_two_smallest(image, sampling))


def test_the_number_of_distance_transforms_does_not_grow_with_the_number_of_instances(monkeypatch):
    calls, squared_distance = [], two_nearest._squared_distance
    monkeypatch.setattr(two_nearest, "_squared_distance", lambda *given: calls.append(1) or squared_distance(*given))
    counts = []
    for instances in (30, 300):
        ids = np.zeros((10, 12 * instances), dtype=np.int32)
        ids[5, 6::12] = range(1, instances + 1)
        calls.clear()
        width = gap_width(ids, 30, (1.0, 1.0))
        assert width[5, 6:-6].max() <= 12  # between two of them
        counts.append(len(calls))
    assert counts[0] == counts[1] < 8


def test_instances_within_reach_have_different_numbers_and_are_in_different_groups():
    rng = np.random.default_rng(1)
    ids = np.zeros((60, 80), dtype=np.int32)
    ids[rng.integers(0, 60, 40), rng.integers(0, 80, 40)] = range(1, 41)
    numbers = two_nearest._numbers(ids, [7, 7])
    members, _, each = two_nearest._groups(numbers)
    assert numbers[0] == members[0] == 0
    assert len(set(numbers)) < 20
    for one, other in itertools.combinations(np.unique(ids[ids > 0]), 2):
        if math.dist(np.argwhere(ids == one)[0], np.argwhere(ids == other)[0]) <= 7:
            assert numbers[one] != numbers[other]
        same = numbers[one] == numbers[other]
        shared = int(members[one] & members[other]).bit_count()
        assert shared == each if same else shared < each


@pytest.mark.parametrize("shape", [(1, 1), (5, 4), (2, 1, 3)], ids=str)
def test_without_instances_every_distance_is_infinite(shape):
    sampling = (1.0,) * len(shape)
    ids = np.zeros(shape, dtype=np.int32)
    for distance in (gap_width(ids, 9, sampling), distance_within(ids > 0, 9, sampling)):
        np.testing.assert_array_equal(distance, np.full(shape, np.inf))


def test_next_to_a_single_instance_there_is_no_gap():
    assert gap_width(np.array([[0, 1, 1]]), 9, (1.0, 1.0)).tolist() == [[math.inf] * 3]
