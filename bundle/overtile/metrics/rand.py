"""Do two pixels of one cell stay together? Rand and information scores of a membrane segmentation.

All are restricted to the pixels of true cells. Cells are 4-connected components, and a pixel of a true cell on a
predicted membrane is an object of its own (Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from overtile.metrics.membranes import MembraneStack, connected_cells, membrane_stack
from overtile.metrics.overlap import OverlapTable, overlap_table
from overtile.metrics.thinning import thinned_cells


def v_rand_scores(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """The foreground-restricted Rand F score after border thinning at each threshold; 1 is perfect.

    ``V_Rand = 2 sum_ij n_ij^2 / (sum_i a_i^2 + sum_j b_j^2)``: ``n_ij`` pixels are in true cell i and in predicted
    cell j, ``a_i`` and ``b_j`` are its row and column sums. That is the harmonic mean of the share of pairs kept
    together (splits lower it) and of pairs rightly together (mergers lower it). The mean over the slices.

    Args:
        truth: one slice (H, W) or a stack (n, H, W); > 0 is cell interior, 0 is membrane. The numbers of the
            cells do not matter: as in the challenge, cells are what membrane separates.
        prediction: probability of cell interior in [0, 1], of the same shape. An image of integers or booleans
            is taken as labels: > 0 is cell interior, and the one threshold is 0.
        thresholds: in [0, 1]; by default the challenge's eleven, 0 to 1 in steps of 0.1.

    Returns:
        One score per threshold.

    Raises:
        ValueError: if the shapes differ, a slice has no true cell, or a probability or a threshold lies
            outside [0, 1].
        TypeError: if the prediction does not hold numbers.

    Examples:
        >>> truth = np.repeat([[1, 0, 1]], [4, 1, 4], axis=1)
        >>> v_rand_scores(truth, truth).tolist()
        [1.0]
        >>> v_rand_scores(truth, np.ones_like(truth)).round(3).tolist()  # a merger: 2 * 32 / (32 + 64)
        [0.667]
    """
    return _mean_scores(membrane_stack(truth, prediction, thresholds), _pair_score)


def v_rand(truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None) -> float:
    """The largest of ``v_rand_scores``: V_Rand (thinned), by which the ISBI 2012 challenge ranks since 2013.

    Args:
        truth: as for ``v_rand_scores``.
        prediction: as for ``v_rand_scores``.
        thresholds: as for ``v_rand_scores``.

    Examples:
        >>> v_rand([[255, 0, 255]], [[0.8, 0.3, 0.9]])
        1.0
    """
    return float(v_rand_scores(truth, prediction, thresholds).max())


def v_info_scores(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """The foreground-restricted information score after border thinning at each threshold; 1 is perfect.

    ``V_Info = 2 I(T; S) / (H(T) + H(S))``: the mutual information of the true cell T and the predicted cell S of
    a pixel, over the mean of their entropies. The mean over the slices. Where both have but one cell it is 1
    (Fiji: 0).

    Args:
        truth: as for ``v_rand_scores``.
        prediction: as for ``v_rand_scores``.
        thresholds: as for ``v_rand_scores``.

    Returns:
        One score per threshold.

    Raises:
        ValueError: as ``v_rand_scores``.
        TypeError: as ``v_rand_scores``.

    Examples:
        >>> truth = np.repeat([[1, 0, 1, 0, 1]], [4, 1, 4, 1, 8], axis=1)
        >>> merger = np.repeat([[1, 0, 1]], [9, 1, 8], axis=1)
        >>> v_info_scores(truth, merger).round(3).tolist()  # I = H(S) = 1 bit, H(T) = 1.5 bit
        [0.8]
    """
    return _mean_scores(membrane_stack(truth, prediction, thresholds), _information_score)


def v_info(truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None) -> float:
    """The largest of ``v_info_scores``: V_Info (thinned), the ISBI 2012 challenge's second score since 2013.

    Args:
        truth: as for ``v_info_scores``.
        prediction: as for ``v_info_scores``.
        thresholds: as for ``v_info_scores``.

    Examples:
        >>> round(v_info([[255, 0, 255]], [[0.8, 0.3, 0.9]]), 9)
        1.0
    """
    return float(v_info_scores(truth, prediction, thresholds).max())


def rand_errors(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """``1 - F`` at each threshold, the formula of ``v_rand_scores`` without thinning; 0 is perfect.

    The pairs of all slices are counted together, as Fiji's ``getForegroundRestrictedRandIndexMaximalFScore`` does.

    Args:
        truth: as for ``v_rand_scores``.
        prediction: as for ``v_rand_scores``.
        thresholds: as for ``v_rand_scores``.

    Returns:
        One error per threshold.

    Raises:
        ValueError: as ``v_rand_scores``.
        TypeError: as ``v_rand_scores``.

    Examples:
        >>> rand_errors([[1, 1, 0, 1]], [[1, 0, 0, 1]]).round(3).tolist()  # 1 - 2 * 3 / (5 + 3)
        [0.25]
    """
    stack = membrane_stack(truth, prediction, thresholds)
    tables = _overlaps(stack, connected_cells)
    return stack.curve(lambda threshold: 1 - _f_score(sum(map(_pairs, tables(threshold)), start=np.zeros(3))))


def rand_error(truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None) -> float:
    """The smallest of ``rand_errors``: the Rand error of Table 1 in arXiv:1505.04597.

    Args:
        truth: as for ``rand_errors``.
        prediction: as for ``rand_errors``.
        thresholds: as for ``rand_errors``.

    Examples:
        >>> rand_error([[255, 255, 0, 255]], [[0.8, 0.8, 0.3, 0.9]])
        0.0
    """
    return float(rand_errors(truth, prediction, thresholds).min())


def _overlaps(
    stack: MembraneStack, segmented: Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.int32]]
) -> Callable[[np.float64], list[OverlapTable]]:
    """Which predicted objects the true cells of each slice overlap, as a function of the threshold."""
    if not stack.truth.any(axis=(1, 2)).all():
        raise ValueError("every slice of truth must have a cell (> 0) to score; a slice without came")
    cells = [connected_cells(interior) for interior in stack.truth]
    return lambda threshold: [
        overlap_table(true[true > 0], segmented(interior)[true > 0])
        for true, interior in zip(cells, stack.cells(threshold), strict=True)
    ]


def _mean_scores(stack: MembraneStack, score: Callable[[OverlapTable], float]) -> npt.NDArray[np.float64]:
    tables = _overlaps(stack, thinned_cells)
    return stack.curve(lambda threshold: float(np.mean([score(table) for table in tables(threshold)])))


def _companions(table: OverlapTable) -> npt.NDArray[np.float64]:
    """How many pixels share both objects, the true one, the predicted one with each pixel of an entry: (3, entries)."""
    alone = table.prediction == 0
    return np.stack(
        [np.where(alone, 1, table.voxels), table.truth_sizes, np.where(alone, 1, table.prediction_sizes)]
    ).astype(np.float64)


def _pairs(table: OverlapTable) -> npt.NDArray[np.float64]:
    """Ordered pairs of pixels that are together in both, in truth, in the prediction."""
    pairs: npt.NDArray[np.float64] = _companions(table) @ table.voxels
    return pairs


def _f_score(pairs: npt.NDArray[np.float64]) -> float:
    both, truth, prediction = pairs
    return float(2 * both / (truth + prediction))


def _pair_score(table: OverlapTable) -> float:
    return _f_score(_pairs(table))


def _information_score(table: OverlapTable) -> float:
    pixels = table.voxels.sum()
    companions = _companions(table)
    if (companions == pixels).all():  # one cell in both: no information, and nothing wrong
        return 1.0
    joint, truth, prediction = np.log(pixels / companions) @ table.voxels / pixels
    return float(np.clip(2 * (truth + prediction - joint) / (truth + prediction), 0, 1))  # rounding may leave it
