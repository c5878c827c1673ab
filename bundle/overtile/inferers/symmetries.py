"""Flips and right-angle rotations of an image grid: exact, without resampling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch

Averaging = Literal["none", "flips", "rotations", "all"]


@dataclass(frozen=True)
class Symmetry:
    """One symmetry of the grid: swap spatial axes, then flip some of them.

    Args:
        permutation: for each spatial axis of the result, the axis of the image it comes from.
        flips: spatial axes of the result to reverse.
    """

    permutation: tuple[int, ...]
    flips: tuple[int, ...]

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        """The image (B, C, *spatial) as seen through this symmetry."""
        moved = image.permute(0, 1, *(axis + 2 for axis in self.permutation))
        return moved.flip([axis + 2 for axis in self.flips]) if self.flips else moved

    def invert(self, image: torch.Tensor) -> torch.Tensor:
        """Undoes :meth:`apply`."""
        moved = image.flip([axis + 2 for axis in self.flips]) if self.flips else image
        back = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return moved.permute(0, 1, *(axis + 2 for axis in back))


def symmetries(averaging: Averaging, spatial_dims: int) -> tuple[Symmetry, ...]:
    """Symmetries over which to average, the identity first.

    Args:
        averaging: ``"none"``; ``"flips"`` of every axis (4 in 2D, as the release's ``average_mirror``; 8 in 3D);
            ``"rotations"`` by right angles in the plane of the first two axes (4; in MONAI's axis order this is
            the imaging plane x, y); ``"all"`` combinations of these (8 in 2D, 16 in 3D).
        spatial_dims: 2 or 3.

    Raises:
        ValueError: for an unknown name.

    Examples:
        >>> [len(symmetries(kind, 2)) for kind in ("none", "flips", "rotations", "all")]
        [1, 4, 4, 8]
    """
    axes = tuple(range(spatial_dims))
    swapped = (1, 0, *axes[2:])
    flips = [f for count in range(spatial_dims + 1) for f in itertools.combinations(axes, count)]
    if averaging == "none":
        return (Symmetry(axes, ()),)
    if averaging == "flips":
        return tuple(Symmetry(axes, f) for f in flips)
    if averaging == "rotations":
        return (Symmetry(axes, ()), Symmetry(swapped, (0,)), Symmetry(axes, (0, 1)), Symmetry(swapped, (1,)))
    if averaging == "all":
        return tuple(Symmetry(p, f) for p in (axes, swapped) for f in flips)
    raise ValueError(f"averaging must be 'none', 'flips', 'rotations' or 'all', got {averaging!r}")
