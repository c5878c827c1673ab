import math

import numpy as np
import pytest
import torch
from monai.handlers import HausdorffDistance, IgniteMetricHandler, MeanDice
from monai.metrics import CumulativeIterationMetric

from overtile.engines import InstanceF1
from overtile.engines.image_scores import best_median_worst, class_means, higher_is_better, image_scores


class Squares(CumulativeIterationMetric):
    """Keeps two numbers of an image; the score is the sum of all."""

    higher_is_better = False

    def _compute_tensor(self, y_pred, y=None, **_):
        return y_pred**2

    def score(self, rows):
        return float(rows.sum())

    def aggregate(self):
        return self.score(self.get_buffer())


def seen(metric, *batches):
    """An Ignite handler of the metric that has seen these predictions and truths."""
    handler = metric if isinstance(metric, IgniteMetricHandler) else IgniteMetricHandler(metric_fn=metric)
    for batch in batches:
        handler.update(batch)
    return handler


def one_hot(rows, classes):
    return torch.nn.functional.one_hot(torch.tensor(rows), classes).movedim(-1, 0)[None].float()


def test_a_metric_says_itself_what_an_images_row_is_worth():
    handler = seen(Squares(), (torch.tensor([[1.0, 2.0], [3.0, 0.0]]), None), (torch.tensor([[0.0, 1.0]]), None))
    assert image_scores({"error": handler}) == [{"error": 5.0}, {"error": 9.0}, {"error": 1.0}]


def test_f1_of_instances_is_that_of_each_image_alone():
    truth = torch.tensor([[[[1, 1, 0, 2, 2]]], [[[0, 0, 0, 0, 0]]]])
    found = torch.tensor([[[[1, 1, 0, 0, 0]]], [[[0, 0, 0, 0, 0]]]])
    handler = seen(InstanceF1(), (found, truth))
    assert image_scores({"val_f1": handler}) == [{"val_f1": pytest.approx(2 / 3)}, {"val_f1": 1.0}]


def test_of_several_classes_there_is_a_column_each_and_their_mean_under_the_name():
    truth, found = one_hot([[0, 1], [1, 2]], 4), one_hot([[0, 1], [2, 2]], 4)
    (scores,) = image_scores({"dice": seen(MeanDice(include_background=False), (found, truth))})
    assert scores == {
        "dice": pytest.approx(2 / 3),
        "dice_1": pytest.approx(2 / 3),
        "dice_2": pytest.approx(2 / 3),
        "dice_3": None,
    }
    with_background = image_scores({"dice": seen(MeanDice(include_background=True), (found, truth))})
    assert list(with_background[0]) == ["dice", "dice_0", "dice_1", "dice_2", "dice_3"]


def test_one_class_is_one_column_and_what_is_no_number_is_none():
    empty, full = one_hot([[0, 0]], 2), one_hot([[0, 1]], 2)
    handler = seen(HausdorffDistance(include_background=False), (full, full), (full, empty), (empty, empty))
    assert image_scores({"distance": handler}) == [{"distance": 0.0}, {"distance": None}, {"distance": None}]


def test_metrics_without_rows_of_images_are_passed_over():
    class Nothing:
        pass

    unseen = seen(MeanDice())
    assert image_scores({}) == image_scores({"other": Nothing(), "dice": unseen}) == []


def test_columns_have_means_over_the_images_with_a_value():
    assert class_means([{"a": 1.0, "b": None}, {"a": 0.5, "b": None}]) == {"a": 0.75, "b": None}
    assert class_means([]) == {}


def test_scores_errors_and_distances_are_told_apart():
    metrics = {"f1": InstanceF1(), "dice": MeanDice(), "far": HausdorffDistance(), "error": seen(Squares()), "x": None}
    assert higher_is_better(metrics) == {"f1": True, "dice": True, "far": False, "error": False}


@pytest.mark.parametrize(
    ("scores", "higher", "expected"),
    [
        ([0.1, 0.3, 0.2], True, [("best", 1), ("median", 2), ("worst", 0)]),
        ([0.1, 0.3, 0.2], False, [("best", 0), ("median", 2), ("worst", 1)]),
        ([0.1, 0.3], True, [("best", 1), ("worst", 0)]),
        ([None, 0.3], True, [("image 1", 0), ("image 2", 1)]),
        ([None] * 5, True, [("image 1", 0), ("image 2", 1), ("image 3", 2)]),
        ([], True, []),
    ],
)
def test_the_images_to_be_shown_are_the_best_the_median_and_the_worst(scores, higher, expected):
    assert best_median_worst(scores, higher) == expected


def test_a_mean_over_classes_leaves_out_what_is_infinite():
    class Rows(CumulativeIterationMetric):
        def _compute_tensor(self, y_pred, y=None, **_):
            return y_pred

        def aggregate(self):
            return 0.0

    (scores,) = image_scores({"far": seen(Rows(), (torch.tensor([[2.0, math.inf, np.nan]]), None))})
    assert scores == {"far": 2.0, "far_0": 2.0, "far_1": None, "far_2": None}
