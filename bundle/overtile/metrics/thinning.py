"""Membranes thinned to lines, so that their width does not count."""

import numpy as np
import numpy.typing as npt

from overtile.metrics.membranes import connected_cells

OUTSIDE, QUEUED, MEMBRANE, LINE = -3, -2, -1, 0


def thinned_cells(interior: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """The 4-connected cells of a slice, grown until only lines of membrane are left between them.

    The watershed by immersion (Vincent and Soille 1991, doi:10.1109/34.87344) with two levels, cell and membrane,
    and in the order of Fiji's ``WatershedTransform2D``, which scans columns: where two floods meet depends on it.
    A pixel that sees one cell joins it. It is a line if it sees two, or only lines. Without any cell the whole
    slice is one basin.

    Args:
        interior: cell interior (H, W).

    Returns:
        The number of each pixel's cell (H, W), 0 on the lines.

    Examples:
        >>> thinned_cells(np.array([[1, 0, 0, 0, 0, 0, 1]], dtype=bool))
        array([[1, 1, 1, 0, 2, 2, 2]], dtype=int32)
    """
    if not interior.any():
        return np.ones(interior.shape, dtype=np.int32)
    columns = np.pad(np.where(interior, connected_cells(interior), MEMBRANE).T, 1, constant_values=OUTSIDE)
    shore = np.zeros_like(columns, dtype=bool)
    shore[1:-1, 1:-1] = (
        (columns[:-2, 1:-1] > 0) | (columns[1:-1, :-2] > 0) | (columns[2:, 1:-1] > 0) | (columns[1:-1, 2:] > 0)
    )
    shore &= columns == MEMBRANE
    columns[shore] = QUEUED
    labels = columns.ravel().tolist()
    _flood(labels, queue=np.flatnonzero(shore).tolist(), stride=columns.shape[1])
    return np.array(labels, dtype=np.int32).reshape(columns.shape)[1:-1, 1:-1].T


def _flood(labels: list[int], queue: list[int], stride: int) -> None:
    """Numbers the membrane from the queued pixels on, first come, first served; in place."""
    for pixel in queue:  # grows while it is read
        cell = 0
        for neighbour in (pixel - stride, pixel - 1, pixel + stride, pixel + 1):
            label = labels[neighbour]
            if label > 0:
                if not cell:
                    cell = label
                elif cell != label:
                    cell = LINE - 1
            elif label == MEMBRANE:
                labels[neighbour] = QUEUED
                queue.append(neighbour)
        labels[pixel] = max(cell, LINE)
