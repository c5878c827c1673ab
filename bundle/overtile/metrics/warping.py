"""Warping error of a membrane segmentation: what is wrong however the borders are moved."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from overtile.metrics.membranes import TENTHS, connected_cells, membrane_stack
from overtile.metrics.simple_points import BRANCHES, RING, ring_codes, warped_cells

Counted = Literal["splits_and_mergers", "mismatches"]


def warping_errors(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    thresholds: npt.ArrayLike | None = None,
    counted: Counted = "splits_and_mergers",
) -> npt.NDArray[np.float64]:
    """Share of pixels at which the warped truth differs from the prediction, at each threshold; 0 is perfect.

    The truth is warped to the prediction by flipping pixels as long as that keeps its topology (Jain et al. 2010,
    doi:10.1109/CVPR.2010.5539950). The challenge's number is Fiji's ``getMinimumSplitsAndMergersErrorValue``: of
    the pixels that still differ, it counts those that split or merge cells, and no holes, lost or invented cells.
    (Fiji looks for a way around a cut in the whole slice, as here, or to save time within a radius.) So a threshold
    that finds no cell at all has error 0; where a prediction may be so poor, give thresholds or count mismatches.

    Args:
        truth: one slice (H, W) or a stack (n, H, W); > 0 is cell interior, 0 is membrane. The numbers of the
            cells do not matter: as in the challenge, cells are what membrane separates.
        prediction: probability of cell interior in [0, 1], of the same shape. An image of integers or booleans
            is taken as labels: > 0 is cell interior, and the one threshold is 0.
        thresholds: in [0, 1]; by default the challenge's ten, 0 to 0.9 in steps of 0.1.
        counted: ``"splits_and_mergers"``, the challenge's, or ``"mismatches"``, all pixels that differ.

    Returns:
        One error per threshold.

    Raises:
        ValueError: if the shapes differ, a probability or a threshold lies outside [0, 1], or ``counted`` is
            neither of the two.
        TypeError: if the prediction does not hold numbers.

    Examples:
        >>> truth = np.tile([1, 1, 1, 0, 1, 1, 1], (4, 1))
        >>> shifted, gap = np.roll(truth, 1, axis=1), truth | np.eye(4, 7, k=3, dtype=int)
        >>> warping_errors(truth, shifted).tolist(), (warping_errors(truth, gap) * truth.size).tolist()
        ([0.0], [1.0])
    """
    if counted not in ("splits_and_mergers", "mismatches"):
        raise ValueError(f"counted must be 'splits_and_mergers' or 'mismatches'; it is {counted!r}")
    stack = membrane_stack(truth, prediction, thresholds, TENTHS[:-1])

    def error(threshold: np.float64) -> float:
        certainty = np.abs(np.subtract(stack.prediction, threshold, dtype=np.float64)).astype(np.float32)
        pixels = 0
        for true, target, sureness in zip(stack.truth, stack.cells(threshold), certainty, strict=True):
            warped = warped_cells(true, target, sureness)
            differs = warped != target
            pixels += int((differs if counted == "mismatches" else _splits_or_merges(warped, differs)).sum())
        return pixels / stack.truth.size

    return stack.curve(error)


def warping_error(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    thresholds: npt.ArrayLike | None = None,
    counted: Counted = "splits_and_mergers",
) -> float:
    """The smallest of ``warping_errors``: the warping error of Table 1 in arXiv:1505.04597.

    Args:
        truth: as for ``warping_errors``.
        prediction: as for ``warping_errors``.
        thresholds: as for ``warping_errors``.
        counted: as for ``warping_errors``.

    Examples:
        >>> warping_error([[255, 0, 255, 255]], [[0.8, 0.9, 0.3, 0.9]])
        0.0
        >>> warping_error([[255, 0, 255, 255]], [[0.8, 0.9, 0.8, 0.9]], thresholds=[0.3, 0.5])
        0.25
    """
    return float(warping_errors(truth, prediction, thresholds, counted).min())


def _splits_or_merges(warped: npt.NDArray[np.bool_], differs: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Marks, of the pixels that differ, those whose flip would split or merge cells, one entry per such pixel.

    As Fiji classifies them. With two cells or more among its eight neighbours a pixel splits or merges them. With
    one cell, a cell pixel splits it unless there is a way around the cut: only a way around parts the membranes
    between two branches, so that without a split there are as many different membranes as branches.
    """
    cells = np.pad(connected_cells(warped), 1, constant_values=-1)
    membranes = ndimage.label(~np.pad(warped, 1), structure=np.ones((3, 3)))[0]
    rows, columns = (index + 1 for index in np.nonzero(differs))
    around = np.stack([cells[rows + row, columns + column] for row, column in RING], axis=1)
    membranes_around = np.stack([membranes[rows + row, columns + column] for row, column in RING], axis=1)
    neighbours = _distinct(around)
    cuts = warped[differs] & (_distinct(membranes_around) < BRANCHES[ring_codes(warped)[differs]])
    wrong: npt.NDArray[np.bool_] = (neighbours > 1) | cuts
    return wrong


def _distinct(ids: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Number of different ids above 0 in each row."""
    ordered = np.sort(ids, axis=1)
    first = np.diff(ordered, axis=1, prepend=0) > 0
    number: npt.NDArray[np.integer] = np.count_nonzero(first & (ordered > 0), axis=1)
    return number
