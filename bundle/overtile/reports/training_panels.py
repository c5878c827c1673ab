"""What the network sees in training: an image with label and weights, and a sample that was cut from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from overtile.reports.pictures import Panel, class_colours, enlarged, enlargement, outlined
from overtile.reports.scenes import fullest_slice, gray, reduced_label, reduced_size

READ, WRITE = (255, 176, 0), (100, 220, 255)  # colours of the windows
_GRID_LINES = 12  # along a tile
# viridis, which is even to the eye and prints in gray, at nine points
_COLOURS = np.array(
    [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
     (170, 220, 50), (253, 231, 37)], float
)  # fmt: skip
GRADIENT = ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in _COLOURS)


@dataclass(frozen=True)
class TrainingSample:
    """One training image before and after the random transforms; arrays (x, y) or (x, y, z).

    Args:
        image: the whole image.
        label: classes, of its shape.
        weight: of every voxel in the loss, of its shape.
        read: the window that the network reads.
        write_label: classes at the window that it writes.
        write_weight: weights there.
        coordinates: position in the image of every voxel of the window to read, (d, *read); None if unknown.
    """

    image: NDArray[np.floating]
    label: NDArray[Any]
    weight: NDArray[np.floating]
    read: NDArray[np.floating]
    write_label: NDArray[Any]
    write_weight: NDArray[np.floating]
    coordinates: NDArray[np.floating] | None = None

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels around the window to write on each side, one number per axis."""
        sizes = zip(self.read.shape, self.write_label.shape, strict=True)
        return tuple((read - write) // 2 for read, write in sizes)

    def weight_range(self) -> tuple[float, float]:
        """Least weight above 0 and the largest, of the whole image."""
        weights = self.weight[self.weight > 0]
        return (float(weights.min()), float(weights.max())) if len(weights) else (1.0, 1.0)


def training_panels(sample: TrainingSample) -> tuple[list[Panel], list[Panel]]:
    """Three panels of the whole image and three of the sample: image, label over the image, weights.

    In the whole image the outlines of both windows show where the sample comes from; in the sample, what is inside
    the frame is written and what is outside is only read. The fine lines were straight and parallel in the image.
    """
    limits = sample.weight_range()
    at, sample_at = fullest_slice(sample.label), fullest_slice(sample.write_label)
    margin = sample.margin
    read_at = sample_at if sample.read.ndim == 2 else (..., sample_at[1] + margin[2])
    write = tuple(slice(m, size - m) for m, size in zip(margin, sample.read.shape, strict=True))
    positions = None if sample.coordinates is None else sample.coordinates[(slice(None), *read_at)]

    source, window = gray(sample.image[at]), gray(sample.read[read_at])
    written = gray(sample.read[write][sample_at])
    whole = [
        Panel("image", _with_windows(source, sample.image.shape, positions, margin)),
        Panel("label", _with_label(source, sample.label[at])),
        Panel("weight", weight_colours(sample.weight[at], limits)),
    ]
    return whole, [
        Panel("read", _with_frame(window, sample.read.shape, positions, margin)),
        Panel("label", _with_label(written, sample.write_label[sample_at])),
        Panel("weight", weight_colours(sample.write_weight[sample_at], limits)),
    ]


def weight_colours(weight: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Weights (x, y) as rows of colours on a logarithmic scale between two limits; black where they are 0."""
    low, high = np.log(limits)
    share = (np.log(np.maximum(weight.T, limits[0])) - low) / max(high - low, 1e-12)
    position = np.clip(share, 0, 1) * (len(_COLOURS) - 1)
    channels = [np.interp(position, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T]
    pixels = np.where(weight.T[..., None] > 0, np.stack(channels, axis=-1), 0).round().astype(np.uint8)
    height, width = reduced_size(pixels.shape[:2])
    reduced = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
    return enlarged(reduced, enlargement(reduced.shape[:2]))


def _with_label(image: NDArray[np.uint8], label: NDArray[Any]) -> NDArray[np.uint8]:
    factor = enlargement(image.shape)
    rows = enlarged(reduced_label(label), factor)
    return outlined(enlarged(image, factor), rows, class_colours(rows), tinted=True)


def _with_windows(
    image: NDArray[np.uint8], shape: Sequence[int], positions: NDArray[np.floating] | None, margin: Sequence[int]
) -> NDArray[np.uint8]:
    """The whole image with the outlines of both windows where they were before the deformation."""
    picture = _picture(image)
    if positions is not None:
        scale = picture.width / shape[0]
        windows = [(WRITE, positions[:, margin[0] : -margin[0] or None, margin[1] : -margin[1] or None])]
        if any(margin[:2]):
            windows.append((READ, positions))
        for colour, window in windows:
            edge = np.concatenate([window[:2, :, 0], window[:2, -1], window[:2, ::-1, -1], window[:2, 0, ::-1]], axis=1)
            line = [(float(x), float(y)) for x, y in ((edge + 0.5) * scale).T]
            ImageDraw.Draw(picture).line(line, fill=colour, width=3, joint="curve")
    return np.asarray(picture)


def _with_frame(
    image: NDArray[np.uint8], shape: Sequence[int], positions: NDArray[np.floating] | None, margin: Sequence[int]
) -> NDArray[np.uint8]:
    """The window to read with the frame of the window to write, and what was a regular grid in the image."""
    picture = _picture(image)
    if positions is not None:
        cells = np.floor(positions[:2] * (_GRID_LINES / max(shape[:2]))).astype(int)
        lines = np.zeros(cells.shape[1:], bool)
        lines[1:] |= (np.diff(cells, axis=1) != 0).any(axis=0)
        lines[:, 1:] |= (np.diff(cells, axis=2) != 0).any(axis=0)
        mask = Image.fromarray((lines.T * 90).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
        picture.paste((255, 255, 255), mask=mask)
    if any(margin[:2]):
        left, top = (round(m * picture.width / shape[0]) for m in margin[:2])
        corners = [left, top, picture.width - 1 - left, picture.height - 1 - top]
        ImageDraw.Draw(picture).rectangle(corners, outline=WRITE, width=3)
    return np.asarray(picture)


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(enlarged(image, enlargement(image.shape))).convert("RGB")
