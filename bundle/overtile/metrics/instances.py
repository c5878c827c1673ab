"""How well one label image finds the objects of another: matching by intersection over union."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from overtile.metrics.overlap import overlap_table


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
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"the IoU threshold must lie in (0, 1]; it is {iou_threshold}")
    true, predicted = np.asarray(truth), np.asarray(prediction)
    unlabelled = np.zeros(true.shape, dtype=bool) if ignore is None else _ignore_mask(ignore, true.shape)
    excused = _mostly_inside(unlabelled, predicted)
    table = overlap_table(np.where(unlabelled, 0, true), np.where(unlabelled, 0, predicted))
    iou = table.iou
    candidates = np.flatnonzero((table.truth != 0) & (table.prediction != 0) & (iou >= iou_threshold))
    matched = candidates[_largest_matching(table.truth[candidates], table.prediction[candidates], iou[candidates])]
    invented = np.setdiff1d(table.prediction[table.prediction != 0], table.prediction[matched])
    missed = np.setdiff1d(table.truth[table.truth != 0], table.truth[matched])
    return InstanceScores(
        iou_threshold=iou_threshold,
        true_positives=len(matched),
        false_positives=len(np.setdiff1d(invented, excused)),
        false_negatives=len(missed),
        summed_iou=math.fsum(iou[matched]),
    )


def _largest_matching(
    truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], iou: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Marks the candidate pairs of the largest one-to-one matching, of these the one with the most IoU.

    Only pairs that compete with another are assigned. So that every object has a partner and the
    sparse solver an answer, object ``i`` may take stand-in ``i`` of the other side, and the stand-ins
    of a pair may take each other. A match outweighs them by more than all IoU together can.
    """
    _, row, rivals_in_row = np.unique(truth, return_inverse=True, return_counts=True)
    _, column, rivals_in_column = np.unique(prediction, return_inverse=True, return_counts=True)
    chosen: npt.NDArray[np.bool_] = (rivals_in_row[row] == 1) & (rivals_in_column[column] == 1)
    contested = np.flatnonzero(~chosen)
    if not len(contested):
        return chosen
    true_ids, row = np.unique(truth[contested], return_inverse=True)
    predicted_ids, column = np.unique(prediction[contested], return_inverse=True)
    rows, columns = len(true_ids), len(predicted_ids)
    match_weight = 2 + iou[contested] / (2 * min(rows, columns))
    weight = np.concatenate([match_weight, np.ones(rows + columns + len(contested))])
    source = np.concatenate([row, np.arange(rows), rows + np.arange(columns), rows + column])
    target = np.concatenate([column, columns + np.arange(rows), np.arange(columns), columns + row])
    partner = min_weight_full_bipartite_matching(csr_matrix((weight, (source, target))), maximize=True)[1]
    chosen[contested] = partner[row] == column
    return chosen


def _mostly_inside(mask: npt.NDArray[np.bool_], labels: npt.ArrayLike) -> npt.NDArray[np.integer]:
    """Ids of the objects with more than half of their voxels in the mask."""
    table = overlap_table(mask, labels)
    mostly = (table.truth == 1) & (2 * table.voxels > table.prediction_sizes)
    inside: npt.NDArray[np.integer] = table.prediction[mostly]
    return inside


def _ignore_mask(ignore: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    mask = np.asarray(ignore)
    if mask.dtype != np.bool_:
        raise TypeError(f"ignore must be a boolean mask, it has {mask.dtype}; write for instance `truth == 255`")
    if mask.shape != shape:
        raise ValueError(f"ignore must have the shape of the label images {shape}; it has {mask.shape}")
    return mask
