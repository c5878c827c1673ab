"""A training that goes on, in pictures: what the latest step saw, and how far the network is on one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from overtile.reports.pictures import Panel, panel_grid, scene_panels
from overtile.reports.scenes import Scene, fullest_slice, gray
from overtile.reports.training_panels import weight_colours

PANEL = 512  # pixels of a panel's longer side: a picture is written at every validation, and kept


def training_picture(
    read: NDArray[np.floating],
    label: NDArray[Any],
    weight: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    instances: bool = True,
) -> Image.Image:
    """What one step of a training saw: input, ground truth, weights; below them image, prediction, probability.

    The input is the window that the network reads, its margin darker; all else is at the window that it writes. Where
    labels come from instances, each connected region of the foreground has a colour of its own, so that a prediction
    in one colour where the ground truth has two is a merger. Voxels of weight 0 are dark in the ground truth and
    black in the weights. Of a volume the slice with most foreground is shown.

    Args:
        read: (x, y) or (x, y, z), the input.
        label: classes at the window to write, which lies in the middle of ``read``.
        weight: of every voxel in the loss, of the label's shape.
        probabilities: soft-max of the network's output, (K, *write); channel 0 is the background.
        instances: whether the foreground is made of instances or of classes.
    """
    margin = [(larger - size) // 2 for larger, size in zip(read.shape, label.shape, strict=True)]
    if label.ndim == 3:
        slice_at = fullest_slice(label)
        label, weight, probabilities = label[slice_at], weight[slice_at], probabilities[slice_at]
        read = read[..., slice_at[1] + margin[2]]
    found = probabilities.argmax(axis=0)
    if instances:
        label, found = (ndimage.label(numbers > 0)[0] for numbers in (label, found))
    write = tuple(slice(m, m + size) for m, size in zip(margin, label.shape, strict=False))
    scene = Scene.of(read[write], np.where(weight == 0, -1, label), found, 1 - probabilities[0], PANEL)
    image, truth, prediction, probability = scene_panels(scene, instances)
    return panel_grid([_input(read, margin), truth, _weights(weight), image, prediction, probability], columns=3)


def validation_picture(
    image: NDArray[np.floating],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    probability: NDArray[np.floating],
    instances: bool = True,
) -> Image.Image:
    """How far the network is on one image: image and ground truth, below them prediction and probability.

    Args:
        image: (x, y), or (x, y, z), of which the slice with most foreground is shown.
        truth: instances or classes, negative where there is no ground truth.
        prediction: instances or classes.
        probability: of the foreground, 0 to 1.
        instances: whether labels are instances or classes.
    """
    return panel_grid(scene_panels(Scene.of(image, truth, prediction, probability, PANEL), instances), columns=2)


def _input(read: NDArray[np.floating], margin: Sequence[int]) -> Panel:
    """The window that is read, at half its brightness where it is not written."""
    rows = gray(read, PANEL)
    left, top = (round(m * size / whole) for m, size, whole in zip(margin, rows.shape[::-1], read.shape, strict=False))
    dark = rows // 2
    inside = (slice(top, rows.shape[0] - top), slice(left, rows.shape[1] - left))
    dark[inside] = rows[inside]
    return Panel("input", np.repeat(dark[..., None], 3, axis=2))


def _weights(weight: NDArray[np.floating]) -> Panel:
    present = weight[weight > 0]
    low, high = (float(present.min()), float(present.max())) if present.size else (1.0, 1.0)
    return Panel(f"weight, {low:.2g} (blue) to {high:.2g} (yellow)", weight_colours(weight, (low, high)))
