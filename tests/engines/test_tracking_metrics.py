import math

import numpy as np
import pytest
import torch

from overtile.engines import DetMetric, SegMetric
from overtile.metrics import det, seg, seg_scores

PAIRS = np.random.default_rng(0).integers(0, 5, (6, 2, 1, 5, 5))
PAIRS[:, 1] = np.where(np.random.default_rng(1).random((6, 1, 5, 5)) < 0.7, PAIRS[:, 0], PAIRS[:, 1])
PAIRS[:3] %= 3  # images of two objects, and images of four


def scored(metric, pairs=PAIRS):
    """The metric after a batch of pairs (truth, prediction) of (1, *spatial) arrays."""
    metric(y_pred=torch.as_tensor(np.array([found for _, found in pairs])), y=torch.as_tensor(pairs[:, 0]))
    return metric


@pytest.mark.parametrize(("metric", "measure"), [(SegMetric, seg), (DetMetric, det)], ids=["SEG", "DET"])
def test_the_score_of_all_images_is_that_of_the_sequence_and_a_row_that_of_an_image(metric, measure):
    whole = scored(metric())
    truth, found = PAIRS[:, 0, 0], PAIRS[:, 1, 0]
    assert whole.aggregate() == pytest.approx(measure(truth, found), rel=1e-12)
    assert 0.3 < whole.aggregate() < 1
    rows = whole.get_buffer()
    images = [whole.score(rows[i : i + 1]) for i in range(len(rows))]
    assert images == pytest.approx([measure(*pair) for pair in zip(truth, found, strict=True)], rel=1e-12)
    assert whole.aggregate() != pytest.approx(np.mean(images), rel=1e-3)
    assert whole.higher_is_better


def test_a_volume_is_one_image():
    truth, found = PAIRS[:, 0, 0].transpose(1, 2, 0), PAIRS[:, 1, 0].transpose(1, 2, 0)
    volume = scored(SegMetric(), np.array([[truth[None], found[None]]]))
    assert volume.aggregate() == seg_scores(truth, found).mean() != scored(SegMetric()).aggregate()


def test_an_image_without_objects_changes_nothing_in_seg_and_alone_has_no_score():
    metric = scored(SegMetric())
    before = metric.aggregate()
    empty = torch.zeros(1, 5, 5, dtype=torch.int64)
    metric(y_pred=[empty + 1], y=[empty])
    assert metric.aggregate() == before
    assert math.isnan(metric.score(metric.get_buffer()[-1:]))


def test_prediction_and_markers_are_not_confused():
    marked, merged = torch.tensor([[[1, 0, 2, 0, 3]]]), torch.tensor([[[7, 7, 7, 0, 0]]])
    metric = DetMetric()
    metric(y_pred=merged, y=marked)
    assert metric.get_buffer().tolist() == [[3, 1, 1, 0]]  # markers, splits, misses, false positives


@pytest.mark.parametrize("metric", [SegMetric, DetMetric])
def test_voxels_without_ground_truth_count_in_neither_image(metric):
    truth, found = torch.tensor([[[1, 1, 0, 255, 255, 255]]]), torch.tensor([[[1, 1, 0, 2, 0, 3]]])
    ignoring, looking = metric(ignore_label=255), metric()
    for each in (ignoring, looking):
        each(y_pred=found, y=truth)
    assert ignoring.aggregate() == 1
    assert looking.aggregate() < 1
