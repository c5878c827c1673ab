"""The augmentation of the papers: smooth deformation, rotation, scaling, flips and window in one random draw."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from numpy.typing import NDArray

from overtile.transforms.sampling import MODES, Mode, sample
from overtile.transforms.warp import Field, Warp, grid_size, rotation
from overtile.transforms.windows import draw_foreground_voxel, draw_start


class RandElasticDeform(RandomizableTransform):
    """Draws a window and a deformation of it, and resamples an image once: the tile that the network consumes.

    Displacements are drawn from a Gaussian on a coarse grid over the tile and interpolated *as displacements*, so
    that sigma 0 is exactly the identity (arXiv:1505.04597, section 3.1). Outside, the image continues mirrored.

    Args:
        spatial_size: window to write in voxels, one number or one per axis; None for the size of the image.
        margin: voxels around the window that an image may ask for (``margin`` of the call); window and margin
            together are the tile that the grid spans.
        sigma: standard deviation of the displacements in voxels, one number or one per axis; 10 in 2015, 4 in 2016.
            Between the grid points of the 3x3 grid it is smaller: the mean over the tile is 7.6 of 10 for
            ``"bicubic"`` and 4.8 for ``"bspline"``.
        grid_points: points of the grid per axis; 3 in 2015.
        grid_spacing: instead, their distance in voxels; 32 in 2016, 150 in the release of 2015.
        field: ``"bicubic"`` as in 2015 or ``"bspline"`` as in the release and in 2016; see :class:`Warp`.
        rotate_range: largest angle in radians, to either side; in 3D one number for all or one per axis of rotation.
        scale_range: largest change of magnification, 0.2 for 0.8 to 1.2.
        flip_prob: probability of a flip, for each axis on its own: one number for all or one per axis.
        spacing: size of a voxel per axis (any unit), so that rotations do not shear anisotropic volumes.
        prob: probability of the deformation (displacements, rotation, scaling, flips); the window is always drawn.

    Raises:
        ValueError: for values outside these ranges.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        spatial_size: Sequence[int] | int | None = None,
        margin: int = 0,
        *,
        sigma: Sequence[float] | float = 10.0,
        grid_points: Sequence[int] | int = 3,
        grid_spacing: Sequence[float] | float | None = None,
        field: Field = "bicubic",
        rotate_range: Sequence[float] | float = 0.0,
        scale_range: float = 0.0,
        flip_prob: Sequence[float] | float = 0.0,
        spacing: Sequence[float] | float = 1.0,
        prob: float = 1.0,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        if field not in ("bicubic", "bspline"):
            raise ValueError(f"field must be 'bicubic' or 'bspline', got {field!r}")
        if not 0 <= scale_range < 1 or np.min(flip_prob) < 0 or np.max(flip_prob) > 1 or margin < 0:
            raise ValueError(
                "scale_range must be in [0, 1), flip_prob in [0, 1] and margin 0 or more, "
                f"got {scale_range}, {flip_prob} and {margin}"
            )
        if np.min(sigma) < 0 or np.min(grid_points) < 2 or (grid_spacing is not None and np.min(grid_spacing) <= 0):
            raise ValueError(
                "sigma must be 0 or more, grid_points at least 2 and grid_spacing positive, "
                f"got {sigma}, {grid_points} and {grid_spacing}"
            )
        if np.min(spacing) <= 0:
            raise ValueError(f"spacing, the size of a voxel, must be positive, got {spacing}")
        self.spatial_size = spatial_size
        self.margin = margin
        self.sigma = sigma
        self.grid_points = grid_points
        self.grid_spacing = grid_spacing
        self.field: Field = field
        self.rotate_range = rotate_range
        self.scale_range = scale_range
        self.flip_prob = flip_prob
        self.spacing = spacing
        self.warp: Warp | None = None

    def randomize(self, shape: Sequence[int], foreground: NDArray[np.int64] | None = None) -> None:
        """Draws a warp for images of one spatial shape.

        Args:
            shape: spatial shape of the image.
            foreground: a voxel that the window must contain; anywhere in the image if absent.
        """
        super().randomize(None)
        dims = len(shape)
        window = _per_axis(shape if self.spatial_size is None else self.spatial_size, dims, int)
        tile = tuple(size + 2 * self.margin for size in window)
        if self.grid_spacing is None:
            points = _per_axis(self.grid_points, dims, int)
            spacing = tuple(max(size - 1, 1) / (count - 1) for size, count in zip(tile, points, strict=True))
        else:
            spacing = _per_axis(self.grid_spacing, dims, float)
        grid = tuple(grid_size(size, step, self.field) for size, step in zip(tile, spacing, strict=True))
        start = draw_start(self.R, shape, window, foreground)
        displacements = np.zeros((dims, *grid))
        matrix = np.eye(dims)
        if self._do_transform:
            sigma = np.reshape(_per_axis(self.sigma, dims, float), (dims,) + (1,) * dims)
            displacements = self.R.normal(size=(dims, *grid)) * sigma
            matrix = self._draw_matrix(dims)
        centre = start + (np.array(window) - 1) / 2
        self.warp = Warp(tile, centre, matrix, displacements, spacing, self.field)

    def _draw_matrix(self, dims: int) -> NDArray[np.float64]:
        limits = _per_axis(self.rotate_range, 1 if dims == 2 else 3, float)
        turn = rotation([self.R.uniform(-limit, limit) if limit else 0.0 for limit in limits])
        size = np.array(_per_axis(self.spacing, dims, float))
        zoom = self.R.uniform(1 - self.scale_range, 1 + self.scale_range) if self.scale_range else 1.0
        flips = np.where(self.R.uniform(size=dims) < _per_axis(self.flip_prob, dims, float), -1.0, 1.0)
        return np.asarray(turn * size[None, :] / size[:, None] / zoom * flips[None, :], dtype=np.float64)

    def __call__(
        self, img: NdarrayOrTensor, mode: Mode = "bilinear", margin: int | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """The window of the image, deformed, with ``margin`` voxels around it.

        Args:
            img: (C, *spatial), NumPy array, tensor or MetaTensor.
            mode: ``"bilinear"``, ``"bicubic"`` (2D), both float32, or ``"nearest"``, for labels: keeps the type.
            margin: voxels around the window, at most the transform's own, which is the default.
            randomize: draw anew; False applies the last draw again, to another image of the same shape.

        Raises:
            ValueError: for an image without two or three spatial axes, a mode that it cannot have, or a larger margin.
            RuntimeError: if nothing has been drawn yet.
        """
        _check(img, mode)
        if randomize:
            self.randomize(img.shape[1:])
        return self._resample([(img, self.margin if margin is None else margin, mode)])[0]

    def _resample(self, images: Sequence[tuple[NdarrayOrTensor, int, Mode]]) -> list[NdarrayOrTensor]:
        """Images of one shape, each with its margin and mode, at the last draw.

        The positions are worked out once, for the largest margin.
        """
        if self.warp is None:
            raise RuntimeError("nothing has been drawn yet: call with randomize=True first")
        outer = max(margin for _, margin, _ in images)
        if outer > self.margin:
            raise ValueError(f"margin {outer} is larger than the transform's own, {self.margin}")
        tensors = [convert_to_tensor(img) for img, *_ in images]
        exact = self.warp.moves_voxels_to_voxels
        modes: list[Mode] = ["nearest" if exact else mode for *_, mode in images]
        insets = [outer - margin for _, margin, _ in images]
        warped: dict[int, torch.Tensor] = {}
        for device in {tensor.device for tensor in tensors}:
            positions = self.warp.positions(self.margin - outer, device)
            there = [number for number, tensor in enumerate(tensors) if tensor.device == device]
            values = sample(
                [tensors[number] for number in there],
                [modes[number] for number in there],
                positions,
                [insets[number] for number in there],
            )
            warped.update(zip(there, values, strict=True))
        moves = {margin: self.warp.affine(self.margin - margin) for _, margin, _ in images}
        results = []
        for number, (img, margin, mode) in enumerate(images):
            # The type must not depend on the draw, or a batch mixes types; nor on what tensors have no type for.
            dtype = img.dtype if mode == "nearest" else torch.float32
            result, *_ = convert_to_dst_type(warped[number], img, dtype=dtype)
            if isinstance(result, MetaTensor):
                result.affine = _moved(result.affine, moves[margin])
            results.append(result)
        return results


class RandElasticDeformd(RandomizableTransform, MapTransform):
    """Dictionary form of :class:`RandElasticDeform`: one draw for all keys, each with its own margin and interpolation.

    A valid network consumes the image at its reading window and is compared with label and weight at its writing
    window: give the image the network's margin and the others 0, and nothing is resampled that is not used.

    Args:
        keys: images of one spatial shape.
        spatial_size: window to write; see :class:`RandElasticDeform`.
        margin: voxels around the window, one number or one per key.
        mode: interpolation, one or one per key: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.
        foreground_key: label (0 = background) in which to look for foreground.
        foreground_prob: probability with which the window, before its deformation, must contain a random
            foreground voxel; a single voxel near its rim may be deformed out of it.
        allow_missing_keys: do not raise when a key is absent.
        options: of :class:`RandElasticDeform`: sigma, grid_points, grid_spacing, field, rotate_range, ...

    Raises:
        ValueError: for keys of unequal spatial shapes, besides what :class:`RandElasticDeform` raises.

    Examples:
        >>> deform = RandElasticDeformd(
        ...     ["image", "label"], spatial_size=388, margin=(92, 0), mode=("bilinear", "nearest"), rotate_range=3.14
        ... ).set_random_state(seed=0)
        >>> sample = deform({"image": torch.rand(1, 512, 512), "label": torch.ones(1, 512, 512)})
        >>> tuple(sample["image"].shape), tuple(sample["label"].shape)  # Fig. 1 of arXiv:1505.04597
        ((1, 572, 572), (1, 388, 388))
    """

    backend = RandElasticDeform.backend

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] | int | None = None,
        margin: Sequence[int] | int = 0,
        mode: Sequence[Mode] | Mode = "bilinear",
        *,
        foreground_key: str | None = None,
        foreground_prob: float = 0.5,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.margin: tuple[int, ...] = ensure_tuple_rep(margin, len(self.keys))
        self.mode: tuple[Mode, ...] = ensure_tuple_rep(mode, len(self.keys))
        for name in self.mode:
            if name not in MODES:
                raise ValueError(f"mode must be one of {MODES}, got {name!r}")
        if not 0 <= foreground_prob <= 1:
            raise ValueError(f"foreground_prob must be in [0, 1], got {foreground_prob}")
        self.foreground_key = foreground_key
        self.foreground_prob = foreground_prob
        self.deform = RandElasticDeform(spatial_size, max(self.margin), **options)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandElasticDeformd:
        """Seeds the draws; MONAI's convention."""
        self.deform.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """The dictionary with every key replaced by its deformed window."""
        d = dict(data)
        items = list(self.key_iterator(d, self.margin, self.mode))
        shapes = {key: tuple(d[key].shape[1:]) for key, *_ in items}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"one deformation needs images of one spatial shape, got {shapes}")
        for key, _, mode in items:
            _check(d[key], mode)
        if items:
            self.deform.randomize(next(iter(shapes.values())), self._foreground_voxel(d))
            images = self.deform._resample([(d[key], margin, mode) for key, margin, mode in items])
            d.update(zip(shapes, images, strict=True))
        return d

    def _foreground_voxel(self, data: Mapping[Hashable, NdarrayOrTensor]) -> NDArray[np.int64] | None:
        if self.foreground_key is None or self.foreground_key not in data:
            return None
        if self.R.uniform() >= self.foreground_prob:
            return None
        return draw_foreground_voxel(self.R, data[self.foreground_key][0])


def _check(image: NdarrayOrTensor, mode: Mode) -> None:
    if image.ndim not in (3, 4):
        raise ValueError(f"an image must be (channels, *2 or 3 spatial axes), got shape {tuple(image.shape)}")
    if mode not in MODES or (mode == "bicubic" and image.ndim != 3):
        raise ValueError(f"mode must be one of {MODES}, 'bicubic' in 2D only, got {mode!r} in {image.ndim - 1}D")


def _per_axis(value: Any, dims: int, kind: Any) -> tuple[Any, ...]:
    """``value`` once per axis, with an error that says so where it has another number of entries."""
    values = tuple(value) if np.ndim(value) else (value,) * dims
    if len(values) != dims:
        raise ValueError(f"one number or {dims} are needed here, got {value}")
    return tuple(kind(entry) for entry in values)


def _moved(affine: torch.Tensor, voxels: NDArray[np.float64]) -> torch.Tensor:
    """World position of the output's voxels, the elastic part left out."""
    rank = affine.shape[-1] - 1
    return affine @ torch.as_tensor(to_affine_nd(rank, voxels), dtype=affine.dtype, device=affine.device)
