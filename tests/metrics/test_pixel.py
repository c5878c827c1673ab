import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overtile.metrics import pixel_error, pixel_errors

TRUTH = np.array([[1, 1, 1, 0, 1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        pytest.param(TRUTH, 0.0, id="perfect"),
        pytest.param(1 - TRUTH, 1.0, id="all wrong"),
        pytest.param([[1, 1, 1, 1, 1, 1, 0, 0]], 1 - 10 / 11, id="one cell pixel too many"),
        pytest.param([[1, 1, 1, 0, 1, 0, 0, 0]], 1 - 8 / 9, id="one too few"),
        pytest.param([[0, 0, 0, 0, 0, 0, 0, 0]], 1.0, id="nothing found"),
        pytest.param([[1, 1, 1, 1, 1, 1, 1, 1]], 1 - 10 / 13, id="cell everywhere"),
    ],
)
def test_hand_made_cases_have_their_error(prediction, expected):
    assert pixel_error(TRUTH, prediction) == pytest.approx(expected)


def test_nothing_to_find_and_nothing_found_is_no_error():
    assert pixel_error(0 * TRUTH, 0 * TRUTH) == 0


def test_the_best_threshold_counts():
    prediction = np.where(TRUTH, 0.65, 0.35)
    assert pixel_error(TRUTH, prediction) == 0
    np.testing.assert_array_equal(pixel_errors(TRUTH, prediction, [0.4, 0.6]), [0, 0])
    assert pixel_errors(TRUTH, prediction, [0.3]).item() == pytest.approx(1 - 10 / 13)


@given(st.data())
def test_errors_are_those_of_sets_of_pixels(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
    truth = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 255])))
    prediction = data.draw(arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
    thresholds = [0.0, 0.25, 0.5, 0.75]
    true = {*zip(*np.nonzero(truth), strict=True)}
    for threshold, error in zip(thresholds, pixel_errors(truth, prediction, thresholds), strict=True):
        found = {*zip(*np.nonzero(prediction > threshold), strict=True)}
        sizes = len(true) + len(found)
        assert error == pytest.approx(1 - 2 * len(true & found) / sizes if sizes else 0)


def test_pixels_of_all_slices_count_together():
    random = np.random.default_rng(0)
    truth = random.random((3, 8, 9)) > np.array([0.1, 0.4, 0.9])[:, None, None]
    prediction = random.random(truth.shape)
    together = pixel_errors(np.hstack(truth), np.hstack(prediction))
    np.testing.assert_allclose(pixel_errors(truth, prediction), together)
    apart = np.mean([pixel_errors(t, p) for t, p in zip(truth, prediction, strict=True)], axis=0)
    assert np.abs(apart - together).max() > 0.01
