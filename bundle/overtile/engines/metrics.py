"""Scores of a validation, as MONAI metrics and Ignite handlers: their pooling, and matched instances."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from overtile.metrics import IOU_THRESHOLDS, InstanceScores, instance_scores, instance_scores_by_threshold

Image = npt.NDArray[Any]  # one image, channel first: (C, *spatial)


class PooledMetric(CumulativeIterationMetric):
    """A metric that keeps one row of statistics of each image, and scores any of the rows together.

    So the buffer tells the score of all images, ``score(buffer)``, and that of image ``i``,
    ``score(buffer[i : i + 1])``. All rows are equally wide, as several processes need to gather them.

    Attributes:
        higher_is_better: false of an error. An evaluator then needs ``metric_cmp_fn`` to keep the best.
    """

    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def statistics(self, prediction: Image, truth: Image) -> Sequence[float]:
        """The row of one image; both are (C, *spatial)."""

    @abstractmethod
    def score(self, rows: torch.Tensor) -> float:
        """The score of the images with these rows (n, k)."""

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        """The rows (B, k) of a batch."""
        if y is None:
            raise ValueError(f"{type(self).__name__} compares a prediction with a truth: y is missing")
        rows = [self.statistics(p.cpu().numpy(), t.cpu().numpy()) for p, t in zip(y_pred, y, strict=True)]
        return torch.tensor(rows, dtype=torch.float64)

    def aggregate(self) -> float:
        """The score of all images since the last reset."""
        rows = self.get_buffer()
        if rows is None or not len(rows):
            raise ValueError("no image has been scored yet")
        return self.score(rows)


class PooledMetricHandler(IgniteMetricHandler):
    """Ignite form of a :class:`PooledMetric`, for an evaluator's ``key_val_metric`` or ``additional_metrics``.

    Args:
        arguments: the metric's own.
        output_transform: picks (prediction, truth) out of the evaluator's output.
        options: the metric's own, by name.
    """

    metric: ClassVar[type[PooledMetric]]

    def __init__(
        self, *arguments: Any, output_transform: Callable[[Any], Any] = lambda output: output, **options: Any
    ) -> None:
        super().__init__(metric_fn=self.metric(*arguments, **options), output_transform=output_transform)


class _MatchedInstances(PooledMetric):
    def __init__(self, iou_threshold: float = 0.5, ignore_label: int | None = None) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.ignore_label = ignore_label

    def statistics(self, prediction: Image, truth: Image) -> Sequence[float]:
        """True positives, false positives, false negatives and summed IoU."""
        s = instance_scores(truth, prediction, self.iou_threshold, ignored(truth, self.ignore_label))
        return [s.true_positives, s.false_positives, s.false_negatives, s.summed_iou]

    def _pooled(self, rows: torch.Tensor) -> InstanceScores:
        tp, fp, fn, iou = (float(value) for value in rows.sum(dim=0))
        return InstanceScores(self.iou_threshold, int(tp), int(fp), int(fn), iou)


class InstanceF1Metric(_MatchedInstances):
    """F1 of matched instances, with the counts of all images pooled; 1 if there was nothing to find and nothing found.

    Args:
        iou_threshold: least intersection over union of a match.
        ignore_label: value of voxels without ground truth; they count in neither image.
    """

    def score(self, rows: torch.Tensor) -> float:
        """F1 of the summed counts."""
        return self._pooled(rows).f1


class PanopticQualityMetric(_MatchedInstances):
    """Panoptic quality of the instances (Kirillov et al. 2019, arXiv:1801.00868), counts of all images pooled.

    Args:
        iou_threshold: least intersection over union of a match.
        ignore_label: value of voxels without ground truth; they count in neither image.
    """

    def score(self, rows: torch.Tensor) -> float:
        """Panoptic quality of the summed counts."""
        return self._pooled(rows).panoptic_quality


class AveragePrecisionMetric(PooledMetric):
    """Mean over the thresholds of the average precision ``TP / (TP + FP + FN)``, counts of all images pooled.

    Args:
        iou_thresholds: least intersection over union of a match; 0.5 to 0.95 in steps of 0.05 if not given.
        ignore_label: value of voxels without ground truth; they count in neither image.
    """

    def __init__(self, iou_thresholds: Sequence[float] = IOU_THRESHOLDS, ignore_label: int | None = None) -> None:
        super().__init__()
        self.iou_thresholds = tuple(iou_thresholds)
        self.ignore_label = ignore_label

    def statistics(self, prediction: Image, truth: Image) -> Sequence[float]:
        """True positives, false positives and false negatives at each threshold."""
        scores = instance_scores_by_threshold(truth, prediction, self.iou_thresholds, ignored(truth, self.ignore_label))
        return [count for s in scores for count in (s.true_positives, s.false_positives, s.false_negatives)]

    def score(self, rows: torch.Tensor) -> float:
        """The mean over the thresholds, each of the summed counts."""
        counts = rows.sum(dim=0).long().reshape(-1, 3).tolist()
        scores = [
            InstanceScores(threshold, tp, fp, fn, summed_iou=0)
            for threshold, (tp, fp, fn) in zip(self.iou_thresholds, counts, strict=True)
        ]
        return float(np.mean([s.average_precision for s in scores]))


class InstanceF1(PooledMetricHandler):
    """Ignite form of :class:`InstanceF1Metric`."""

    metric = InstanceF1Metric


class PanopticQuality(PooledMetricHandler):
    """Ignite form of :class:`PanopticQualityMetric`."""

    metric = PanopticQualityMetric


class AveragePrecision(PooledMetricHandler):
    """Ignite form of :class:`AveragePrecisionMetric`."""

    metric = AveragePrecisionMetric


def ignored(truth: Image, ignore_label: int | None) -> npt.NDArray[np.bool_] | None:
    """The mask of the voxels without ground truth, if there can be any."""
    return None if ignore_label is None else truth == ignore_label
