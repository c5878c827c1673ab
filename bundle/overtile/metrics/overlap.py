"""Which objects of two label images share voxels, and how many.

A label image numbers its objects; 0 is background, ids may be any and need not follow one another.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST_FLOAT_ID = 2**53  # above it float64 cannot tell one whole number from the next


@dataclass(frozen=True, eq=False)
class OverlapTable:
    """The pairs of ids that share voxels, one entry per pair, sorted; id 0 is background.

    Attributes:
        truth: the pair's id in the true label image.
        prediction: the pair's id in the predicted label image.
        voxels: number of voxels that carry both, never 0.
    """

    truth: npt.NDArray[np.integer]
    prediction: npt.NDArray[np.integer]
    voxels: npt.NDArray[np.int64]

    @property
    def truth_sizes(self) -> npt.NDArray[np.int64]:
        """Voxels of each pair's true object."""
        return _sum_by_id(self.truth, self.voxels)

    @property
    def prediction_sizes(self) -> npt.NDArray[np.int64]:
        """Voxels of each pair's predicted object."""
        return _sum_by_id(self.prediction, self.voxels)

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each pair."""
        return self.voxels / (self.truth_sizes + self.prediction_sizes - self.voxels)


def overlap_table(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> OverlapTable:
    """The sparse contingency table of two label images, background included.

    Runs of equal pairs are counted first, so that only the runs are sorted, not the voxels; the cost
    depends neither on how large the ids are nor on the product of their numbers.

    Args:
        truth: label image of any shape.
        prediction: label image of the same shape.

    Raises:
        ValueError: if the shapes differ, an id is negative, or a float id is not a whole number.
        TypeError: if an image does not hold numbers.

    Examples:
        >>> table = overlap_table([[1, 1, 0, 7]], [[3, 3, 3, 0]])
        >>> [(int(t), int(p), int(n)) for t, p, n in zip(table.truth, table.prediction, table.voxels)]
        [(0, 3, 1), (1, 3, 2), (7, 0, 1)]
        >>> table.iou.round(2).tolist()
        [0.33, 0.67, 1.0]
    """
    true, predicted = _label_image(truth, "truth"), _label_image(prediction, "prediction")
    if true.shape != predicted.shape:
        raise ValueError(f"truth and prediction must have one shape; they have {true.shape} and {predicted.shape}")
    true, predicted = true.ravel(), predicted.ravel()
    is_start = np.ones(true.size, dtype=bool)
    is_start[1:] = (true[1:] != true[:-1]) | (predicted[1:] != predicted[:-1])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=true.size)
    true_ids, row = np.unique(true[starts], return_inverse=True)
    predicted_ids, column = np.unique(predicted[starts], return_inverse=True)
    pairs, run_pair = np.unique(row * len(predicted_ids) + column, return_inverse=True)
    voxels = np.bincount(run_pair, weights=lengths, minlength=len(pairs)).astype(np.int64)
    rows, columns = np.divmod(pairs, len(predicted_ids))
    return OverlapTable(true_ids[rows], predicted_ids[columns], voxels)


def annotated_overlap_table(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, ignore: npt.ArrayLike | None = None
) -> tuple[OverlapTable, npt.NDArray[np.integer]]:
    """The table without the voxels that have no ground truth, and which predicted objects that excuses.

    Args:
        truth: label image of any shape.
        prediction: label image of the same shape.
        ignore: boolean mask of voxels without ground truth: they are background in both images.

    Returns:
        The table, and the ids of the predicted objects of which more than half lies in the mask: whether
        they are right nobody can say, so they should not count as invented.

    Raises:
        ValueError: if the shapes differ, an id is negative, or a float id is not a whole number.
        TypeError: if an image does not hold numbers or ``ignore`` is not boolean.

    Examples:
        >>> table, excused = annotated_overlap_table([0, 1, 9, 9], [1, 1, 2, 2], ignore=[False, False, True, True])
        >>> [(int(t), int(p), int(n)) for t, p, n in zip(table.truth, table.prediction, table.voxels)], excused
        ([(0, 0, 2), (0, 1, 1), (1, 1, 1)], array([2]))
    """
    if ignore is None:
        return overlap_table(truth, prediction), np.empty(0, dtype=np.int64)
    true, predicted, mask = np.asarray(truth), np.asarray(prediction), np.asarray(ignore)
    if mask.dtype != np.bool_:
        raise TypeError(f"ignore must be a boolean mask, it has {mask.dtype}; write for instance `truth == 255`")
    if mask.shape != true.shape:
        raise ValueError(f"ignore must have the shape of the label images {true.shape}; it has {mask.shape}")
    inside = overlap_table(mask, predicted)
    mostly = (inside.truth == 1) & (2 * inside.voxels > inside.prediction_sizes)
    return overlap_table(np.where(mask, 0, true), np.where(mask, 0, predicted)), inside.prediction[mostly]


def _sum_by_id(ids: npt.NDArray[np.integer], voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    _, index = np.unique(ids, return_inverse=True)
    return np.bincount(index, weights=voxels).astype(np.int64)[index]


def _label_image(labels: npt.ArrayLike, name: str) -> npt.NDArray[np.integer]:
    image = np.asarray(labels)
    if image.dtype.kind == "b":
        return image.astype(np.uint8)
    if image.dtype.kind == "f":
        if not np.all((np.abs(image) < LARGEST_FLOAT_ID) & (image == np.rint(image))):
            raise ValueError(f"{name} must hold whole-number ids; it has fractions, NaN or ids beyond 2**53")
        image = image.astype(np.int64)
    if image.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a label image of integers; it has {image.dtype}")
    if image.size and image.min() < 0:
        raise ValueError(f"ids of {name} must not be negative; {image.min()} came. Map it to 0 or use `ignore`")
    return image
