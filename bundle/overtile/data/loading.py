"""Loading images and labels, with one clear message for every file that does not fit."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.data.image_reader import ImageReader, PILReader
from monai.transforms import LoadImaged
from monai.utils import MetaKeys, ensure_tuple

from overtile.data.channels import fit_channels, label_channel
from overtile.data.tiff_reader import TiffReader

CONVERTED_MODES = ("P", "PA", "CMYK")  # Pillow's: a palette's index or an ink is not an intensity
LARGEST_NUMBER = 2**24  # float32 holds every whole number up to here


class LoadImagesd(LoadImaged):  # type: ignore[misc]
    """``monai.transforms.LoadImaged`` that reads TIFF files with their voxel size and checks what it has read.

    Images come channel first, as ``(C, x, y)`` or ``(C, x, y, z)``. TIFF files are read by ``TiffReader``, others by
    the reader MONAI chooses, unless ``reader`` names one. Colours: alpha is dropped; three equal channels are one
    gray channel where the network takes one; a gray image is repeated where it takes three.

    Args:
        keys: as for ``LoadImaged``; those of them in ``label_keys`` are labels, the others images.
        reader: as for ``LoadImaged``.
        dtype: as for ``LoadImaged``.
        ensure_channel_first: must stay true.
        spatial_dims: of the network, 2 or 3; not checked where None. A volume of one slice is a 2D image.
        channels: number of image channels that the network takes; not checked where None.
        label_keys: keys of labels, which have one channel of whole numbers.
        kwargs: as for ``LoadImaged``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reader: type[ImageReader] | str | None = None,
        dtype: DtypeLike = np.float32,
        *,
        ensure_channel_first: bool = True,
        spatial_dims: int | None = None,
        channels: int | None = None,
        label_keys: KeysCollection = ("label",),
        **kwargs: Any,
    ) -> None:
        if not ensure_channel_first:
            raise ValueError("LoadImagesd returns channels first; for ensure_channel_first=False use LoadImaged")
        if spatial_dims not in (None, 2, 3):
            raise ValueError(f"spatial_dims must be 2, 3 or None, got {spatial_dims!r}")
        super().__init__(keys, reader, dtype, ensure_channel_first=True, **kwargs)
        if reader is None:
            self.register(TiffReader())
        self.spatial_dims = spatial_dims
        self.channels = channels
        self.label_keys = ensure_tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """The dictionary with images in place of paths.

        Raises:
            RuntimeError: a file cannot be read.
            ValueError: an image is not what the network takes, or image and label differ in size.
        """
        d = dict(data)
        files: dict[Hashable, str] = {}
        for key, meta_key, postfix in self.key_iterator(d, self.meta_keys, self.meta_key_postfix):
            files[key] = str(ensure_tuple(d[key])[0])
            d[key] = self._load(d[key], key in self.label_keys, reader)
            if not self._loader.image_only:
                meta_key = meta_key or f"{key}_{postfix}"
                if meta_key in d and not self.overwriting:
                    raise KeyError(f"Metadata with key {meta_key} already exists and overwriting=False.")
                d[meta_key] = d[key].meta
        self._check_shapes(d, files)
        return d

    def _load(self, path: str | os.PathLike[str], is_label: bool, reader: ImageReader | None) -> MetaTensor:
        """One image or label, checked."""
        file = str(ensure_tuple(path)[0])
        image = self._read(path, reader)
        if not is_label and image.meta.get("mode") in CONVERTED_MODES:
            image = self._read(path, PILReader(converter=lambda picture: picture.convert("RGB")))
        if image.is_floating_point() and not bool(torch.isfinite(image).all()):
            raise ValueError(f"{file} has values that are not finite (NaN or infinite); replace them, for example by 0")
        image = self._fit_dimensions(image, file)
        if not is_label:
            return fit_channels(image, self.channels, file)
        _check_numbers(image, file)
        return label_channel(image, file)

    def _read(self, path: str | os.PathLike[str], reader: ImageReader | None) -> MetaTensor:
        """What MONAI's loader returns for a file, or one message with its name and the reason."""
        try:
            loaded = self._loader(path, reader)
        except Exception as error:
            raise RuntimeError(f"cannot read {_named(path)}: {_reason(path, error)}") from error
        return cast(MetaTensor, loaded if self._loader.image_only else loaded[0])

    def _fit_dimensions(self, image: MetaTensor, file: str) -> MetaTensor:
        """The image with as many spatial axes as the network has."""
        wanted, shape = self.spatial_dims, tuple(image.shape[1:])
        if wanted is None or len(shape) == wanted:
            return image
        if wanted == 2 and len(shape) == 3 and shape[-1] == 1:
            flat = cast(MetaTensor, image[..., 0])
            flat.meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(shape[:2])
            return flat
        remedy = "use the 3D overlay or save single slices" if wanted == 2 else "use the 2D network or save volumes"
        raise ValueError(f"{file} is {len(shape)}D, of size {shape}, but this network is {wanted}D; {remedy}")

    def _check_shapes(self, d: Mapping[Hashable, Any], files: Mapping[Hashable, str]) -> None:
        """Every image and label of the dictionary has one size."""
        shapes = {key: tuple(d[key].shape[1:]) for key in files}
        first = next(iter(shapes), None)
        for key, shape in shapes.items():
            if shape != shapes[first]:
                raise ValueError(
                    f"image and label must be of one size, but {files[first]} has {shapes[first]} and {files[key]} "
                    f"has {shape} (x first); correct or exchange one of them"
                )


def _check_numbers(label: MetaTensor, file: str) -> None:
    """A label's values are whole numbers that float32 can tell apart."""
    if label.meta.get("format") == "JPEG":
        raise ValueError(f"{file} is a JPEG, whose compression changes label numbers; save labels as PNG or TIFF")
    if label.is_floating_point() and not bool((label == label.round()).all()):
        raise ValueError(f"{file} is a label with values that are not whole numbers; save class or object numbers")
    largest = float(label.max()) if label.numel() else 0.0
    if label.dtype == torch.float32 and largest >= LARGEST_NUMBER:
        raise ValueError(
            f"{file} has label {largest:.0f}, but float32 cannot tell numbers above {LARGEST_NUMBER - 1} apart; "
            "renumber the objects 1, 2, ..."
        )


def _named(path: str | os.PathLike[str]) -> str:
    return ", ".join(str(name) for name in ensure_tuple(path))


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    """Why a file could not be read, in one line."""
    for name in ensure_tuple(path):
        file = Path(name).expanduser()
        if not file.exists():
            return "the file does not exist"
        if file.is_file() and file.stat().st_size == 0:
            return "the file is empty"
        if file.name.lower().endswith((".mha", ".mhd", ".nrrd")) and "suitable reader" in str(error):
            return "this format needs ITK: pip install itk"
    text = " ".join(str(error).split())
    return f"{text[:300]} ({type(error).__name__})" if text else type(error).__name__
