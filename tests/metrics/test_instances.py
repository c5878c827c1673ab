from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import linear_sum_assignment

from overtile.metrics import (
    IOU_THRESHOLDS,
    InstanceScores,
    average_precision,
    instance_scores,
    instance_scores_by_threshold,
)

TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0]])
EMPTY = np.zeros_like(TRUTH)


def counts(scores: InstanceScores) -> tuple[int, int, int]:
    return scores.true_positives, scores.false_positives, scores.false_negatives


@st.composite
def label_image_pairs(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=2, max_side=7))
    labels = arrays(np.int64, shape, elements=st.integers(0, 4))
    return draw(labels), draw(labels)


THRESHOLDS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 1.0])


@pytest.mark.parametrize(
    ("prediction", "expected", "summed_iou"),
    [
        pytest.param([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0]], (2, 0, 0), 2.0, id="perfect"),
        pytest.param([[9, 9, 9, 9, 0, 4, 4, 4, 4, 0]], (2, 0, 0), 2.0, id="perfect by other names"),
        pytest.param([[1, 1, 1, 1, 1, 1, 1, 1, 1, 0]], (0, 1, 2), 0.0, id="merge: 4/9 of each"),
        pytest.param([[1, 1, 1, 3, 0, 2, 2, 2, 2, 0]], (2, 1, 0), 1.75, id="split 3 + 1"),
        pytest.param([[1, 1, 3, 3, 0, 2, 2, 2, 2, 0]], (2, 1, 0), 1.5, id="split 2 + 2: a tie, one half matches"),
        pytest.param([[0, 1, 1, 1, 1, 0, 2, 2, 2, 2]], (2, 0, 0), 1.2, id="shift by one: 3/5 each"),
        pytest.param([[0, 0, 1, 1, 1, 1, 0, 0, 0, 0]], (0, 1, 2), 0.0, id="shift by two: 2/6, and a miss"),
        pytest.param([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]], (1, 0, 1), 1.0, id="miss"),
        pytest.param([[1, 1, 1, 1, 0, 2, 2, 2, 2, 3]], (2, 1, 0), 2.0, id="extra"),
        pytest.param(EMPTY, (0, 0, 2), 0.0, id="nothing predicted"),
    ],
)
def test_hand_made_cases_have_their_counts(prediction, expected, summed_iou):
    scores = instance_scores(TRUTH, prediction)
    assert counts(scores) == expected
    assert scores.summed_iou == pytest.approx(summed_iou)


def test_a_pair_at_exactly_the_threshold_matches():
    assert instance_scores([1, 1, 1, 1, 1], [1, 1, 1, 0, 0], iou_threshold=0.6).true_positives == 1
    assert instance_scores([1, 1, 1, 1, 1], [1, 1, 1, 0, 0], iou_threshold=0.61).true_positives == 0


def test_the_most_matches_win_over_the_best_match():
    # IoU: (1, 1) = 4/10, (1, 2) = 3/8, (2, 1) = 2/10, (2, 2) = 0: the best pair would leave the others alone.
    truth = np.repeat([1, 1, 1, 2, 2], [4, 3, 1, 2, 4])
    prediction = np.repeat([1, 2, 0, 1, 0], [4, 3, 1, 2, 4])
    scores = instance_scores(truth, prediction, iou_threshold=0.15)
    assert counts(scores) == (2, 0, 0)
    assert scores.summed_iou == pytest.approx(3 / 8 + 2 / 10)


def test_ratios_are_those_of_their_formulas():
    scores = InstanceScores(0.5, true_positives=6, false_positives=2, false_negatives=4, summed_iou=4.5)
    assert (scores.precision, scores.recall, scores.mean_matched_iou) == (6 / 8, 6 / 10, 0.75)
    assert scores.f1 == pytest.approx(2 * 6 / (2 * 6 + 2 + 4))
    assert scores.panoptic_quality == pytest.approx(4.5 / (6 + 2 / 2 + 4 / 2))
    assert scores.average_precision == 6 / (6 + 2 + 4)


RATIOS = ("precision", "recall", "f1", "average_precision", "mean_matched_iou", "panoptic_quality")


def test_nothing_in_both_images_is_perfect():
    assert [getattr(instance_scores(EMPTY, EMPTY), ratio) for ratio in RATIOS] == [1.0] * len(RATIOS)


@pytest.mark.parametrize(("truth", "prediction"), [(TRUTH, EMPTY), (EMPTY, TRUTH)], ids=["all missed", "all invented"])
def test_nothing_in_one_image_is_zero(truth, prediction):
    assert [getattr(instance_scores(truth, prediction), ratio) for ratio in RATIOS] == [0.0] * len(RATIOS)


def test_scores_of_two_images_add_to_those_of_the_images_side_by_side():
    only_second = np.where(TRUTH == 1, 0, TRUTH)
    pooled = instance_scores(TRUTH, only_second) + instance_scores(only_second, TRUTH)
    side_by_side = instance_scores(np.hstack([TRUTH, only_second * 10]), np.hstack([only_second, TRUTH * 10]))
    assert pooled == side_by_side == InstanceScores(0.5, 2, 1, 1, summed_iou=2.0)


def test_scores_at_two_thresholds_do_not_add():
    scores = instance_scores(TRUTH, TRUTH)
    with pytest.raises(ValueError, match=r"one IoU threshold; these were counted at 0.5 and 0.7"):
        scores + replace(scores, iou_threshold=0.7)
    with pytest.raises(TypeError):
        scores + 1


class TestIgnoredVoxels:
    def test_they_count_in_neither_image(self):
        # Outside the last two voxels of object 2 the prediction is perfect.
        prediction = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 0, 0]])
        ignore = np.array([[0, 0, 0, 0, 0, 0, 0, 1, 1, 0]], dtype=bool)
        assert instance_scores(TRUTH, prediction, ignore=ignore).summed_iou == 2.0

    @pytest.mark.parametrize(("ignored", "false_positives"), [(1, 1), (2, 1), (3, 0), (4, 0)])
    def test_an_extra_object_mostly_among_them_is_excused(self, ignored, false_positives):
        ignore = np.arange(4) < ignored
        scores = instance_scores(np.zeros(4, int), np.full(4, 5), ignore=ignore)
        assert counts(scores) == (0, false_positives, 0)

    def test_an_object_mostly_among_them_may_still_match(self):
        ignore = np.array([0, 1, 1, 1], dtype=bool)
        assert counts(instance_scores([1, 0, 0, 0], [1, 1, 1, 1], ignore=ignore)) == (1, 0, 0)

    def test_a_true_object_all_among_them_is_not_missed(self):
        assert counts(instance_scores(TRUTH, EMPTY, ignore=TRUTH == 2)) == (0, 0, 1)

    def test_they_may_carry_a_negative_mark_in_the_truth(self):
        truth = np.array([1, 1, -1, -1])
        assert counts(instance_scores(truth, [1, 1, 2, 0], ignore=truth == -1)) == (1, 0, 0)

    def test_their_mask_must_be_boolean_and_as_large_as_the_images(self):
        with pytest.raises(TypeError, match="boolean mask, it has uint8"):
            instance_scores(TRUTH, TRUTH, ignore=np.zeros(TRUTH.shape, np.uint8))
        with pytest.raises(ValueError, match=r"shape of the label images \(1, 10\); it has \(10,\)"):
            instance_scores(TRUTH, TRUTH, ignore=np.zeros(10, bool))


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, 50, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]; it is"):
        instance_scores(TRUTH, TRUTH, iou_threshold=threshold)


def test_images_of_unequal_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        instance_scores(TRUTH, TRUTH[:, 1:])


def dense_iou(truth, prediction):
    """All pairs of objects, each by its two masks."""
    masks = [[image == i for i in np.unique(image[image > 0])] for image in (truth, prediction)]
    table = [[(t & p).sum() / (t | p).sum() for p in masks[1]] for t in masks[0]]
    return np.array(table).reshape(len(masks[0]), len(masks[1]))


@given(label_image_pairs(), THRESHOLDS)
def test_scores_are_those_of_a_dense_assignment_over_all_pairs(pair, threshold):
    iou = dense_iou(*pair)
    allowed = iou >= threshold
    # A match is worth more than the IoU of all matches together; as in stardist.matching.
    rows, columns = linear_sum_assignment(allowed * (iou + 10.0), maximize=True)
    matched = allowed[rows, columns]
    scores = instance_scores(*pair, iou_threshold=threshold)
    true_positives = matched.sum()
    assert counts(scores) == (true_positives, iou.shape[1] - true_positives, iou.shape[0] - true_positives)
    assert scores.summed_iou == pytest.approx(iou[rows, columns][matched].sum())


@given(label_image_pairs(), THRESHOLDS)
def test_swapping_the_images_swaps_invented_and_missed(pair, threshold):
    truth, prediction = pair
    scores, swapped = (instance_scores(*p, iou_threshold=threshold) for p in [(truth, prediction), (prediction, truth)])
    assert counts(swapped) == (scores.true_positives, scores.false_negatives, scores.false_positives)
    assert swapped.summed_iou == pytest.approx(scores.summed_iou)


@given(label_image_pairs(), THRESHOLDS, st.permutations([3, 17, 10**6, 2**40]))
def test_renaming_the_objects_changes_nothing(pair, threshold, names):
    truth, prediction = pair
    renamed = instance_scores(truth, np.array([0, *names])[prediction], iou_threshold=threshold)
    scores = instance_scores(truth, prediction, iou_threshold=threshold)
    assert counts(renamed) == counts(scores)
    assert renamed.summed_iou == pytest.approx(scores.summed_iou)


@given(label_image_pairs(), st.data())
def test_what_is_ignored_is_as_if_cut_out(pair, data):
    truth, prediction = pair
    ignore = data.draw(arrays(bool, truth.shape))
    scores = instance_scores(truth, prediction, ignore=ignore)
    cut = instance_scores(truth[~ignore], prediction[~ignore])
    assert (scores.true_positives, scores.false_negatives) == (cut.true_positives, cut.false_negatives)
    assert scores.false_positives <= cut.false_positives


class TestSeveralThresholds:
    @given(label_image_pairs(), st.data())
    def test_scores_are_those_of_each_threshold_alone(self, pair, data):
        ignore = data.draw(st.none() | arrays(bool, pair[0].shape))
        thresholds = data.draw(st.lists(THRESHOLDS, min_size=1, max_size=4))
        alone = [instance_scores(*pair, iou_threshold=threshold, ignore=ignore) for threshold in thresholds]
        assert instance_scores_by_threshold(*pair, thresholds, ignore) == alone

    @given(label_image_pairs())
    def test_average_precision_is_that_of_the_dense_table(self, pair):
        iou = dense_iou(*pair)
        for threshold, value in zip((0.55, 0.75, 0.95), average_precision(*pair, (0.55, 0.75, 0.95)), strict=True):
            found = (iou >= threshold).sum()  # above 0.5 no object has two partners
            union = sum(iou.shape) - found
            assert value == (found / union if union else 1)

    def test_a_pair_counts_at_every_threshold_up_to_its_iou(self):
        # IoU 11/20 and 19/20: floats near 0.55 and 0.95, which a sum of steps of 0.05 misses.
        truth = np.repeat([1, 1, 0, 2, 2], [11, 9, 5, 19, 1])
        prediction = np.repeat([1, 0, 0, 2, 0], [11, 9, 5, 19, 1])
        ap = average_precision(truth, prediction)
        assert ap.tolist() == [1.0, 1.0, *[1 / 3] * 8]
        f1 = [scores.f1 for scores in instance_scores_by_threshold(truth, prediction)]
        assert f1 == [1.0, 1.0, *[0.5] * 8]

    def test_they_are_those_of_the_data_science_bowl(self):
        np.testing.assert_allclose(IOU_THRESHOLDS, np.linspace(0.5, 0.95, 10))

    def test_one_outside_its_range_and_none_at_all_are_refused(self):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\]; it is 1.5"):
            average_precision(TRUTH, TRUTH, (0.5, 1.5))
        with pytest.raises(ValueError, match="one IoU threshold at least; none came"):
            average_precision(TRUTH, TRUTH, ())


def test_many_contested_objects_are_matched_in_time():
    # A row of 4000 objects of 4 voxels, predicted half an object further: every object has two rivals, IoU 1/3 each.
    truth = np.repeat(np.arange(1, 4001), 4)
    prediction = np.concatenate([np.zeros(2, int), truth[:-2]])
    assert counts(instance_scores(truth, prediction, iou_threshold=0.3)) == (4000, 0, 0)
