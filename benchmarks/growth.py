"""Row E2: how time and memory grow with the number of voxels and of cells."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Literal

from benchmarks.elastic import overtile, sample
from benchmarks.inference import inference, paper_network
from benchmarks.rows import Curve, Line, Result, Row
from benchmarks.timing import Job, usage
from benchmarks.weight_map import separation_job
from overtile.inferers import OverlapTileInferer

VOXELS_PER_CELL = 2100  # as with 2,000 cells in 2048²
NARROW = 4  # features
MEMORY_LIMIT = 1.5  # GiB that the inferer may plan with
TARGET = 1.25  # growth of the cost per voxel: 1 is linear
TIME_TARGETS = {"inference": 1.1}
MEGABYTE = 1e6  # below it memory is not told from noise
RESIDENT_LIMIT = 2e9  # bytes beyond the image and the result
logger = logging.getLogger(__name__)


def elastic_job(size: int) -> Job:
    """Image, label and weight map, deformed together."""
    job = overtile(sample((size, size))).prepare()
    overtile(sample((64, 64))).prepare()()  # libraries loaded
    return job


def inference_job(size: int) -> Job:
    """An image through a narrow network; the result is not counted."""
    network = paper_network(NARROW)
    infer = OverlapTileInferer(memory_limit=MEMORY_LIMIT)
    inference("", "overtile", infer, network, 256).prepare()()  # libraries loaded
    return inference("", "overtile", infer, network, size).prepare()


def _curve(
    part: str,
    against: Literal["voxels", "cells"],
    sizes: Sequence[int],
    job: Callable[..., Job],
    arguments: Callable[[int], tuple[object, ...]],
    output: int = 0,
) -> Curve:
    """A point per size; ``output`` bytes per voxel are taken off the memory."""
    counts, seconds, memory = [], [], []
    for size in sizes:
        measured = usage(job, *arguments(size), rounds=1 if size > 4096 else 3)
        logger.info("%s, %d: %.3f s, %.0f MB", part, size, measured.seconds, measured.bytes / 1e6)
        counts.append(size if against == "cells" else size**2)
        seconds.append(measured.seconds)
        memory.append(measured.bytes - (0 if against == "cells" else output * size**2))
    return Curve(part, against, counts, seconds, memory)


def _lines(curve: Curve) -> list[Line]:
    """How far from linear: cost per voxel at the largest over that at the middle size; of cells, most over fewest."""
    first = 0 if curve.against == "cells" else len(curve.sizes) // 2 - 1
    work = [1] * len(curve.sizes) if curve.against == "cells" else curve.sizes
    name = f"{curve.part}, {{}} at {_count(curve.sizes[-1])} {curve.against} over that at {_count(curve.sizes[first])}"
    per_voxel = "" if curve.against == "cells" else " per voxel"
    figures = (
        ("time", curve.seconds, TIME_TARGETS.get(curve.part, TARGET), 0),
        ("memory", curve.bytes, TARGET, MEGABYTE),
    )
    lines = []
    for kind, values, target, floor in figures:
        each = [max(value, floor) / voxels for value, voxels in zip(values, work, strict=True)]
        growth = each[-1] / each[first]
        lines.append(Line(name.format(kind + per_voxel), growth, unit="x", target=target, limit=True))
    return lines


def _count(number: int) -> str:
    root = math.isqrt(number)
    return f"{root}²" if root * root == number and number > 10_000 else f"{number:,}"


def _growth(quick: bool) -> Result:
    sizes = [128, 256, 512] if quick else [256, 512, 1024, 2048, 4096]
    counts = [4, 16, 64] if quick else [10, 50, 200, 1000, 2000]
    image = 256 if quick else 1024
    large = [256, 512] if quick else [1024, 2048, 4096, 8192, 16384]
    curves = [
        _curve("elastic deformation", "voxels", sizes, elastic_job, lambda size: (size,)),
        _curve(
            "separation weights",
            "voxels",
            sizes,
            separation_job,
            lambda size: ((size, size), max(size**2 // VOXELS_PER_CELL, 2)),
        ),
        _curve("separation weights", "cells", counts, separation_job, lambda count: ((image, image), count)),
        _curve("inference", "voxels", large, inference_job, lambda size: (size,), output=2 * 4),
    ]
    lines = [line for curve in curves for line in _lines(curve)]
    last = curves[-1]
    lines.append(
        Line(
            f"inference of {large[-1]}², {NARROW} features: memory beyond image and result",
            last.bytes[-1],
            unit="B",
            target=RESIDENT_LIMIT,
            limit=True,
        )
    )
    return Result(lines, curves)


ROWS = {"E2": Row("growth with voxels and cells", _growth)}
