"""Networks that take images of one size only, since each place of the image has weights of its own."""

from __future__ import annotations

import torch

from overtile.geometry import Geometry
from overtile.networks.layers import check_axes


def fixed_geometry(image_size: int) -> Geometry:
    """Geometry of a same-padded network for tiles of ``image_size`` voxels, side by side and without a halo.

    The step is the largest power of two that divides the size. So where the size is a power of two, every tile of an
    image of any shape has this very size if it is the inferer's ``output_size`` too; else only images do whose sides
    are multiples of it.

    Args:
        image_size: voxels per axis.

    Examples:
        >>> fixed_geometry(256), fixed_geometry(224).step
        (Geometry(levels=8, padding='same', margin=0), 32)
    """
    levels = (image_size & -image_size).bit_length() - 1
    return Geometry(levels=levels, padding="same", margin=0)


def accepted(image: torch.Tensor, in_channels: int, image_size: int) -> torch.Tensor:
    """The image as three channels if it is gray, as both authors repeat it, else as it is.

    Args:
        image: (B, C, image_size, image_size).
        in_channels: the channels C that the network takes.
        image_size: voxels per axis that it takes.

    Raises:
        ValueError: for another number of axes or channels, or another size.
    """
    tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[no-untyped-call]
    if not tracing:
        check_axes(image, 2, in_channels)
        if tuple(image.shape[2:]) != (image_size, image_size):
            raise ValueError(
                f"this network takes images of {image_size} x {image_size} voxels only, its image_size, got "
                f"{tuple(image.shape[2:])}; cut others into tiles of that size, as OverlapTileInferer(output_size="
                f"{image_size}) does with images of any shape where image_size is a power of two"
            )
    return image.expand(-1, 3, -1, -1) if in_channels == 1 else image


def stem_channels(in_channels: int) -> int:
    """Channels behind :func:`accepted`: 3 for a gray image."""
    return 3 if in_channels == 1 else in_channels
