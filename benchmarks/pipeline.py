"""Row E1: one augmented training sample, from cached images, by the bundle's own configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from benchmarks.elastic import KEYS, MODES, Sample
from benchmarks.images import cells, texture
from benchmarks.rows import Result, Row, compare
from benchmarks.timing import Contender, Job

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "train.json"
AT_ONCE = 8  # samples per round: what a draw costs differs
IMAGE, INPUT, OUTPUT = 512, 572, 388  # voxels per axis: cached, of the network's input and of its output
Transform = Any  # callable with a sample, and what else MONAI's have


def transforms(part: str) -> list[Transform]:
    """``"deterministic_transforms"`` or ``"random_transforms"`` of configs/train.json, as the bundle makes them."""
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    made: list[Transform] = parser.get_parsed_content(f"train::{part}")
    return made


def cached_samples(count: int) -> list[Sample]:
    """What the bundle keeps in its cache: normalised image, label with its gap, separation weights."""
    prepare = Compose(transforms("deterministic_transforms")[1:])  # the first one reads files
    shape = (IMAGE, IMAGE)
    samples = []
    for seed in range(count):
        image = MetaTensor(torch.from_numpy(texture(shape, seed))[None])
        label = MetaTensor(torch.from_numpy(cells(shape, 20, seed))[None])
        samples.append(prepare({"image": image, "label": label}))
    return samples


def _contender(name: str, package: str, prepare: Callable[[], Transform], samples: list[Sample]) -> Contender:
    """Makes the samples in turn."""

    def ready() -> Job:
        transform = prepare()
        order = itertools.cycle(samples)
        expected = {"image": INPUT, "label": OUTPUT, "weight": OUTPUT}
        made = transform(dict(samples[0]))
        if any(tuple(made[key].shape) != (1, size, size) for key, size in expected.items()):
            raise ValueError(f"{name} makes another sample: { {key: tuple(made[key].shape) for key in expected} }")

        def job() -> None:
            for _ in range(AT_ONCE):
                transform(dict(next(order)))

        return job

    return Contender(name, package, ready, factor=1 / AT_ONCE)


def _overtile() -> Transform:
    made: Transform = Compose(transforms("random_transforms")).set_random_state(0)
    return made


def _intensity() -> list[Transform]:
    """Those of the bundle, by MONAI's own transforms: for the peers."""
    from monai.transforms import RandHistogramShiftd

    _, shift, *others = transforms("random_transforms")
    return [RandHistogramShiftd("image", shift.shifter.num_control_points, shift.prob), *others]


def _window() -> list[Transform]:
    from monai.transforms import CenterSpatialCropd, SpatialPadd

    return [
        SpatialPadd(KEYS, (INPUT, INPUT), mode="reflect"),
        CenterSpatialCropd(KEYS[1:], (OUTPUT, OUTPUT)),
    ]


def _grid_distortion() -> Transform:
    from monai.transforms import RandAffined, RandFlipd, RandGridDistortiond

    options: dict[str, Any] = {"mode": MODES, "padding_mode": "reflection", "prob": 1.0}
    warp = [
        RandGridDistortiond(KEYS, num_cells=3, distort_limit=0.1, **options),
        RandAffined(KEYS, rotate_range=math.pi, **options),
    ]
    flips = [RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    made: Transform = Compose([*warp, *flips, *_window(), *_intensity()]).set_random_state(0)
    return made


def _rand_2d_elastic() -> Transform:
    from monai.transforms import Rand2DElasticd, RandFlipd

    spacing = (IMAGE / 2,) * 2
    warp = Rand2DElasticd(
        KEYS, spacing, (10, 10), rotate_range=math.pi, mode=MODES, padding_mode="reflection", prob=1.0
    )
    flips = [RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    made: Transform = Compose([warp, *flips, *_window(), *_intensity()]).set_random_state(0)
    return made


def _batchgenerators() -> Transform:
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    warp = SpatialTransform(
        (INPUT, INPUT),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.1, 0.25),
        elastic_deform_magnitude=(10, 10),
        p_rotation=1,
        rotation=(0, 2 * math.pi),
        mode_seg="nearest",
        border_mode_seg="reflection",
        padding_mode_image="reflection",
    )
    mirror = MirrorTransform((0, 1))
    intensity = Compose(_intensity()).set_random_state(0)
    inner = slice((INPUT - OUTPUT) // 2, (INPUT + OUTPUT) // 2)

    def transform(sample: Sample) -> Sample:
        image, label, weight = (sample[key].as_tensor() for key in KEYS)
        warped = mirror(**warp(image=image, segmentation=label.to(torch.int16), regression_target=weight))
        made: Sample = intensity({"image": warped["image"]})
        made["label"] = warped["segmentation"][:, inner, inner].contiguous()
        made["weight"] = warped["regression_target"][:, inner, inner].contiguous()
        return made

    return transform


def _samples(quick: bool) -> Result:
    samples = cached_samples(2 if quick else 8)
    ours = _contender("configs/train.json", "overtile", _overtile, samples)
    peers = [
        (_contender("MONAI RandGridDistortiond + RandAffined", "monai", _grid_distortion, samples), 7.0),
        (_contender("SpatialTransform", "batchgeneratorsv2", _batchgenerators, samples), 7.0),
        (_contender("MONAI Rand2DElasticd", "monai", _rand_2d_elastic, samples), 7.0),
    ]
    what = f"{INPUT}² image, {OUTPUT}² label + weight"
    return Result(compare(what, ours, peers, rounds=2 if quick else 9))


ROWS = {"E1": Row("one augmented training sample from cached images", _samples)}
