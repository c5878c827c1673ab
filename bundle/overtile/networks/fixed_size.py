"""Networks that take images of one size only, since each place of the image has weights of its own."""

from __future__ import annotations

import torch

from overtile.geometry import Geometry
from overtile.networks.layers import check_axes


def fixed_geometry(image_size: int, patch: int) -> Geometry:
    """Geometry of a same-padded network that takes tiles of ``image_size`` voxels only.

    Tiles lie three quarters of their size apart, rounded up to patches, so that the patches of all tiles lie on one
    grid. The rest is their margin, about an eighth on each side: what lies there has context on one side only.

    Args:
        image_size: voxels per axis, a multiple of ``patch``.
        patch: voxels per axis of a token.

    Examples:
        >>> fixed_geometry(256, patch=16)
        Geometry(levels=0, padding='same', margin=32, tile=256)
        >>> [fixed_geometry(size, patch=16).margin for size in (32, 64, 96, 224)]
        [0, 8, 8, 24]
    """
    stride = -(-3 * image_size // (4 * patch)) * patch
    return Geometry(levels=0, padding="same", margin=(image_size - stride) // 2, tile=image_size)


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
                f"{tuple(image.shape[2:])}; cut others into tiles of that size, as OverlapTileInferer does"
            )
    return image.expand(-1, 3, -1, -1) if in_channels == 1 else image


def stem_channels(in_channels: int) -> int:
    """Channels behind :func:`accepted`: 3 for a gray image."""
    return 3 if in_channels == 1 else in_channels
