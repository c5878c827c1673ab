"""TIFF files as MONAI reads images, with their voxel size.

MONAI's own readers lose it: ITK does not know ImageJ's calibration, Pillow reads no voxel size and one page only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from monai.config import PathLike
from monai.data.image_reader import ImageReader, _copy_compatible_dict, _stack_images
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray
from PIL import Image

from overtile.data.calibration import Calibration, calibration

SUFFIXES = (".tif", ".tiff")
MODES = {("RGB", 3): "RGB", ("RGB", 4): "RGBA", ("MINISBLACK", 2): "LA"}  # Pillow's words for pixel formats
ROLES = {"X": "X", "Y": "Y", "Z": "Z", "Q": "Z", "I": "Z", "C": "C", "S": "C"}  # Q, I: pages without a meaning


@dataclass(frozen=True)
class TiffImage:
    """A file's first image: voxels with the axes ``[Z]YX[C]``, and what the file says about them."""

    voxels: NDArray[Any]
    has_channels: bool
    calibration: Calibration
    mode: str  # "RGB", "RGBA" or "LA" (gray and alpha), else empty


class TiffReader(ImageReader):  # type: ignore[misc]
    """Reads 2D and 3D TIFF files of any voxel type: plain, multi-page (as a volume), ImageJ hyperstack, OME-TIFF.

    As MONAI's readers do it returns the spatial axes reversed, ``(x, y)`` or ``(x, y, z)``, and channels last.
    The affine is diagonal, with the voxel size in micrometres; ``unit`` in the metadata is ``"um"``, or ``"pixel"``
    where the file states no size.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every file name ends with .tif or .tiff."""
        return all(str(name).lower().endswith(SUFFIXES) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: object) -> TiffImage | list[TiffImage]:
        """The image of a file, or a list of them for several files.

        Raises:
            ValueError: the file is truncated, or has axes other than x, y, z and one of channels.
            tifffile.TiffFileError: the file is no TIFF.
        """
        images = [_read(str(name)) for name in ensure_tuple(data)]
        return images[0] if len(images) == 1 else images

    def get_data(self, img: TiffImage | Sequence[TiffImage]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Voxels and metadata; several images are stacked as channels, as MONAI's readers do it."""
        arrays: list[NDArray[Any]] = []
        metadata: dict[str, Any] = {}
        for image in [img] if isinstance(img, TiffImage) else img:
            spatial_dims = image.voxels.ndim - image.has_channels
            axes = (*reversed(range(spatial_dims)), *range(spatial_dims, image.voxels.ndim))
            arrays.append(image.voxels.transpose(axes))
            affine = np.diag([*image.calibration.spacing[:spatial_dims], 1.0])
            header = {
                MetaKeys.AFFINE: affine,
                MetaKeys.ORIGINAL_AFFINE: affine.copy(),
                MetaKeys.SPATIAL_SHAPE: np.asarray(arrays[-1].shape[:spatial_dims]),
                MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if image.has_channels else float("nan"),
                MetaKeys.SPACE: SpaceKeys.RAS,
                "unit": image.calibration.unit,
                "mode": image.mode,
            }
            _copy_compatible_dict(header, metadata)
        return _stack_images(arrays, metadata), metadata


def _read(path: str) -> TiffImage:
    """The first series of a file; pyramids at full resolution."""
    with _broken_offsets() as broken, tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        roles = _roles(series.axes, series.shape)
        page = series.keyframe
        mode = MODES.get((tifffile.PHOTOMETRIC(page.photometric).name, page.samplesperpixel), "")
        voxels, size = _decoded(series, path), calibration(tif)
    if broken:
        raise ValueError(f"the file is truncated or damaged ({broken[0]}); copy or save it again")
    order = [roles.index(role) for role in "ZYXC" if role in roles]
    voxels = voxels.transpose(order)
    return TiffImage(voxels.astype(voxels.dtype.newbyteorder("="), copy=False), "C" in roles, size, mode)


def _roles(axes: str, shape: Sequence[int]) -> list[str]:
    """What each axis is, of X, Y, Z and C (channels).

    Raises:
        ValueError: an axis of time or of something else, or two axes of one role.
    """
    if "T" in axes:
        raise ValueError(
            f"the file has a time axis of {shape[axes.index('T')]} frames; save single frames, "
            "or, if the frames are slices of a volume, swap t and z (in Fiji: Image > Properties)"
        )
    roles = [ROLES.get(axis, axis) for axis in axes]
    if not {"X", "Y"} <= set(roles) <= {"X", "Y", "Z", "C"} or len(set(roles)) < len(roles):
        raise ValueError(
            f"a TIFF may have the axes x, y, z and one of channels, this one has {axes} of sizes {tuple(shape)}; "
            "save the part to use as a file of its own"
        )
    return roles


def _decoded(series: tifffile.TiffPageSeries, path: str) -> NDArray[Any]:
    """The voxels; by Pillow where tifffile alone cannot decompress them (LZW, JPEG)."""
    try:
        return np.asarray(series.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        reason = f"{error}; pip install imagecodecs, or save the file uncompressed or with zlib"
        pages = []
        with Image.open(path) as image:
            for page in (page for page in series.pages if page is not None):
                image.seek(page.index)
                pages.append(np.asarray(image))
                if pages[-1].shape != page.shape or pages[-1].dtype.newbyteorder("=") != series.dtype.newbyteorder("="):
                    raise ValueError(reason) from error
    return np.stack(pages).reshape(series.shape)


@contextmanager
def _broken_offsets() -> Iterator[list[str]]:
    """What tifffile logs, in this thread, about offsets behind the end of the file.

    It then goes on with the pages it has, and a volume cut off in transfer would be read as a thinner one.
    """
    messages: list[str] = []
    thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.thread == thread and ("invalid page offset" in message or "invalid value offset" in message):
                messages.append(message)

    listener = Listener()
    logger = logging.getLogger("tifffile")
    logger.addHandler(listener)
    try:
        yield messages
    finally:
        logger.removeHandler(listener)
