"""Rows B: the separation weights of the paper, beside the usual way: one distance transform per cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks.images import cells
from benchmarks.rows import Line, Result, Row, compare
from benchmarks.timing import Contender, Job, usage

W0, SIGMA = 10.0, 5.0  # of arXiv:1505.04597
TIMED_CELLS = 8  # of the thousands that would take hours; the time is proportional to their number
FEW_IMAGES = 8  # "extra memory of a few images": of float32


def overtile(ids: NDArray[np.int32]) -> Contender:
    """This project's function, with the paper's constants."""

    def prepare() -> Job:
        from overtile.transforms import separation_weights

        return lambda: separation_weights(ids, W0, SIGMA, class_weights=None)

    return Contender("separation_weights", "overtile", prepare)


def _weights(ids: NDArray[np.int32], total: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.where(ids > 0, 1, 1 + W0 * np.exp(-(total**2) / (2 * SIGMA**2))).astype(np.float32)


def stacked(ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """The weights by the recipe found everywhere: every cell's distance map, stacked and sorted."""
    distances = np.stack([distance_transform_edt(ids != cell) for cell in range(1, int(ids.max()) + 1)])
    distances.sort(axis=0)
    return _weights(ids, distances[0] + distances[1])


def running(ids: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """The same of the first ``count`` cells, but only the two smallest distances are kept."""
    nearest = np.full(ids.shape, np.inf)
    second = nearest.copy()
    for cell in range(1, count + 1):
        distance = distance_transform_edt(ids != cell)
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
    return _weights(ids, nearest + second)


def _peer(name: str, job: Callable[[], object], factor: float = 1.0) -> Contender:
    return Contender(name, "scipy", lambda: job, factor)


def _small(quick: bool) -> Result:
    """B1; what is compared also gives the same numbers."""
    size, counts = (128, (5, 12, 24)) if quick else (512, (20, 100, 385))
    lines: list[Line] = []
    for count, target in zip(counts, (24.0, 29.0, 130.0), strict=True):
        ids = cells((size, size), count)
        ours = overtile(ids)
        difference = float(np.abs(np.asarray(ours.prepare()()) - stacked(ids)).max())
        if difference > 1e-4:
            raise ValueError(f"not the same weights: they differ by {difference}")
        stack = _peer("one distance map per cell, stacked, sorted", lambda ids=ids: stacked(ids))  # type: ignore[misc]
        keep = _peer("the same, running minima", lambda ids=ids, n=count: running(ids, n))  # type: ignore[misc]
        lines += compare(f"{size}², {count} cells", ours, [(stack, target), (keep, None)], rounds=3)
    return Result(lines)


def _extrapolated(shape: Sequence[int], count: int, target: float) -> list[Line]:
    ids = cells(shape, count)
    timed = min(TIMED_CELLS, count)
    name = f"one distance map per cell, running minima, extrapolated from {timed} cells"
    peer = _peer(name, lambda: running(ids, timed), count / timed)
    size = "×".join(map(str, shape))
    return compare(f"{size}, {count} cells", overtile(ids), [(peer, target)], rounds=3, warm=count < 1000)


def separation_job(shape: Sequence[int], count: int) -> Job:
    """The weights of one image; for a process of its own."""
    job = overtile(cells(shape, count)).prepare()
    overtile(cells((64,) * len(shape), 4)).prepare()()  # libraries loaded
    return job


def _large(quick: bool) -> Result:
    size, count = (256, 32) if quick else (2048, 2000)
    lines = _extrapolated((size, size), count, target=700.0)
    image = 4 * size**2
    lines.append(
        Line(
            f"{size}², {count} cells: peak memory",
            usage(separation_job, (size, size), count).bytes,
            "one distance map per cell, stacked, sorted: its stack",
            2.0 * count * image,
            unit="B",
            target=FEW_IMAGES * image,
            limit=True,
            note=f"the limit is {FEW_IMAGES} images of float32; the peer's figure is arithmetic",
        )
    )
    return Result(lines)


def _volume(quick: bool) -> Result:
    shape, count = ((16, 64, 64), 12) if quick else ((64, 256, 256), 200)
    return Result(_extrapolated(shape, count, target=24.0))


ROWS = {
    "B1": Row("separation weights of an image", _small),
    "B2": Row("separation weights of a large image", _large),
    "B3": Row("separation weights of a volume", _volume),
}
