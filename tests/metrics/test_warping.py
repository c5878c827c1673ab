from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from overtile.metrics import warping_error, warping_errors
from overtile.metrics.simple_points import BRANCHES, RING, ring_codes, warped_cells

SIDES, ALL = ndimage.generate_binary_structure(2, 1), np.ones((3, 3))
TRUTH = np.tile([1, 1, 1, 0, 1, 1, 1, 0, 0], (6, 1))  # two cells, and membrane


def components(cells):
    """Numbers of 4-connected cells and of 8-connected membranes; outside is membrane."""
    return ndimage.label(cells, SIDES)[1], ndimage.label(~np.pad(cells, 1), ALL)[1]


@lru_cache(None)
def is_simple(patch):
    """Whether the middle of 3 x 3 bytes may change without changing the number of cells or of membranes."""
    black, white = (np.frombuffer(patch, dtype=bool).reshape(3, 3).copy() for _ in range(2))
    black[1, 1], white[1, 1] = False, True
    return components(black) == components(white)


def neighbourhood(code):
    patch = np.zeros((3, 3), dtype=bool)
    for bit, (row, column) in enumerate(RING):
        patch[1 + row, 1 + column] = code >> bit & 1
    return patch


@pytest.mark.parametrize("code", range(256))
def test_one_branch_makes_a_simple_point_and_branches_are_what_meets_at_the_sides(code):
    patch = neighbourhood(code)
    assert (BRANCHES[code] == 1) == is_simple(patch.tobytes())
    labels = ndimage.label(patch, SIDES)[0]
    meeting = set(labels[[0, 1, 1, 2], [1, 0, 2, 1]].tolist()) - {0}
    assert BRANCHES[code] == (0 if code == 255 else len(meeting))


def test_codes_are_the_neighbourhoods():
    cells = np.random.default_rng(0).random((4, 5)) < 0.5
    codes = ring_codes(cells)
    for row, column in np.ndindex(cells.shape):
        patch = np.pad(cells, 1)[row : row + 3, column : column + 3].copy()
        patch[1, 1] = False
        np.testing.assert_array_equal(neighbourhood(codes[row, column]), patch)


def slowly_warped(cells, target, certainty):
    """Pass after pass over all that differs, until one changes nothing."""
    source, height, width = np.pad(cells, 1), *cells.shape
    while True:
        places = [(x, y) for x in range(width) for y in range(height) if source[y + 1, x + 1] != target[y, x]]
        flips = 0
        for x, y in sorted(places, key=lambda place: -certainty[place[1], place[0]]):
            if is_simple(source[y : y + 3, x : x + 3].tobytes()):
                source[y + 1, x + 1] ^= True
                flips += 1
        if not flips:
            return source[1:-1, 1:-1]


def slowly_classified(warped, target):
    """The pixels that differ, by what flipping them would do: Fiji's six names, from labels before and after."""
    names = {}
    before = ndimage.label(warped, SIDES)[0]
    for y, x in zip(*np.nonzero(warped != target), strict=True):
        near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        middle = np.zeros(warped.shape, dtype=bool)
        middle[y, x] = True
        ids = set(before[near][~middle[near]].tolist())
        if ids == {0}:
            names[y, x] = "object"
        elif len(ids) >= 3:
            names[y, x] = "split" if warped[y, x] else "merger"
        elif not warped[y, x] or len(ids) == 1:
            names[y, x] = "hole"
        else:
            after = ndimage.label(warped & ~middle, SIDES)[0]
            names[y, x] = "split" if len(set(after[near][~middle[near]].tolist())) > 2 else "hole"
    return names


def expected_errors(truth, prediction, threshold):
    """Shares of splits and mergers, and of all mismatches, by the slow twins."""
    certainty = np.abs(prediction.astype(np.float32).astype(float) - threshold).astype(np.float32)
    target = prediction.astype(np.float32) > np.float64(threshold)
    warped = slowly_warped(truth > 0, target, certainty)
    names = slowly_classified(warped, target)
    wrong = [name for name in names.values() if name in ("split", "merger")]
    return len(wrong) / truth.size, len(names) / truth.size


@st.composite
def slices(draw):
    shape = draw(st.tuples(st.integers(2, 8), st.integers(2, 8)))  # thinner ones have no sides to a membrane
    truth = draw(arrays(bool, shape))
    levels = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])  # few, so that many are equally certain
    return truth, draw(arrays(np.float64, shape, elements=levels))


@given(slices(), st.sampled_from([0.2, 0.4, 0.6]))
def test_errors_are_those_of_the_slow_twin(pair, threshold):
    truth, prediction = pair
    errors = [
        warping_errors(truth, prediction, [threshold], counted).item()
        for counted in ("splits_and_mergers", "mismatches")
    ]
    assert errors == pytest.approx(expected_errors(truth, prediction, threshold))


@given(slices())
def test_warping_keeps_the_topology_and_stops_only_where_nothing_is_simple(pair):
    truth, prediction = pair
    target = prediction > 0.4
    warped = warped_cells(truth, target, np.abs(prediction - 0.4).astype(np.float32))
    assert components(warped) == components(truth)
    assert (warped == target)[truth == target].all()
    assert not (BRANCHES[ring_codes(warped)] == 1)[warped != target].any()


def flipped(truth, *places):
    """The slice with the pixels at these places changed."""
    changed = truth.copy()
    for place in places:
        changed[place] = 1 - changed[place]
    return changed


RING_CELL = np.pad(np.pad(np.zeros((2, 2), int), 2, constant_values=1), 1)  # a cell with membrane in it


@pytest.mark.parametrize(
    ("truth", "prediction", "wrong", "mismatches"),
    [
        pytest.param(TRUTH, TRUTH, 0, 0, id="perfect"),
        pytest.param(TRUTH, np.roll(TRUTH, 1, axis=1) | np.eye(1, 9, dtype=int), 0, 0, id="shifted border"),
        pytest.param(TRUTH, np.tile([1, 0, 0, 0, 0, 0, 1, 0, 0], (6, 1)), 0, 0, id="thick membrane"),
        pytest.param(TRUTH, flipped(TRUTH, (2, 3)), 1, 1, id="merger through one pixel"),
        pytest.param(TRUTH, TRUTH | np.eye(1, 9, 3, dtype=int), 6, 6, id="no membrane: every pixel of it merges"),
        pytest.param(TRUTH, flipped(TRUTH, *((1, x) for x in range(3))), 1, 1, id="split: all but one pixel can open"),
        pytest.param(TRUTH, TRUTH * (np.arange(9) < 4), 0, 1, id="lost cell: one pixel is left"),
        pytest.param(TRUTH, flipped(TRUTH, (3, 8)), 0, 1, id="invented cell"),
        pytest.param(TRUTH, flipped(TRUTH, (3, 1)), 0, 1, id="invented hole"),
        pytest.param(RING_CELL, flipped(RING_CELL, (1, 3), (2, 3)), 0, 1, id="cut with a way around: no split"),
        pytest.param(RING_CELL, np.pad(np.ones((6, 6), int), 1), 0, 1, id="filled hole"),
    ],
)
def test_hand_made_cases_have_their_number_of_wrong_pixels(truth, prediction, wrong, mismatches):
    assert warping_error(truth, prediction) * truth.size == pytest.approx(wrong)
    assert warping_error(truth, prediction, counted="mismatches") * truth.size == pytest.approx(mismatches)


def test_the_most_certain_pixels_are_flipped_first():
    # A gap three pixels long merges two cells. Two of its pixels can open, from either side; the third must stay.
    truth = np.tile([1, 1, 0, 0, 0, 1, 1], (3, 1)) > 0
    target = truth | (np.arange(21).reshape(3, 7) // 7 == 1)
    for certain, left in {(0.9, 0.8, 0.1): 4, (0.1, 0.8, 0.9): 2, (0.9, 0.1, 0.8): 3}.items():
        certainty = np.zeros(truth.shape, np.float32)
        certainty[1, 2:5] = certain
        assert np.argwhere(warped_cells(truth, target, certainty) != target).tolist() == [[1, left]]


def test_a_stack_has_the_mean_error_of_its_slices():
    worse = flipped(TRUTH, (2, 3), (4, 3))
    errors = warping_errors([TRUTH, TRUTH], [TRUTH, worse])
    np.testing.assert_allclose(errors, warping_errors(TRUTH, worse) / 2)
    assert errors.item() > 0


def test_what_to_count_must_be_known():
    with pytest.raises(ValueError, match="'splits_and_mergers' or 'mismatches'; it is 'holes'"):
        warping_error(TRUTH, TRUTH, counted="holes")


def test_real_membranes_warp_as_by_the_slow_twin(membranes, wrong):
    membranes, wrong = membranes[:256, :256], wrong[:256, :256]  # the twin labels the slice for every cut
    thresholds = [0.3, 0.6] if wrong.dtype.kind == "f" else [0.0]
    prediction = (wrong if wrong.dtype.kind == "f" else wrong > 0).astype(np.float32)
    expected = np.transpose([expected_errors(membranes, prediction, threshold) for threshold in thresholds])
    for values, counted in zip(expected, ("splits_and_mergers", "mismatches"), strict=True):
        np.testing.assert_allclose(warping_errors(membranes, wrong, thresholds, counted), values, atol=1e-6)


def test_real_membranes_have_no_error_against_themselves(membranes):
    assert warping_error(membranes, membranes, counted="mismatches") == 0
