"""Tiles: which windows to read and which to write so that every voxel is written once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from overtile.geometry.sizes import Geometry


@dataclass(frozen=True)
class Tile:
    """One forward pass, as windows in image voxels, one slice per spatial axis.

    ::

        image              |0 ------------------------- size|
        read      |.margin.|=== output ===|.margin.|          may leave the image: mirrored there
        read, same         |=== output ===|.margin.|          ends at the image's border: the network pads there itself
        write              |=== output ===|                   never leaves it; the writes partition it
    """

    read: tuple[slice, ...]
    write: tuple[slice, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Spatial shape that the network sees."""
        return tuple(axis.stop - axis.start for axis in self.read)

    @property
    def write_shape(self) -> tuple[int, ...]:
        """Spatial shape that is kept of its answer."""
        return tuple(axis.stop - axis.start for axis in self.write)


def plan_tiles(shape: Sequence[int], output_size: Sequence[int], geometry: Geometry) -> list[Tile]:
    """Tiles that cover an image; their write windows partition it.

    Write corners lie on multiples of ``2**levels``, so every tile sees the pooling grid of the whole image and the
    stitched result does not depend on ``output_size``. All tiles of a valid network have one size. Those of a
    same-padded network end at the border of the image, where the network pads as it did in training; only up to the
    next legal size is the image mirrored. A network of one size has tiles of that size, whatever is wanted.

    Args:
        shape: spatial shape of the image.
        output_size: wanted write window per axis, rounded up to a legal one of at least ``2**levels`` voxels.
        geometry: of the network.

    Raises:
        ValueError: for unequal numbers of axes or an empty axis.

    Examples:
        >>> tiles = plan_tiles((512, 512), (388, 388), Geometry(levels=4))
        >>> len(tiles), tiles[0].read[0], tiles[0].write[0], tiles[-1].write[0]
        (4, slice(-92, 480, None), slice(0, 384, None), slice(384, 512, None))
        >>> plan_tiles((35,), (40,), Geometry(levels=3, padding="same"))
        [Tile(read=(slice(0, 40, None),), write=(slice(0, 35, None),))]
        >>> plan_tiles((35,), (40,), Geometry(levels=0, padding="same", margin=8, tile=64))
        [Tile(read=(slice(-8, 56, None),), write=(slice(0, 35, None),))]
    """
    if len(shape) != len(output_size):
        raise ValueError(f"an image of shape {tuple(shape)} needs one output size per axis, got {tuple(output_size)}")
    if min(shape) < 1:
        raise ValueError(f"an image with an empty axis has no tiles: shape {tuple(shape)}")
    axes = [_windows(size, wanted, geometry) for size, wanted in zip(shape, output_size, strict=True)]
    return [
        Tile(read=tuple(read for read, _ in windows), write=tuple(write for _, write in windows))
        for windows in itertools.product(*axes)
    ]


def _windows(size: int, wanted: int, geometry: Geometry) -> list[tuple[slice, slice]]:
    """Windows to read and to write along one axis."""
    stride = geometry.stride(wanted)
    output = max(wanted, stride)  # the smallest answer of all, 4 voxels, is less than a stride
    return [
        (geometry.read_window(start, output, size), slice(start, min(start + stride, size)))
        for start in range(0, size, stride)
    ]


def fitted_output_size(shape: Sequence[int], geometry: Geometry, largest_input: float) -> tuple[int, ...]:
    """Write window whose tiles pass the fewest voxels through the network without exceeding ``largest_input``.

    Tiles are fitted: an axis is cut into ``k`` equal parts on the pooling grid, so that the last one does not
    overshoot, and the ``k`` of all axes are chosen together.

    Args:
        shape: spatial shape of the image.
        geometry: of the network.
        largest_input: voxels that one input tile may have. Where even the smallest tile has more, it is taken.

    Examples:
        >>> fitted_output_size((512, 512), Geometry(levels=4), largest_input=700**2)  # the whole image at once
        (516, 516)
        >>> fitted_output_size((2048, 2048), Geometry(levels=4), largest_input=900**2)
        (692, 692)
    """

    def rank(combination: tuple[_Fit, ...]) -> tuple[float, float]:
        """Within the limit the cheapest; where nothing is within it, the smallest tile."""
        voxels = math.prod(fit.longest for fit in combination)
        cost = math.prod(fit.total for fit in combination)
        return (0.0 if voxels <= largest_input else float(voxels), float(cost))

    best = min(itertools.product(*(_fits(size, geometry) for size in shape)), key=rank)
    return tuple(fit.output for fit in best)


@dataclass(frozen=True)
class Strips:
    """Tiles as long as the image along one axis, each read strip by strip.

    Args:
        output_size: write window of the tiles.
        axis: the axis along which they are read, the image's longest.
        height: voxels of a strip along it, a multiple of ``2**levels``; or all of the tile.
    """

    output_size: tuple[int, ...]
    axis: int
    height: int


def fitted_strips(shape: Sequence[int], geometry: Geometry, largest_input: float, held: float, wanted: float) -> Strips:
    """Strips that pass the fewest voxels through a network that keeps the rows it still needs.

    Nothing is computed twice along the axis of the strips. The other axes are cut only where not even strips of the
    smallest height, ``2**levels``, are within the limit.

    Args:
        shape: spatial shape of the image.
        geometry: of the network.
        largest_input: voxels that may be in the network at once. Where even the smallest strip has more, it is taken.
        held: rows whose memory the layers keep between two strips.
        wanted: voxels of a strip beyond which nothing is gained.

    Examples:
        >>> fitted_strips((2048, 2048), Geometry(levels=4), 700**2, held=100, wanted=200_000)
        Strips(output_size=(2052, 2052), axis=0, height=80)
        >>> fitted_strips((512, 512), Geometry(levels=4), 700**2, held=100, wanted=1e9)  # the whole image at once
        Strips(output_size=(516, 516), axis=0, height=700)
    """
    axis = max(range(len(shape)), key=lambda axis: shape[axis])
    length = _fits(shape[axis], geometry)[-1]
    others = [_fits(size, geometry) if other != axis else [length] for other, size in enumerate(shape)]

    def height(combination: tuple[_Fit, ...]) -> int:
        """Voxels of a strip that are within the limit, of the whole tile if it is; 0 or less where not a step is."""
        row = math.prod(fit.longest for fit in combination) // length.longest
        if row * length.longest <= min(largest_input, wanted):
            return length.longest
        return int(min(largest_input / row - held, wanted / row)) // geometry.step * geometry.step

    def rank(combination: tuple[_Fit, ...]) -> tuple[float, float]:
        """As for tiles."""
        row = math.prod(fit.longest for fit in combination) // length.longest
        strip = height(combination)
        voxels = row * (max(strip, geometry.step) + held)
        cost = math.prod(fit.total for fit in combination)
        return (0.0 if strip > 0 or voxels <= largest_input else float(voxels), float(cost))

    best = min(itertools.product(*others), key=rank)
    return Strips(tuple(fit.output for fit in best), axis, max(height(best), geometry.step))


@dataclass(frozen=True)
class _Fit:
    """One way to cut an axis into equal parts on the pooling grid."""

    longest: int
    total: int
    output: int


def _fits(size: int, geometry: Geometry) -> list[_Fit]:
    """All ways, from the smallest parts to the whole axis."""
    parts = -(-size // geometry.step)
    fits = []
    for stride in sorted({-(-parts // k) * geometry.step for k in range(1, parts + 1)}):
        lengths = [read.stop - read.start for read, _ in _windows(size, stride, geometry)]
        fits.append(_Fit(max(lengths), sum(lengths), geometry.window_size(stride)))
    return fits
