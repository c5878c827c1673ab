"""TIFF files as MONAI writes images, with their voxel size, for Fiji and napari."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from monai.config import DtypeLike, PathLike
from monai.data import MetaTensor
from monai.data.image_writer import ImageWriter
from monai.data.utils import affine_to_spacing, to_affine_nd
from monai.transforms import SpatialResample
from monai.utils import convert_data_type, get_equivalent_dtype
from numpy.typing import NDArray

from overtile.data.calibration import MICROMETRES, Calibration

IMAGEJ_TYPES = ("uint8", "uint16", "int16", "float32")
WIDER = ("uint8", "uint16", "int16", "int32", "uint32")  # integers, in the order they are tried
SUBSTITUTES = {"bool": "uint8", "float16": "float32", "float64": "float32", "int64": "uint16", "uint64": "uint16"}
IMAGEJ_BYTES = 2**32 - 2**25  # ImageJ's format has 32-bit offsets

logger = logging.getLogger(__name__)


class TiffWriter(ImageWriter):  # type: ignore[misc]
    """Writes 2D and 3D images as zlib-compressed TIFF with their voxel size; the file appears when it is complete.

    ImageJ's format for the voxel types ImageJ has (uint8, uint16, int16, float32), OME-TIFF for int32 and uint32.
    bool becomes uint8, float16 and float64 become float32. Integers that do not fit the voxel type are not wrapped
    round: the next wider type is taken.

    The voxel size is that of the affine, in the ``unit`` of the metadata; images without this entry that have an
    affine come from medical formats, whose unit is the millimetre.

    Args:
        output_dtype: voxel type of the file; the array's own where None.
        kwargs: accepted for MONAI, not used.
    """

    def __init__(self, output_dtype: DtypeLike = np.float32, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.output_dtype = output_dtype
        self.voxels: NDArray[Any] = np.zeros((1, 0, 0), np.uint8)  # (C, x, y[, z])
        self.calibration = Calibration()

    def set_data_array(
        self,
        data_array: NDArray[Any] | torch.Tensor,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        **kwargs: object,
    ) -> None:
        """Take the voxels, with the axes ``(x, y[, z])`` and channels at ``channel_dim``, or without where None.

        Args:
            data_array: the voxels.
            channel_dim: index of the channel axis.
            squeeze_end_dims: save a volume of one slice as a 2D image.
            kwargs: accepted for MONAI, not used.

        Raises:
            ValueError: there are not 2 or 3 spatial axes.
        """
        array = convert_data_type(data_array, np.ndarray)[0]
        array = array[None] if channel_dim is None else np.moveaxis(array, channel_dim, 0)
        if squeeze_end_dims and array.ndim == 4 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim not in (3, 4):
            raise ValueError(f"an image has 2 or 3 spatial axes, got {array.ndim - 1}, of sizes {array.shape[1:]}")
        self.voxels = array

    def set_metadata(self, meta_dict: Mapping[str, Any] | None = None, resample: bool = True, **options: Any) -> None:
        """Take the voxel size, and resample to the affine of the file the image was read from if asked to.

        Args:
            meta_dict: ``affine``, ``original_affine``, ``spatial_shape`` and ``unit``, all optional.
            resample: from ``affine`` to ``original_affine``, where they differ.
            options: ``mode``, ``padding_mode``, ``align_corners``, ``dtype`` of ``monai.transforms.SpatialResample``.
        """
        original, affine, shape = self.get_meta_info(meta_dict)
        spatial_dims = self.voxels.ndim - 1
        affine = np.eye(spatial_dims + 1) if affine is None else _affine(affine, spatial_dims)
        if resample and original is not None and not np.allclose(_affine(original, spatial_dims), affine):
            resampler = SpatialResample(**{"mode": "bilinear", **options})
            image = MetaTensor(self.voxels.astype(np.float64), affine=torch.as_tensor(affine))
            affine = _affine(original, spatial_dims)
            self.voxels = resampler(image, dst_affine=torch.as_tensor(affine), spatial_size=shape).numpy()
        spacing = [float(size) for size in affine_to_spacing(affine, r=spatial_dims)]
        default = "pixel" if np.allclose(spacing, 1.0) else "mm"
        unit = str((meta_dict or {}).get("unit", default))
        x, y, z = (*spacing, spacing[0])[:3]
        self.calibration = Calibration((x, y, z), unit)

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: object) -> None:
        """Write to a hidden file beside ``filename`` and rename it, so that no half-written image is ever seen."""
        super().write(filename, verbose=verbose)
        voxels = _as_written(self.voxels, self.output_dtype)
        voxels = np.moveaxis(voxels.T, -1, -3)  # (c, x, y[, z]) to ([z,] c, y, x)
        axes = "ZCYX"[-voxels.ndim :]
        if voxels.shape[-3] == 1:
            voxels, axes = voxels.squeeze(-3), axes.replace("C", "")
        path = Path(filename)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        try:
            tifffile.imwrite(unfinished, voxels, compression="zlib", **_metadata(voxels, axes, self.calibration))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _affine(affine: NDArray[Any] | torch.Tensor, spatial_dims: int) -> NDArray[Any]:
    return np.asarray(to_affine_nd(spatial_dims, convert_data_type(affine, np.ndarray, dtype=np.float64)[0]))


def _as_written(voxels: NDArray[Any], output_dtype: DtypeLike) -> NDArray[Any]:
    """The voxels in the type they are written in: the wanted one, or the first integer type that holds them all."""
    wanted = np.dtype(voxels.dtype if output_dtype is None else get_equivalent_dtype(output_dtype, np.ndarray))
    wanted = np.dtype(SUBSTITUTES.get(wanted.name, wanted.name))
    if wanted.kind not in "iu" or voxels.dtype == bool or voxels.size == 0:
        return voxels.astype(wanted)
    low, high = voxels.min(), voxels.max()
    fitting = [name for name in (wanted.name, *WIDER) if np.iinfo(name).min <= low and high <= np.iinfo(name).max]
    if not fitting:
        raise ValueError(f"a TIFF holds integers of up to 32 bit here, got values from {low} to {high}; renumber them")
    if fitting[0] != wanted.name and output_dtype is not None:
        logger.warning("values from %s to %s do not fit %s: written as %s", low, high, wanted.name, fitting[0])
    return voxels.astype(fitting[0])


def _metadata(voxels: NDArray[Any], axes: str, size: Calibration) -> dict[str, Any]:
    """Arguments of ``tifffile.imwrite`` that say what the axes are and how large a voxel is."""
    x, y, z = size.spacing
    known = size.unit in MICROMETRES
    if voxels.dtype.name in IMAGEJ_TYPES and voxels.nbytes < IMAGEJ_BYTES:
        metadata: dict[str, Any] = {"axes": axes, **({"unit": size.unit} if known else {})}
        metadata |= {"spacing": z} if "Z" in axes else {}
        return {"imagej": True, "resolution": (1 / x, 1 / y), "resolutionunit": "NONE", "metadata": metadata}
    sizes = dict(zip("XYZ", size.spacing, strict=True)) if known else {}
    metadata = {f"PhysicalSize{axis}": length for axis, length in sizes.items() if axis in axes}
    metadata |= {f"{name}Unit": size.unit.replace("um", "µm") for name in tuple(metadata)}
    arguments: dict[str, Any] = {"ome": True, "metadata": {"axes": axes, **metadata}}
    if known:
        centimetres = MICROMETRES[size.unit] / MICROMETRES["cm"]
        arguments |= {"resolution": (1 / (x * centimetres), 1 / (y * centimetres)), "resolutionunit": "CENTIMETER"}
    return arguments
