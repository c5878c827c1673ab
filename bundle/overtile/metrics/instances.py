"""How well one label image finds the objects of another: matching by intersection over union."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overtile.metrics.matching import largest_matching
from overtile.metrics.overlap import annotated_overlap_table

# Written out: a count divided by a count is the float nearest to 0.55, `0.5 + 0.05` need not be.
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class InstanceScores:
    """Counts of found, invented and missed objects; adding two pools the counts of two images.

    A ratio 0/0 is 1 where neither image has an object, else 0.
    """

    iou_threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    summed_iou: float

    @property
    def precision(self) -> float:
        """Share of the predicted objects that are true."""
        return self._ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the true objects that were found."""
        return self._ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``; also Panoptic's recognition quality."""
        return self._ratio(self.true_positives, self._mean_count)

    @property
    def average_precision(self) -> float:
        """``TP / (TP + FP + FN)``, as the literature on nuclei has it (see :func:`average_precision`)."""
        return self._ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def mean_matched_iou(self) -> float:
        """Mean intersection over union of the matched pairs; Panoptic's segmentation quality."""
        return self._ratio(self.summed_iou, self.true_positives)

    @property
    def panoptic_quality(self) -> float:
        """``summed_iou / (TP + FP / 2 + FN / 2)``, Eq. 1 of arXiv:1801.00868: ``mean_matched_iou * f1``."""
        return self._ratio(self.summed_iou, self._mean_count)

    def __add__(self, other: "InstanceScores") -> "InstanceScores":
        if not isinstance(other, InstanceScores):
            return NotImplemented
        if self.iou_threshold != other.iou_threshold:
            raise ValueError(
                "scores pool only at one IoU threshold; "
                f"these were counted at {self.iou_threshold} and {other.iou_threshold}"
            )
        return InstanceScores(
            iou_threshold=self.iou_threshold,
            true_positives=self.true_positives + other.true_positives,
            false_positives=self.false_positives + other.false_positives,
            false_negatives=self.false_negatives + other.false_negatives,
            summed_iou=self.summed_iou + other.summed_iou,
        )

    @property
    def _mean_count(self) -> float:
        return self.true_positives + (self.false_positives + self.false_negatives) / 2

    def _ratio(self, part: float, whole: float) -> float:
        if whole:
            return part / whole
        return 0.0 if self._mean_count else 1.0


def instance_scores(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    iou_threshold: float = 0.5,
    ignore: npt.ArrayLike | None = None,
) -> InstanceScores:
    """Scores of the one-to-one matching of objects whose intersection over union reaches the threshold.

    Above 0.5 at most one such matching exists (Kirillov et al. 2019, arXiv:1801.00868). At 0.5 and below,
    of all matchings with the most pairs, the one with the largest summed IoU counts.

    Args:
        truth: label image of any shape.
        prediction: label image of the same shape.
        iou_threshold: in (0, 1]; a pair at exactly the threshold may match.
        ignore: boolean mask of voxels without ground truth. They count in neither image, and an unmatched
            predicted object of which more than half lies there is no false positive.

    Raises:
        ValueError: if the threshold is outside (0, 1], the shapes differ, or an id is negative or not whole.
        TypeError: if an image does not hold numbers or ``ignore`` is not boolean.

    Examples:
        >>> scores = instance_scores([1, 1, 1, 0, 2, 2], [1, 1, 0, 0, 0, 0])
        >>> scores.true_positives, scores.false_positives, scores.false_negatives
        (1, 0, 1)
        >>> round(scores.f1, 3), round(scores.panoptic_quality, 3)
        (0.667, 0.444)
    """
    return instance_scores_by_threshold(truth, prediction, (iou_threshold,), ignore)[0]


def instance_scores_by_threshold(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    ignore: npt.ArrayLike | None = None,
) -> list[InstanceScores]:
    """:func:`instance_scores` at several thresholds; the overlaps are counted once for all.

    Args:
        truth: label image of any shape.
        prediction: label image of the same shape.
        iou_thresholds: each in (0, 1]; 0.5 to 0.95 in steps of 0.05 if not given.
        ignore: boolean mask of voxels without ground truth, as in :func:`instance_scores`.

    Raises:
        ValueError: if there is no threshold or one outside (0, 1], the shapes differ, or an id is negative or
            not whole.
        TypeError: if an image does not hold numbers or ``ignore`` is not boolean.

    Examples:
        >>> pair = [1, 1, 1, 1, 0, 2, 2, 2], [1, 1, 1, 0, 0, 2, 2, 2]  # IoU 0.75 and 1
        >>> [round(scores.f1, 2) for scores in instance_scores_by_threshold(*pair, (0.5, 0.75, 0.8))]
        [1.0, 1.0, 0.5]
    """
    if not len(iou_thresholds):
        raise ValueError("the instances match at one IoU threshold at least; none came")
    for threshold in iou_thresholds:
        if not 0 < threshold <= 1:
            raise ValueError(f"the IoU threshold must lie in (0, 1]; it is {threshold}")
    table, excused = annotated_overlap_table(truth, prediction, ignore)
    iou = table.iou
    pairs = (table.truth != 0) & (table.prediction != 0)
    true_ids = np.unique(table.truth[table.truth != 0])
    predicted_ids = np.unique(table.prediction[table.prediction != 0])
    results = []
    for threshold in iou_thresholds:
        candidates = np.flatnonzero(pairs & (iou >= threshold))
        matched = candidates[largest_matching(table.truth[candidates], table.prediction[candidates], iou[candidates])]
        invented = np.setdiff1d(predicted_ids, table.prediction[matched])
        results.append(
            InstanceScores(
                iou_threshold=threshold,
                true_positives=len(matched),
                false_positives=len(np.setdiff1d(invented, excused)),
                false_negatives=len(true_ids) - len(matched),
                summed_iou=math.fsum(iou[matched]),
            )
        )
    return results


def average_precision(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    ignore: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Average precision ``TP / (TP + FP + FN)`` at each threshold of the intersection over union, (thresholds,).

    So the literature on nuclei has it (Schmidt et al. 2018, arXiv:1806.03535); instances have no confidence, so
    there is no curve of precision and recall to take an area under. The Data Science Bowl 2018 took the mean of an
    image's ten values, and then of the images. To pool the counts of several images, as StarDist does, add their
    :func:`instance_scores_by_threshold`; these also hold precision, recall and F1 at each threshold.

    Args:
        truth: label image of any shape.
        prediction: label image of the same shape.
        thresholds: each in (0, 1]; 0.5 to 0.95 in steps of 0.05 if not given.
        ignore: boolean mask of voxels without ground truth, as in :func:`instance_scores`.

    Returns:
        Values in [0, 1]; 1 where neither image has an object.

    Raises:
        ValueError: as :func:`instance_scores_by_threshold`.
        TypeError: if an image does not hold numbers or ``ignore`` is not boolean.

    Examples:
        >>> average_precision([1, 1, 1, 1, 0, 2, 2, 2], [1, 1, 1, 0, 0, 2, 2, 2], (0.5, 0.75, 0.8)).round(2).tolist()
        [1.0, 1.0, 0.33]
    """
    scores = instance_scores_by_threshold(truth, prediction, thresholds, ignore)
    return np.array([score.average_precision for score in scores])
