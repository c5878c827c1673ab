"""Distances to the two nearest instances: a few distance transforms for any number of instances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

Distances = NDArray[np.int16] | NDArray[np.float32]

BLOCK = 1 << 16  # numbers worked on at a time, so that they stay in the cache
LONGEST_IN_INT16 = 170  # voxels; its square and one more step still fit


def gap_width(ids: NDArray[np.int32], reach: float, sampling: tuple[float, ...]) -> NDArray[np.float32]:
    """Distance to the nearest instance plus that to the second nearest: float32; infinite beyond ``reach``.

    Each of ``m`` distance transforms is to a group of instances. Every instance is in ``w`` of the ``m`` groups, and
    no two within reach of each other are in the same ones. So the ``w`` groups that hold the nearest instance are the
    nearest ones, and one of the others holds the second nearest: its distance is the next larger. ``m`` groups tell
    ``binomial(m, m // 2)`` instances apart: 6 are enough for 20 within reach of each other, 12 for 924.

    Args:
        ids: instances > 0, elsewhere 0, on the spatial axes.
        reach: largest sum of interest, in the unit of ``sampling``.
        sampling: voxel size per axis.

    Examples:
        >>> gap_width(np.array([[1, 0, 0, 2, 0, 0, 0]]), reach=6, sampling=(1.0, 1.0)).tolist()
        [[3.0, 3.0, 3.0, 3.0, 5.0, inf, inf]]
    """
    unit = sampling[0]
    reach, sampling = reach / unit, tuple(size / unit for size in sampling)
    numbers = _numbers(ids, [math.ceil(reach / size) for size in sampling])
    width = np.full(ids.shape, np.inf, dtype=np.float32)
    if np.count_nonzero(numbers) < 2:
        return width
    members, groups, each = _groups(numbers)
    member = members[ids]
    squares = [_squared_distance((member & (1 << group)) != 0, reach, sampling).ravel() for group in range(groups)]
    for start in range(0, ids.size, BLOCK):
        block = slice(start, start + BLOCK)
        ranked = _smallest((square[block] for square in squares), each + 1)
        both = np.sqrt(ranked[0], dtype=np.float32) + np.sqrt(ranked[each], dtype=np.float32)
        both[both > reach] = np.inf
        width.ravel()[block] = both * np.float32(unit)
    return width


def distance_within(mask: NDArray[np.bool_], reach: float, sampling: tuple[float, ...]) -> NDArray[np.float32]:
    """Distance of every voxel to the mask: float32; infinite beyond ``reach``.

    Examples:
        >>> distance_within(np.array([[True, False, False]]), reach=0.5, sampling=(1.0, 0.5)).tolist()
        [[0.0, 0.5, inf]]
    """
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    unit = sampling[0]
    square = _squared_distance(mask, reach / unit, tuple(size / unit for size in sampling))
    distance = np.sqrt(square, dtype=np.float32)
    distance[distance > reach / unit] = np.inf
    distance *= np.float32(unit)
    return distance


def _numbers(ids: NDArray[np.int32], grow: list[int]) -> NDArray[np.int64]:
    """A number from 1 for each instance; those whose boxes are ``grow`` voxels apart or less have different ones.

    Every instance takes the smallest number that is free around it, on a coarse map of the numbers taken (one bit
    each). Where all bits are taken it gets a number that no other has.
    """
    cell = [max(size // 4, 1) for size in grow]
    taken = np.zeros([-(-size // c) for size, c in zip(ids.shape, cell, strict=True)], dtype=np.uint64)
    boxes = find_objects(ids)
    numbers = np.zeros(len(boxes) + 1, dtype=np.int64)
    for instance, box in enumerate(boxes, start=1):
        if box is None:
            continue
        near = tuple(
            slice(max(b.start - g, 0) // c, (b.stop + g - 1) // c + 1) for b, g, c in zip(box, grow, cell, strict=True)
        )
        bits = int(np.bitwise_or.reduce(taken[near], axis=None))
        free = (~bits & (bits + 1)).bit_length()
        if free > 64:
            numbers[instance] = 64 + instance
            continue
        numbers[instance] = free
        inside = tuple(slice(b.start // c, (b.stop - 1) // c + 1) for b, c in zip(box, cell, strict=True))
        taken[inside] |= np.uint64(1 << (free - 1))
    return numbers


def _groups(numbers: NDArray[np.int64]) -> tuple[NDArray[np.unsignedinteger], int, int]:
    """One bit per group that an instance is in; the number of groups; and how many of them each instance is in."""
    used, order = np.unique(numbers[1:][numbers[1:] > 0], return_inverse=True)
    groups = next(m for m in itertools.count(2) if math.comb(m, m // 2) >= len(used))
    each = groups // 2
    chosen = itertools.islice(itertools.combinations(range(groups), each), len(used))
    bits = [sum(1 << group for group in which) for which in chosen]
    members = np.zeros(len(numbers), dtype=np.min_scalar_type(1 << groups))
    members[numbers > 0] = np.array(bits, dtype=members.dtype)[order]
    return members, groups, each


def _smallest(arrays: Iterable[Distances], count: int) -> list[Distances]:
    """The ``count`` smallest values at each place, ascending."""
    ranked: list[Distances] = []
    for array in arrays:
        larger = array
        for rank, other in enumerate(ranked):
            ranked[rank], larger = np.minimum(other, larger), np.maximum(other, larger)
        ranked = [*ranked, larger][:count]
    return ranked


def _squared_distance(mask: NDArray[np.bool_], reach: float, sampling: tuple[float, ...]) -> Distances:
    """Squared distance to the mask, exact up to ``reach`` and larger than its square beyond, one axis after the other.

    Integers where voxels are cubes of size 1: half the time of float32.
    """
    *others, last = sampling
    steps = _steps_to(mask, math.ceil(reach / last))  # rounded down, "farther" would be as near as the reach
    integers = reach <= LONGEST_IN_INT16 and set(sampling) == {1}
    square: Distances = steps.astype(np.int16) if integers else steps.astype(np.float32)
    square *= square
    if not integers:
        square *= last**2
    for axis, size in enumerate(others):
        before, length, after = math.prod(mask.shape[:axis]), mask.shape[axis], math.prod(mask.shape[axis + 1 :])
        for lines in square.reshape(before, length, after):
            _add_axis(lines, min(math.ceil(reach / size), length - 1), size**2)
    return square


def _steps_to(mask: NDArray[np.bool_], reach: int) -> NDArray[np.unsignedinteger]:
    """Voxels to the mask along the last axis, ``reach + 1`` where it is farther: steps of 1, 2, 4, ... reach them."""
    steps = (~mask).astype(np.min_scalar_type(2 * reach + 2))
    steps *= steps.dtype.type(reach + 1)
    step = 1
    while step <= min(reach, mask.shape[-1] - 1):
        left, right = steps[..., :-step], steps[..., step:]
        from_left = left + steps.dtype.type(step)
        np.minimum(left, right + steps.dtype.type(step), out=left)
        np.minimum(right, from_left, out=right)
        step *= 2
    return steps


def _add_axis(lines: Distances, reach: int, unit: float) -> None:
    """Add the first axis to squared distances, in place: ``min over y of lines(y) + unit (x - y)^2``.

    A step of one voxel after the other, since ``n^2 = 1 + 3 + ... + (2n - 1)``: the ``n``-th step of any voxel costs
    ``2n - 1``, and a distance of ``d`` voxels is the first ``d`` steps (Huang and Mitchell 1994).
    """
    length, width = lines.shape
    columns = max(BLOCK // length, 64)
    for start in range(0, width, columns):
        part = lines[:, start : start + columns]
        padded = np.full((length + 2, part.shape[1]), part.max(), dtype=part.dtype)
        above, here, below = padded[:-2], padded[1:-1], padded[2:]
        here[:] = part
        step = np.empty_like(here)
        for n in range(1, reach + 1):
            np.minimum(above, below, out=step)
            step += step.dtype.type(unit * (2 * n - 1))
            np.minimum(here, step, out=here)
        part[:] = here
