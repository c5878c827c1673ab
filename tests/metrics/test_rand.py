from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import label, shannon_entropy
from skimage.metrics import adapted_rand_error, variation_of_information

from overtile.metrics import rand_error, rand_errors, v_info, v_info_scores, v_rand, v_rand_scores
from overtile.metrics.membranes import TENTHS
from overtile.metrics.thinning import thinned_cells

ROW = np.repeat([1, 0, 1, 0, 1], [4, 1, 4, 1, 8])  # three cells of 4, 4 and 8 pixels
TRUTH = ROW[None]
MASKS = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))


@pytest.mark.parametrize(
    ("prediction", "rand", "thinned_rand", "information"),
    [
        pytest.param(ROW, 0, 1, 1, id="perfect"),
        # 2 * 96 / (96 + 128); mutual information 1 bit, entropies 1.5 and 1 bit
        pytest.param(np.repeat([1, 0, 1], [9, 1, 8]), 1 / 7, 6 / 7, 0.8, id="merger of 4 and 4"),
        # the pixel of the cut is an object of its own, thinned or not: 16 + 16 + 9 + 1 + 16 = 58 of 96 pairs are left
        pytest.param(
            np.repeat([1, 0, 1, 0, 1, 0, 1], [4, 1, 4, 1, 3, 1, 4]), 1 - 2 * 58 / 154, 2 * 58 / 154, None, id="split"
        ),
        pytest.param(np.ones(18), 1 - 2 * 96 / (96 + 256), 2 * 96 / (96 + 256), 0, id="one cell"),
        # without cells every pixel is alone, but after thinning the slice is one basin
        pytest.param(np.zeros(18), 1 - 2 * 16 / (96 + 16), 2 * 96 / (96 + 256), 0, id="no cell"),
        # thick membranes cost nothing after thinning
        pytest.param(np.repeat([1, 0, 1, 0, 1], [3, 3, 2, 3, 7]), 1 - 2 * 66 / 162, 1, 1, id="thick membranes"),
    ],
)
def test_hand_made_cases_have_their_scores(prediction, rand, thinned_rand, information):
    prediction = np.asarray(prediction, dtype=int)[None]
    assert rand_error(TRUTH, prediction) == pytest.approx(rand)
    assert v_rand(TRUTH, prediction) == pytest.approx(thinned_rand)
    if information is not None:
        assert v_info(TRUTH, prediction) == pytest.approx(information)


def test_one_cell_that_is_found_is_perfect():
    assert v_info(np.ones((3, 3)), np.ones((3, 3))) == v_rand(np.ones((3, 3)), np.ones((3, 3))) == 1


def test_the_best_threshold_counts():
    prediction = np.where(TRUTH, 0.65, 0.35)
    assert v_rand(TRUTH, prediction) == v_info(TRUTH, prediction) == 1
    assert rand_error(TRUTH, prediction) == 0
    assert v_rand_scores(TRUTH, prediction, [0.3]).item() == pytest.approx(2 * 96 / (96 + 256))


def stack_of_slices():
    random = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(random.normal(size=(2, 3, 24, 24)), (0, 0, 2, 2))
    truth, prediction = fields[0] > -0.05, (0.5 + 2 * fields[0] + fields[1]).clip(0, 1)
    truth[0] |= random.random((24, 24)) < 0.5  # slices of different difficulty
    return truth, prediction


@pytest.mark.parametrize("curve", [v_rand_scores, v_info_scores])
def test_thinned_scores_of_a_stack_are_means_over_its_slices(curve):
    truth, prediction = stack_of_slices()
    each = [curve(t, p) for t, p in zip(truth, prediction, strict=True)]
    np.testing.assert_allclose(curve(truth, prediction), np.mean(each, axis=0))


@pytest.mark.parametrize(("best", "curve"), [(v_rand, v_rand_scores), (v_info, v_info_scores)])
def test_the_best_threshold_is_that_of_the_stack(best, curve):
    truth, prediction = stack_of_slices()
    assert best(truth, prediction) == curve(truth, prediction).max()
    assert best(truth, prediction) < np.mean([best(t, p) for t, p in zip(truth, prediction, strict=True)])


def test_pairs_of_all_slices_count_together_in_the_unthinned_error():
    truth, prediction = stack_of_slices()
    side_by_side = [np.hstack(np.pad(stack, ((0, 0), (0, 0), (0, 1)))) for stack in (truth, prediction)]
    together = rand_errors(*side_by_side)
    np.testing.assert_allclose(rand_errors(truth, prediction), together)
    apart = np.mean([rand_errors(t, p) for t, p in zip(truth, prediction, strict=True)], axis=0)
    assert np.abs(apart - together).max() > 0.01


def slow_watershed(interior):
    """Vincent and Soille's flooding with a label image, states as words and columns first, as Fiji scans."""
    height, width = interior.shape

    def around(x, y):
        places = [(x - 1, y), (x, y - 1), (x + 1, y), (x, y + 1)]
        return [(a, b) for a, b in places if 0 <= a < width and 0 <= b < height]

    cells = label(interior, connectivity=1)
    state = {(x, y): int(cells[y, x]) or "dry" for x in range(width) for y in range(height)}
    shore = [at for at in state if state[at] == "dry" and any(isinstance(state[n], int) for n in around(*at))]
    state.update(dict.fromkeys(shore, "queued"))
    queue = deque(shore)
    while queue:
        at = queue.popleft()
        seen = {state[n] for n in around(*at) if isinstance(state[n], int)}
        for n in around(*at):
            if state[n] == "dry":
                state[n] = "queued"
                queue.append(n)
        state[at] = seen.pop() if len(seen) == 1 else "line"
    lines = {"line": 0, "dry": 1}  # dry is left only where there is no cell at all
    return np.array([[lines.get(state[x, y], state[x, y]) for x in range(width)] for y in range(height)])


@given(MASKS)
def test_thinning_is_the_flooding_of_the_membranes(interior):
    np.testing.assert_array_equal(thinned_cells(interior), slow_watershed(interior))


@given(MASKS)
def test_thinned_cells_keep_their_pixels_and_never_touch(interior):
    thinned = thinned_cells(interior)
    if interior.any():
        np.testing.assert_array_equal(thinned[interior], label(interior, connectivity=1)[interior])
    for axis in (0, 1):
        a, b = np.moveaxis(thinned, axis, 0)[1:], np.moveaxis(thinned, axis, 0)[:-1]
        assert not ((a != b) & (a > 0) & (b > 0)).any()
    for number in np.unique(thinned[thinned > 0]):
        assert ndimage.label(thinned == number)[1] == 1


def test_a_broad_membrane_becomes_a_line():
    interior = np.repeat([[True, False, True]], [3, 5, 3], axis=1).repeat(4, axis=0)
    np.testing.assert_array_equal(thinned_cells(interior) == 0, np.tile(np.arange(11) == 5, (4, 1)))


def singletons(labels):
    """Every membrane pixel an object of its own."""
    return np.where(labels > 0, labels, labels.max() + 1 + np.arange(labels.size).reshape(labels.shape))


def peers_rand(cells, objects):
    """The F score from scikit-image's, which leaves out the pairs of a pixel with itself that the challenge counts."""
    error, _, _ = adapted_rand_error(cells, singletons(objects), ignore_labels=[0])
    inside = cells > 0
    sizes = [np.bincount(labels[inside]).astype(float) for labels in (cells, singletons(objects))]
    with_itself = inside.sum()
    pairs = sum((size**2).sum() for size in sizes) / 2
    return ((1 - error) * (pairs - with_itself) + with_itself) / pairs


def peers_information(cells, objects):
    """``2 I / (H(T) + H(S))`` from scikit-image's entropies in bits."""
    split, merged = variation_of_information(cells, singletons(objects), ignore_labels=[0])  # H(S|T), H(T|S)
    entropy = shannon_entropy(cells[cells > 0])
    shared = entropy - merged
    return 2 * shared / (entropy + shared + split)


def test_real_membranes_are_scored_as_by_scikit_image(membranes, wrong):
    cells = label(membranes > 0, connectivity=1)
    thresholds = TENTHS[1:10:2] if wrong.dtype.kind == "f" else [0.0]
    expected = {rand_errors: [], v_rand_scores: [], v_info_scores: []}
    for threshold in thresholds:
        interior = wrong > np.float64(threshold)
        thinned = thinned_cells(interior)
        expected[rand_errors].append(1 - peers_rand(cells, label(interior, connectivity=1)))
        expected[v_rand_scores].append(peers_rand(cells, thinned))
        expected[v_info_scores].append(peers_information(cells, thinned))
    for curve, values in expected.items():
        np.testing.assert_allclose(curve(membranes, wrong, thresholds), values, atol=1e-6)


def test_real_membranes_are_thinned_as_by_the_slow_watershed(membranes, wrong):
    interior = (wrong > 0.5)[:256, :256]
    np.testing.assert_array_equal(thinned_cells(interior), slow_watershed(interior))


def test_real_membranes_are_perfect_against_themselves(membranes):
    assert v_rand(membranes, membranes) == 1
    assert v_info(membranes, membranes) == pytest.approx(1)
    assert rand_error(membranes, membranes) == 0


def test_thinning_forgives_thick_membranes(membranes):
    thick = ndimage.binary_erosion(membranes)
    assert v_rand(membranes, thick) > 0.99 > 1 - rand_error(membranes, thick)


@settings(max_examples=30)
@given(st.data())
def test_scores_stay_between_0_and_1_and_only_the_same_cells_are_perfect(data):
    truth = data.draw(MASKS.filter(np.any))
    prediction = data.draw(arrays(bool, truth.shape))
    scores = [v_rand(truth, prediction), v_info(truth, prediction), 1 - rand_error(truth, prediction)]
    assert all(0 <= score <= 1 for score in scores)
    assert v_rand(truth, truth) == 1
    assert v_info(truth, truth) == pytest.approx(1)
