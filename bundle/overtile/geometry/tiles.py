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
    next legal size is the image mirrored.

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
    candidates = []
    for size in shape:
        parts = -(-size // geometry.step)
        strides = {-(-parts // k) * geometry.step for k in range(1, parts + 1)}
        fits = []
        for stride in strides:
            lengths = [read.stop - read.start for read, _ in _windows(size, stride, geometry)]
            fits.append((max(lengths), sum(lengths), geometry.window_size(stride)))
        candidates.append(fits)
    best: tuple[float, float, tuple[int, ...]] | None = None
    for combination in itertools.product(*candidates):
        voxels = math.prod(length for length, _, _ in combination)
        cost = math.prod(cost for _, cost, _ in combination)
        # within the limit the cheapest; where nothing is within it, the smallest tile
        key = (0.0, float(cost)) if voxels <= largest_input else (float(voxels), float(cost))
        if best is None or key < best[:2]:
            best = (*key, tuple(output for _, _, output in combination))
    assert best is not None
    return best[2]
