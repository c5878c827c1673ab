"""The Cell Tracking Challenge's SEG and DET, as MONAI metrics and Ignite handlers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from overtile.engines.metrics import Image, PooledMetric, PooledMetricHandler, ignored
from overtile.metrics import DetectionCounts, detection_counts, seg_scores


class SegMetric(PooledMetric):
    """SEG, the mean Jaccard index of all true objects of all images; see :func:`overtile.metrics.seg`.

    Prediction and truth are label images (1, *spatial). Not a number while there is no true object.

    Args:
        ignore_label: value of voxels without ground truth, which are no object. Of the prediction nothing is left out:
            the challenge knows no such voxels, and what is not annotated counts nowhere in SEG.
    """

    def __init__(self, ignore_label: int | None = None) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def statistics(self, prediction: Image, truth: Image) -> Sequence[float]:
        """The sum of the Jaccard indices, and the number of true objects."""
        unknown = ignored(truth, self.ignore_label)
        scores = seg_scores(truth if unknown is None else np.where(unknown, 0, truth), prediction)
        return [float(scores.sum()), len(scores)]

    def score(self, rows: torch.Tensor) -> float:
        """The mean over all objects."""
        jaccard, objects = rows.sum(dim=0).tolist()
        return jaccard / objects if objects else float("nan")


class DetMetric(PooledMetric):
    """DET, the share of the work of marking all objects that the prediction saves; see :func:`overtile.metrics.det`.

    The prediction is a label image, the truth one of markers of any size, whole objects included; (1, *spatial) both.

    Args:
        ignore_label: value of voxels without ground truth; they count in neither image.
    """

    def __init__(self, ignore_label: int | None = None) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def statistics(self, prediction: Image, truth: Image) -> Sequence[float]:
        """The numbers of markers, splits, misses and false positives."""
        counts = detection_counts(truth, prediction, ignored(truth, self.ignore_label))
        return [counts.markers, counts.splits, counts.misses, counts.false_positives]

    def score(self, rows: torch.Tensor) -> float:
        """DET of the summed counts."""
        return DetectionCounts(*rows.sum(dim=0).long().tolist()).det


class Seg(PooledMetricHandler):
    """Ignite form of :class:`SegMetric`."""

    metric = SegMetric


class Det(PooledMetricHandler):
    """Ignite form of :class:`DetMetric`."""

    metric = DetMetric
