"""One deformation: a coarse grid of displacements, an affine map and a window in a single map of coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from overtile.transforms.sampling import Positions

Field = Literal["bicubic", "bspline"]


@dataclass(frozen=True)
class Warp:
    """Where every voxel of a tile comes from: ``centre + matrix @ p + u(p)`` for ``p`` voxels off the tile's centre.

    Args:
        tile: voxels of the tile per axis; the grid of displacements spans it.
        centre: position in the image, in voxels, of the tile's centre.
        matrix: (d, d), the linear part; the identity copies.
        displacements: (d, *points), in voxels of the image, on the coarse grid.
        spacing: distance of neighbouring grid points per axis, in voxels of the tile.
        field: ``"bicubic"`` goes through the displacements (2015); ``"bspline"`` is the smoother uniform cubic
            B-spline with them as coefficients, its grid one point larger on every side (release and 2016).
    """

    tile: tuple[int, ...]
    centre: NDArray[np.float64]
    matrix: NDArray[np.float64]
    displacements: NDArray[np.float64]
    spacing: tuple[float, ...]
    field: Field

    @property
    def moves_voxels_to_voxels(self) -> bool:
        """Whether nothing need be interpolated: whole shifts, flips and axis swaps only."""
        corner = self.affine()[:-1, -1]
        whole = np.array_equal(self.matrix, np.round(self.matrix)) and np.array_equal(corner, np.round(corner))
        return whole and not self.displacements.any()

    def coordinates(self, inset: int = 0, device: torch.device | None = None) -> torch.Tensor:
        """Positions in the image, (d, *size) in voxels, of the tile's voxels less ``inset`` on each side."""
        return self.positions(inset, device).part().clone()

    def positions(self, inset: int = 0, device: torch.device | None = None) -> Positions:
        """The same, not yet multiplied out.

        The dense field is a product of one small matrix per axis with the grid; the affine part rides along as two
        more columns, so this is all the arithmetic that a deformation needs.
        """
        dims = len(self.tile)
        coarse = np.zeros((dims, *(points + 2 for points in self.displacements.shape[1:])))
        coarse[(slice(None), *(slice(-2),) * dims)] = self.displacements
        for axis in range(dims):  # the last entry of an axis stands for 1, the one before for the position along it
            index: tuple[slice | int, ...] = (slice(None), *(-2 if other == axis else -1 for other in range(dims)))
            coarse[index] = self.matrix[:, axis]
        coarse.reshape(dims, -1)[:, -1] = self.centre
        on_cpu = device is None or device.type == "cpu"
        dtype = torch.float32 if on_cpu else torch.float64  # TF32 products on a GPU would move voxels by 0.3
        field = torch.from_numpy(coarse).to(device=device, dtype=dtype)
        with torch.autocast("cpu" if device is None else device.type, enabled=False):
            *first, last = (
                _columns(size, inset, points, spacing, self.field).to(device=device, dtype=dtype)
                for size, points, spacing in zip(self.tile, coarse.shape[1:], self.spacing, strict=True)
            )
            for axis, columns in enumerate(first, start=1):
                field = torch.movedim(torch.tensordot(field, columns, dims=([axis], [0])), -1, axis)
        return Positions(field.contiguous(), last)

    def affine(self, inset: int = 0) -> NDArray[np.float64]:
        """(d + 1, d + 1): image voxel index of a voxel of the output, without the elastic part."""
        result = np.eye(len(self.tile) + 1)
        result[:-1, :-1] = self.matrix
        result[:-1, -1] = self.centre - self.matrix @ ((np.array(self.tile) - 1) / 2 - inset)
        return result


def grid_size(size: int, spacing: float, field: Field) -> int:
    """Points of a grid of the given spacing along an axis: enough to span it, one more at each end for a B-spline."""
    segments = max(math.ceil((size - 1) / spacing - 1e-9), 1)
    return segments + 1 if field == "bicubic" else segments + 3


@lru_cache(maxsize=64)
def _columns(size: int, inset: int, points: int, spacing: float, field: Field) -> torch.Tensor:
    """(points, size - 2 inset) of an axis: influence of every grid point, then position and 1. Not to be written to.

    They do not depend on what is drawn, and are kept.
    """
    voxels = np.arange(inset, size - inset)
    influence = _influence(voxels / spacing, points - 2, field)
    return torch.from_numpy(np.stack([*influence.T, voxels - (size - 1) / 2, np.ones(len(voxels))]))


def _influence(position: NDArray[np.float64], points: int, field: Field) -> NDArray[np.float64]:
    """(positions, points): weight of each grid point; every row sums to 1.

    ``bicubic`` is Keys' cubic convolution with a = -0.75, as in OpenCV and PyTorch, edge points repeated.
    """
    result = np.zeros((len(position), points))
    kernel, first = (_cubic_convolution, 0) if field == "bicubic" else (_cubic_bspline, -1)
    base = np.floor(position).astype(int)
    for offset in (-1, 0, 1, 2):
        column = np.clip(base + offset - first, 0, points - 1)
        np.add.at(result, (np.arange(len(position)), column), kernel(np.abs(position - (base + offset))))
    return result


def _cubic_convolution(t: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _cubic_bspline(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(t <= 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


def rotation(angles: Sequence[float]) -> NDArray[np.float64]:
    """Rotation matrix: one angle in 2D; in 3D one about each axis, applied first to last. Radians."""
    if len(angles) == 1:
        cos, sin = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[cos, -sin], [sin, cos]])
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        if angle:
            turn = np.eye(3)
            plane = [other for other in range(3) if other != axis]
            turn[np.ix_(plane, plane)] = rotation([angle])
            result = turn @ result
    return result
