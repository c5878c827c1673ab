"""Integers and slices: what a network does to an axis, which tiles cover an image, how an image is mirrored."""

from overtile.geometry.mirror import fold, mirror_indices, read_mirrored
from overtile.geometry.sizes import Geometry, margin
from overtile.geometry.tiles import Strips, Tile, fitted_output_size, fitted_strips, plan_tiles

__all__ = [
    "Geometry",
    "Strips",
    "Tile",
    "fitted_output_size",
    "fitted_strips",
    "fold",
    "margin",
    "mirror_indices",
    "plan_tiles",
    "read_mirrored",
]
