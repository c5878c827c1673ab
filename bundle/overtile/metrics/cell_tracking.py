"""The Cell Tracking Challenge's measures of segmentation and of detection.

Both rest on one rule: an object of the ground truth is found by the predicted object that covers more than half of
it, of which there can be only one (Maška et al. 2014, doi:10.1093/bioinformatics/btu080).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overtile.metrics.overlap import OverlapTable, annotated_overlap_table

# What it costs to correct a detection by hand (Matula et al. 2015, doi:10.1371/journal.pone.0144959).
SPLIT_WEIGHT, MISS_WEIGHT, FALSE_POSITIVE_WEIGHT = 5, 10, 1

LabelImages = Sequence[npt.ArrayLike] | npt.NDArray[np.generic]


def seg_scores(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, ignore: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """Jaccard index (intersection over union) of every true object of one image, in the order of their ids.

    It is that of the predicted object that covers more than half of the true one, 0 if there is none.
    Keep these of many images to pool them; their mean is :func:`seg`.

    Args:
        truth: label image of any shape; what is 0 is not annotated and counts nowhere.
        prediction: label image of the same shape.
        ignore: boolean mask of voxels that count in neither image.

    Raises:
        ValueError: if the shapes differ, or an id is negative or not whole.
        TypeError: if an image does not hold numbers or ``ignore`` is not boolean.

    Examples:
        >>> seg_scores([1, 1, 1, 2, 2, 0, 7], [5, 5, 0, 2, 0, 0, 7]).round(3).tolist()  # of object 2 just one half
        [0.667, 0.0, 1.0]
    """
    table, _ = annotated_overlap_table(truth, prediction, ignore)
    found = _found(table)
    ids = np.unique(table.truth[table.truth != 0])
    scores = np.zeros(len(ids))
    scores[np.searchsorted(ids, table.truth[found])] = table.iou[found]
    return scores


def seg(truth: LabelImages, prediction: LabelImages) -> float:
    """SEG: the mean of :func:`seg_scores` over all true objects of all images, in [0, 1].

    An object counts once in each image it is seen in; the images are not averaged first. "IOU" in Table 2 of
    Ronneberger et al. 2015 (arXiv:1505.04597: 0.9203 on PhC-U373, 0.7756 on DIC-HeLa) is this number.

    Args:
        truth: label images, one after the other: a sequence of images or an array (n, H, W) or (n, x, y, z). One
            image (H, W) may come alone, one volume as ``[volume]``. An image without annotation may be all 0.
        prediction: as many label images of the same shapes.

    Returns:
        Not a number if there is no true object.

    Raises:
        ValueError: if the numbers of images or their shapes differ, or an id is negative or not whole.
        TypeError: if an image does not hold numbers.

    Examples:
        >>> round(seg([[1, 1, 1, 2, 2, 0, 7]], [[5, 5, 0, 2, 0, 0, 7]]), 3)
        0.556
    """
    scores = np.concatenate([seg_scores(true, predicted) for true, predicted in _pairs(truth, prediction)])
    return float(scores.mean()) if len(scores) else float("nan")


@dataclass(frozen=True)
class DetectionCounts:
    """What must be corrected to turn predicted objects into the marked ones; adding two pools two images.

    Attributes:
        markers: number of true objects.
        splits: cuts of predicted objects that cover several markers, one less than the markers for each.
        misses: markers of which no predicted object covers more than half.
        false_positives: predicted objects that cover no marker so.
    """

    markers: int
    splits: int
    misses: int
    false_positives: int

    @property
    def cost(self) -> int:
        """AOGM-D, ``5 splits + 10 misses + false positives``."""
        return SPLIT_WEIGHT * self.splits + MISS_WEIGHT * self.misses + FALSE_POSITIVE_WEIGHT * self.false_positives

    @property
    def det(self) -> float:
        """``1 - min(cost, cost of nothing) / cost of nothing``, where having nothing misses every marker.

        Without a marker it is 1 if nothing was predicted, else 0.
        """
        if not self.markers:
            return 0.0 if self.cost else 1.0
        return 1 - min(1.0, self.cost / (MISS_WEIGHT * self.markers))

    def __add__(self, other: "DetectionCounts") -> "DetectionCounts":
        if not isinstance(other, DetectionCounts):
            return NotImplemented
        return DetectionCounts(
            self.markers + other.markers,
            self.splits + other.splits,
            self.misses + other.misses,
            self.false_positives + other.false_positives,
        )


def detection_counts(
    markers: npt.ArrayLike, prediction: npt.ArrayLike, ignore: npt.ArrayLike | None = None
) -> DetectionCounts:
    """The detection errors of one image.

    Args:
        markers: label image of any shape, with a marker of any size (or the whole object) for each true object.
        prediction: label image of the same shape.
        ignore: boolean mask of voxels that count in neither image; a predicted object of which more than half
            lies there is no false positive.

    Raises:
        ValueError: if the shapes differ, or an id is negative or not whole.
        TypeError: if an image does not hold numbers or ``ignore`` is not boolean.

    Examples:
        >>> detection_counts([1, 0, 2, 0, 3, 0, 0], [4, 4, 4, 0, 0, 0, 5])
        DetectionCounts(markers=3, splits=1, misses=1, false_positives=1)
    """
    table, excused = annotated_overlap_table(markers, prediction, ignore)
    covering = table.prediction[_found(table)]  # one entry per marker that is found
    detecting = np.unique(covering)
    number = len(np.unique(table.truth[table.truth != 0]))
    idle = np.setdiff1d(table.prediction[table.prediction != 0], detecting)
    return DetectionCounts(
        markers=number,
        splits=len(covering) - len(detecting),
        misses=number - len(covering),
        false_positives=len(np.setdiff1d(idle, excused)),
    )


def det(markers: LabelImages, prediction: LabelImages) -> float:
    """DET: 1 less the cost of correcting the detections, as a share of the cost of adding all by hand; in [0, 1].

    The errors of all images are added first (Matula et al. 2015, doi:10.1371/journal.pone.0144959).

    Args:
        markers: label images with a marker for each true object, in a form that :func:`seg` takes. All objects
            must be marked: what is predicted elsewhere is a false positive.
        prediction: as many label images of the same shapes.

    Returns:
        Without any marker, 1 if nothing was predicted, else 0.

    Raises:
        ValueError: if the numbers of images or their shapes differ, or an id is negative or not whole.
        TypeError: if an image does not hold numbers.

    Examples:
        >>> round(det([[1, 0, 2, 0, 3, 0, 0]], [[4, 4, 4, 0, 0, 0, 5]]), 3)  # (5 + 10 + 1) of 30
        0.467
    """
    counts = [detection_counts(marked, predicted) for marked, predicted in _pairs(markers, prediction)]
    return sum(counts, start=DetectionCounts(0, 0, 0, 0)).det


def _found(table: OverlapTable) -> npt.NDArray[np.bool_]:
    """Marks the pairs whose predicted object covers more than half of the true one: at most one pair of each."""
    found: npt.NDArray[np.bool_] = (table.truth != 0) & (table.prediction != 0) & (2 * table.voxels > table.truth_sizes)
    return found


def _pairs(
    truth: LabelImages, prediction: LabelImages
) -> list[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
    true, predicted = _images(truth), _images(prediction)
    if len(true) != len(predicted):
        raise ValueError(f"every true image needs its predicted one; {len(true)} and {len(predicted)} came")
    return list(zip(true, predicted, strict=True))


def _images(labels: LabelImages) -> list[npt.NDArray[np.generic]]:
    """The images of a sequence; what has at most two dimensions is one image."""
    images = [np.asarray(image) for image in labels]
    return images if images and all(image.ndim >= 2 for image in images) else [np.asarray(labels)]
