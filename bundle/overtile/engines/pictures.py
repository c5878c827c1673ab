"""Pictures of a result, for a person to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

_TITLE, _GAP, _FONT = 26, 8, 15  # heights and sizes in pixels of the picture
_SMALLEST, _LARGEST = 320, 1024  # width of a panel
_HUE_STEP = 0.61803398875  # the golden ratio: neighbours in number are far apart in colour


def result_picture(
    image: NDArray[np.float32],
    truth: NDArray[np.integer] | None,
    prediction: NDArray[np.integer],
    probability: NDArray[np.float32],
    caption: str = "",
) -> Image.Image:
    """Image, ground truth, prediction and foreground probability as panels of one picture.

    Args:
        image: (x, y) or (x, y, z), MONAI's axis order; of a volume the slice with most foreground is shown.
        truth: instances or classes, or None.
        prediction: instances or classes.
        probability: of the foreground.
        caption: written behind the title of the prediction.
    """
    arrays: list[NDArray[Any]] = [array for array in (image, truth, prediction, probability) if array is not None]
    if image.ndim == 3:
        foreground = (prediction if truth is None else truth) > 0
        z = int(foreground.sum(axis=(0, 1)).argmax())
        arrays = [array[..., z] for array in arrays]
    arrays = [array.T for array in arrays]
    gray = _stretched(arrays[0])
    panels = [("image", np.repeat(gray[..., None], 3, axis=2))]
    if truth is not None:
        panels.append(("ground truth", _coloured(gray, arrays[1])))
    panels.append((f"prediction  {caption}".strip(), _coloured(gray, arrays[-2])))
    panels.append(("probability", np.repeat(np.clip(arrays[-1], 0, 1)[..., None], 3, axis=2)))
    return _arranged(panels)


def _stretched(image: NDArray[np.floating]) -> NDArray[np.floating]:
    low, high = np.percentile(image, (0.5, 99.8))
    stretched: NDArray[np.floating] = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    return stretched


def _coloured(gray: NDArray[np.floating], label: NDArray[np.integer]) -> NDArray[np.floating]:
    """Every number in a colour of its own, with outlines, over a dimmed image."""
    numbers = np.unique(label[label > 0])
    if not len(numbers):
        return np.repeat(gray[..., None], 3, axis=2)
    index = np.searchsorted(numbers, label) + 1
    index[label <= 0] = 0
    colours = [colorsys.hsv_to_rgb(int(number) * _HUE_STEP % 1, 0.75, 1.0) for number in numbers]
    mixed: NDArray[np.floating] = label2rgb(index, gray, colors=colours, alpha=0.45, bg_label=0)
    edge = find_boundaries(index, mode="inner")
    mixed[edge] = np.array([(0.0, 0.0, 0.0), *colours])[index[edge]]
    return mixed


def _arranged(panels: Sequence[tuple[str, NDArray[np.floating]]]) -> Image.Image:
    """Panels in a row, or in two where they are wide."""
    height, width = panels[0][1].shape[:2]
    scale = _SMALLEST / width if width < _SMALLEST else min(1.0, _LARGEST / width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    columns = len(panels) if width < 1.5 * height else 2
    rows = -(-len(panels) // columns)
    step = (size[0] + _GAP, size[1] + _TITLE)
    picture = Image.new("RGB", (columns * step[0] - _GAP, rows * step[1]), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_FONT)
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    for number, (title, pixels) in enumerate(panels):
        left, top = number % columns * step[0], number // columns * step[1]
        draw.text((left + 2, top + 4), title, fill="black", font=font)
        panel = Image.fromarray((pixels * 255).round().astype(np.uint8))
        picture.paste(panel.resize(size, resample), (left, top + _TITLE))
    return picture
