import numpy as np
import pytest

from overtile.metrics import pixel_errors, rand_errors, v_info_scores, v_rand_scores, warping_errors
from overtile.metrics.membranes import TENTHS, membrane_stack

TRUTH = np.array([[255, 255, 0, 255]], dtype=np.uint8)
CURVES = pytest.mark.parametrize("curve", [pixel_errors, rand_errors, v_info_scores, v_rand_scores, warping_errors])


@CURVES
def test_probabilities_are_scored_at_the_challenges_thresholds(curve):
    thresholds = 10 if curve is warping_errors else 11
    assert curve(TRUTH, TRUTH / 255).shape == (thresholds,)
    assert curve(TRUTH, TRUTH / 255, thresholds=[0.5]).shape == (1,)


@CURVES
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_labels_are_scored_at_the_one_threshold_0(curve, dtype):
    labels = TRUTH.astype(dtype)
    np.testing.assert_array_equal(curve(TRUTH, labels), curve(TRUTH, (labels > 0).astype(float), thresholds=[0]))


@CURVES
def test_numbers_of_the_true_cells_do_not_matter(curve):
    prediction = np.array([[0.9, 0.4, 0.6, 0.8]])
    np.testing.assert_array_equal(curve([[7, 7, 0, 3]], prediction), curve(TRUTH, prediction))


def test_the_last_of_eleven_thresholds_lies_just_below_1_as_ten_times_a_tenth_does():
    assert len(TENTHS) == 11
    assert TENTHS[0] == 0
    assert TENTHS[-1] == np.nextafter(1, 0)
    assert membrane_stack(TRUTH, TRUTH / 255, None).cells(np.float64(TENTHS[-1])).any()


def test_probabilities_have_32_bits_and_thresholds_64_as_in_imagej():
    tenth = membrane_stack(TRUTH, np.full(TRUTH.shape, 0.1), None)  # 0.1 is 0.100000001490116 in 32 bits
    assert tenth.cells(np.float64(0.1)).all()
    assert not membrane_stack(TRUTH, np.full(TRUTH.shape, 0.3), None).cells(np.float64(0.5)).any()


@CURVES
@pytest.mark.parametrize(
    ("truth", "prediction", "thresholds", "error", "message"),
    [
        pytest.param(TRUTH, TRUTH[:, 1:], None, ValueError, r"they have \(1, 4\) and \(1, 3\)", id="unequal shapes"),
        pytest.param(TRUTH[0], TRUTH[0], None, ValueError, r"one slice \(H, W\) or a stack", id="no image"),
        pytest.param(TRUTH[:0], TRUTH[:0], None, ValueError, "one slice", id="no pixel"),
        pytest.param(TRUTH, TRUTH.astype(float), None, ValueError, "0.0 to 255.0 came. Scale them", id="0 to 255"),
        pytest.param(TRUTH, TRUTH * np.nan, None, ValueError, "must lie in", id="NaN"),
        pytest.param(
            TRUTH, TRUTH / 255, [0.5, 1.5], ValueError, r"numbers in \[0, 1\]; \[0.5 1.5\] came", id="above 1"
        ),
        pytest.param(TRUTH, TRUTH / 255, [], ValueError, r"numbers in \[0, 1\]", id="no threshold"),
        pytest.param(TRUTH, TRUTH / 255, 0.5, ValueError, "a list of numbers", id="no list"),
        pytest.param(TRUTH, TRUTH.astype(str), None, TypeError, "probabilities or labels", id="text"),
    ],
)
def test_what_cannot_be_scored_is_refused(curve, truth, prediction, thresholds, error, message):
    with pytest.raises(error, match=message):
        curve(truth, prediction, thresholds)


@pytest.mark.parametrize("curve", [rand_errors, v_info_scores, v_rand_scores])
def test_a_slice_without_a_true_cell_has_no_score(curve):
    with pytest.raises(ValueError, match="every slice of truth must have a cell"):
        curve([TRUTH, 0 * TRUTH], [TRUTH, TRUTH])
