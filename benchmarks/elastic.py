"""Rows A: elastic deformation of an image with its label and weight map, all by one random field."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.images import cells, texture
from benchmarks.rows import Line, Result, Row, compare
from benchmarks.timing import Contender, Job

KEYS: list[Hashable] = ["image", "label", "weight"]
MODES: list[Any] = ["bilinear", "nearest", "bilinear"]
SIGMA = 10.0  # voxels, on a 3x3 grid over the image: section 3.1 of arXiv:1505.04597
Sample = dict[Hashable, Any]  # as MONAI's transforms take it
Transform = Callable[[Any], object]


def sample(shape: Sequence[int], weight: bool = True) -> Sample:
    """An image, its label and, if wanted, its weight map, (1, *shape)."""
    ids = cells(shape, 20)
    result: Sample = {
        "image": torch.from_numpy(texture(shape))[None],
        "label": torch.from_numpy((ids > 0).astype(np.float32))[None],
        "weight": torch.from_numpy(1 + np.abs(texture(shape, seed=1)))[None],
    }
    return {key: result[key] for key in (KEYS if weight else KEYS[:2])}


def overtile(data: Sample) -> Contender:
    """This project's transform, as in 2015."""

    def prepare() -> Job:
        from overtile.transforms import RandElasticDeformd

        keys = list(data)
        transform = RandElasticDeformd(keys, mode=MODES[: len(keys)], sigma=SIGMA)
        transform.set_random_state(seed=0)
        return lambda: transform(dict(data))

    return Contender("RandElasticDeformd", "overtile", prepare)


def _monai(name: str, make: Callable[[list[Hashable], list[Any]], Transform], data: Sample) -> Contender:
    def prepare() -> Job:
        transform = make(list(data), MODES[: len(data)])
        return lambda: transform(dict(data))

    return Contender(f"MONAI {name}", "monai", prepare)


def rand_2d_elastic(data: Sample, spacing: float, magnitude: tuple[float, float]) -> Contender:
    """MONAI's transform of the same name; a field of its coarse points, interpolated bicubically."""

    def make(keys: list[Hashable], modes: list[Any]) -> Transform:
        from monai.transforms import Rand2DElasticd

        return Rand2DElasticd(
            keys, (spacing, spacing), magnitude, prob=1.0, mode=modes, padding_mode="reflection"
        ).set_random_state(0)

    return _monai(f"Rand2DElasticd, spacing {spacing:.0f}", make, data)


def rand_3d_elastic(data: Sample) -> Contender:
    """MONAI's, with the ranges of its tutorials: noise on every voxel, smoothed by a Gaussian."""

    def make(keys: list[Hashable], modes: list[Any]) -> Transform:
        from monai.transforms import Rand3DElasticd

        return Rand3DElasticd(
            keys, sigma_range=(5, 8), magnitude_range=(100, 200), prob=1.0, mode=modes, padding_mode="reflection"
        ).set_random_state(0)

    return _monai("Rand3DElasticd", make, data)


def grid_distortion(data: Sample) -> Contender:
    """MONAI's fastest of this kind: a distortion along each axis by itself, less free than a field of the plane."""

    def make(keys: list[Hashable], modes: list[Any]) -> Transform:
        from monai.transforms import RandGridDistortiond

        options: dict[str, Any] = {"num_cells": 3, "distort_limit": 0.1, "mode": modes, "padding_mode": "reflection"}
        return RandGridDistortiond(keys, prob=1.0, **options).set_random_state(0)

    return _monai("RandGridDistortiond", make, data)


def smooth_deform(data: Sample) -> Contender:
    """MONAI's RandSmoothDeform on a grid of 3 points per axis: it has no dictionary form, so one call per key."""

    def prepare() -> Job:
        from monai.transforms import RandSmoothDeform

        shape = data["image"].shape[1:]
        transform: Any = RandSmoothDeform(
            spatial_size=shape,
            rand_size=(3,) * len(shape),
            field_mode="bicubic" if len(shape) == 2 else "trilinear",
            align_corners=True,
            prob=1.0,
            def_range=0.04,
            grid_padding_mode="reflection",
        ).set_random_state(0)

        def job() -> object:
            results = []
            for place, (key, mode) in enumerate(zip(data, MODES, strict=False)):
                transform.set_grid_mode(mode)
                results.append(transform(data[key], randomize=place == 0))
            return results

        return job

    return Contender("MONAI RandSmoothDeform", "monai", prepare)


def batchgenerators(data: Sample) -> Contender:
    """nnU-Net's: smoothed noise, by Fourier transform, then one ``grid_sample``."""

    def prepare() -> Job:
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

        transform = SpatialTransform(
            tuple(data["image"].shape[1:]),
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=1,
            elastic_deform_scale=(0.1, 0.1),
            elastic_deform_magnitude=(SIGMA, SIGMA),
            mode_seg="nearest",
            border_mode_seg="reflection",
            padding_mode_image="reflection",
        )
        names: dict[Hashable, str] = {"image": "image", "label": "segmentation", "weight": "regression_target"}
        inputs = {names[key]: value for key, value in data.items()}
        inputs["segmentation"] = inputs["segmentation"].to(torch.int16)
        return lambda: transform(**{key: value.clone() for key, value in inputs.items()})

    return Contender("SpatialTransform", "batchgeneratorsv2", prepare)


def albumentations(data: Sample, approximate: bool) -> Contender:
    """Simard's deformation (2003) with OpenCV."""

    def prepare() -> Job:
        import albumentations as A
        import cv2

        cv2.setNumThreads(1)
        deform = A.ElasticTransform(
            alpha=300, sigma=20, approximate=approximate, p=1, border_mode=cv2.BORDER_REFLECT_101
        )
        transform = A.Compose([deform], additional_targets={"weight": "image"})
        image, label, weight = (data[key][0].numpy() for key in KEYS)
        label = label.astype(np.uint8)
        return lambda: transform(image=image, mask=label, weight=weight)

    return Contender(f"ElasticTransform{', approximate' * approximate}", "albumentations", prepare)


def kornia(data: Sample) -> Contender:
    """Simard's deformation with PyTorch."""

    def prepare() -> Job:
        from kornia.augmentation import RandomElasticTransform

        transform = RandomElasticTransform(
            kernel_size=(63, 63), sigma=(20.0, 20.0), alpha=(1.0, 1.0), p=1.0, padding_mode="reflection"
        )
        images = torch.cat([data["image"], data["weight"]])[None]

        def job() -> object:
            warped = transform(images)
            return warped, transform(data["label"][None], params=transform._params)

        return job

    return Contender("RandomElasticTransform", "kornia", prepare)


def torchio(data: Sample) -> Contender:
    """B-splines by SimpleITK."""

    def prepare() -> Job:
        import torchio as tio

        volumes = {key: value[..., None] if value.ndim == 3 else value for key, value in data.items()}
        planar = data["image"].ndim == 3
        transform = tio.RandomElasticDeformation(7, max_displacement=(SIGMA, SIGMA, 0 if planar else SIGMA))
        subject = tio.Subject(
            {
                key: tio.LabelMap(tensor=volume) if key == "label" else tio.ScalarImage(tensor=volume)
                for key, volume in volumes.items()
            }
        )
        return lambda: transform(subject)

    return Contender("RandomElasticDeformation", "torchio", prepare)


def scipy(data: Sample) -> Contender:
    """By hand, as in many a tutorial: a 3x3 grid, ``zoom``, and ``map_coordinates`` of order 1 and 0."""

    def prepare() -> Job:
        from scipy.ndimage import map_coordinates, zoom

        arrays = [(data[key][0].numpy(), 0 if key == "label" else 1) for key in data]
        shape = arrays[0][0].shape
        random = np.random.default_rng(0)
        positions = np.indices(shape)

        def job() -> object:
            coarse = random.normal(0, SIGMA, (len(shape), *(3,) * len(shape)))
            field = np.stack([zoom(axis, [size / 3 for size in shape], order=3) for axis in coarse])
            field += positions
            return [map_coordinates(array, field, order=order, mode="mirror") for array, order in arrays]

        return job

    return Contender("zoom + map_coordinates", "scipy", prepare)


def _rand_2d_elastic_line(quick: bool) -> Result:
    size = 128 if quick else 512
    data = sample((size, size))
    coarse = rand_2d_elastic(data, size / 2, (SIGMA, SIGMA))
    fine = rand_2d_elastic(data, 20, (1, 2))
    what = f"{size}², image + label + weight"
    return Result(compare(what, overtile(data), [(coarse, 14.0), (fine, None)], rounds=3 if quick else 15))


def _other_peers_2d(quick: bool) -> Result:
    size = 128 if quick else 512
    data = sample((size, size))
    peers = [
        grid_distortion(data),
        batchgenerators(data),
        smooth_deform(data),
        albumentations(data, approximate=True),
        albumentations(data, approximate=False),
        kornia(data),
        scipy(data),
        torchio(data),
    ]
    what = f"{size}², image + label + weight"
    return Result(compare(what, overtile(data), [(peer, 2.0) for peer in peers], rounds=3 if quick else 11))


def _peers_3d(quick: bool) -> Result:
    size = 32 if quick else 128
    data = sample((size,) * 3, weight=False)
    peers = [
        (rand_3d_elastic(data), 60.0),
        (batchgenerators(data), 15.0),
        (grid_distortion(data), 8.0),
        (smooth_deform(data), None),
        (torchio(data), None),
        (scipy(data), None),
    ]
    lines: list[Line] = compare(f"{size}³, image + label", overtile(data), peers, rounds=2 if quick else 5)
    return Result(lines)


ROWS = {
    "A1": Row("elastic deformation in 2D, beside MONAI's", _rand_2d_elastic_line),
    "A2": Row("elastic deformation in 2D, beside the fastest others that do the same job", _other_peers_2d),
    "A3": Row("elastic deformation in 3D", _peers_3d),
}
