"""The example images that come with the package."""

from __future__ import annotations

from pathlib import Path


def sample_folder(spatial_dims: int = 2) -> str:
    """Absolute path of the packaged example: an ordinary data set folder of nuclei, with sections and labels.

    Args:
        spatial_dims: 2 for one fluorescence image of 512x512 pixels with 125 nuclei, cut in a training part (84) and
            a validation part (48; seven lie on the cut); 3 for a synthetic volume of 31x61x57 voxels, cut likewise.

    Raises:
        ValueError: ``spatial_dims`` is neither 2 nor 3.

    Examples:
        >>> Path(sample_folder(3)).name
        'nuclei3d'
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"there are examples of 2 and 3 spatial dimensions, got spatial_dims={spatial_dims!r}")
    return str(Path(__file__).resolve().parent / "sample" / f"nuclei{spatial_dims}d")
