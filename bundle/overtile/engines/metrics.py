"""Scores of a validation, as MONAI metrics and Ignite handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from overtile.metrics import InstanceScores, instance_scores


class InstanceF1Metric(CumulativeIterationMetric):
    """F1 of matched instances, with the counts of all images pooled.

    Args:
        iou_threshold: least intersection over union of a match.
        ignore_label: value of voxels without ground truth; they count in neither image.
    """

    def __init__(self, iou_threshold: float = 0.5, ignore_label: int | None = None) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.ignore_label = ignore_label

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        """Counts (B, 4) of each image: true positives, false positives, false negatives, summed IoU."""
        if y is None:
            raise ValueError("instance F1 compares a prediction with a truth: y is missing")
        rows = []
        for predicted, truth in zip(y_pred, y, strict=True):
            label = truth.cpu().numpy()
            ignored = None if self.ignore_label is None else label == self.ignore_label
            s = instance_scores(label, predicted.cpu().numpy(), self.iou_threshold, ignored)
            rows.append([s.true_positives, s.false_positives, s.false_negatives, s.summed_iou])
        return torch.tensor(rows, dtype=torch.float64)

    def aggregate(self) -> float:
        """F1 over all images so far; 1 if there was nothing to find and nothing was found."""
        counts = self.get_buffer()
        if counts is None or not len(counts):
            raise ValueError("no image has been scored yet")
        tp, fp, fn, iou = (float(value) for value in counts.sum(dim=0))
        return InstanceScores(self.iou_threshold, int(tp), int(fp), int(fn), iou).f1


class InstanceF1(IgniteMetricHandler):
    """Ignite form of :class:`InstanceF1Metric`, for an evaluator's ``key_val_metric``.

    Args:
        iou_threshold: least intersection over union of a match.
        ignore_label: value of voxels without ground truth.
        output_transform: picks (prediction, truth) out of the evaluator's output.
    """

    def __init__(
        self,
        iou_threshold: float = 0.5,
        ignore_label: int | None = None,
        output_transform: Callable[[Any], Any] = lambda x: x,
    ) -> None:
        super().__init__(metric_fn=InstanceF1Metric(iou_threshold, ignore_label), output_transform=output_transform)
