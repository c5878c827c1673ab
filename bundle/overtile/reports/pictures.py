"""Panels of a result, for a person to look at: outlines, so that the image stays visible."""

from __future__ import annotations

import base64
import colorsys
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from skimage.segmentation import find_boundaries

from overtile.reports.scenes import Scene

Colour = tuple[int, int, int]
Value = TypeVar("Value", bound=np.generic)

_TITLE, _GAP, _FONT = 26, 8, 15  # heights and sizes in pixels of the picture
_SMALLEST = 320  # pixels of a panel's longer side; smaller images are enlarged
_HUE_STEP = 0.61803398875  # the golden ratio: neighbours in number are far apart in colour
_WHITE: Colour = (255, 255, 255)
# Okabe and Ito's palette, which colour-blind people can tell apart, without the one nobody sees on gray
CLASS_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178),
)  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A titled picture of rows of (red, green, blue)."""

    title: str
    pixels: NDArray[np.uint8]

    def data_uri(self) -> str:
        """The pixels inside an address, as PNG or as JPEG, whichever is shorter."""
        picture, files = Image.fromarray(self.pixels), []
        for kind, options in (("png", {}), ("jpeg", {"quality": 88, "subsampling": 0})):
            buffer = io.BytesIO()
            picture.save(buffer, kind, **options)
            files.append(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}")
        return min(files, key=len)


def scene_panels(scene: Scene, instances: bool = True) -> list[Panel]:
    """Image, ground truth (where there is one), prediction and foreground probability.

    Instances have outlines in a colour of their own; a predicted one has that of the true one of which it covers
    most, and is white where it covers none. Classes have a tint too, one colour each. Voxels without ground truth
    are darkened.

    Args:
        scene: what to draw.
        instances: whether labels are instances or classes.
    """
    factor = enlargement(scene.image.shape)
    image, prediction = enlarged(scene.image, factor), enlarged(scene.prediction, factor)
    panels = [Panel("image", _rgb(image))]
    colours = class_colours(prediction)
    if scene.truth is not None:
        truth = enlarged(scene.truth, factor)
        true_colours = instance_colours(truth) if instances else class_colours(truth)
        colours = matching_colours(truth, prediction, true_colours) if instances else colours
        image = np.where(truth < 0, image // 3, image).astype(np.uint8)
        panels.append(Panel("ground truth", outlined(image, truth, true_colours, tinted=not instances)))
    elif instances:
        colours = instance_colours(prediction)
    panels.append(Panel("prediction", outlined(image, prediction, colours, tinted=not instances)))
    panels.append(Panel("probability", _rgb(enlarged(scene.probability, factor))))
    return panels


def result_picture(scene: Scene, instances: bool = True, caption: str = "") -> Image.Image:
    """All panels of a scene as one picture, side by side, or in two rows where they are wide.

    Args:
        scene: what to draw.
        instances: whether labels are instances or classes.
        caption: written behind the title of the prediction.
    """
    panels = scene_panels(scene, instances)
    if caption:
        panels = [replace(p, title=f"{p.title}  {caption}") if p.title == "prediction" else p for p in panels]
    height, width = panels[0].pixels.shape[:2]
    return panel_grid(panels, columns=len(panels) if width < 1.5 * height else 2)


def panel_grid(panels: Sequence[Panel], columns: int) -> Image.Image:
    """Panels with their titles in rows, each as large as fits into the place of the last."""
    height, width = panels[-1].pixels.shape[:2]
    step = (width + _GAP, height + _TITLE)
    picture = Image.new("RGB", (columns * step[0] - _GAP, math.ceil(len(panels) / columns) * step[1]), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT)
    for number, panel in enumerate(panels):
        left, top = number % columns * step[0], number // columns * step[1]
        draw.text((left + 2, top + 4), panel.title, fill="black", font=font)
        picture.paste(ImageOps.contain(Image.fromarray(panel.pixels), (width, height)), (left, top + _TITLE))
    return picture


def outlined(
    image: NDArray[np.uint8], label: NDArray[np.int32], colours: Mapping[int, Colour], tinted: bool = False
) -> NDArray[np.uint8]:
    """A gray image as (rows, columns, 3) with an outline inside every region of the label, in the region's colour.

    Args:
        image: (rows, columns).
        label: numbers of regions; those that have no colour are left out.
        colours: of the numbers.
        tinted: whether the regions are coloured lightly, too.
    """
    pixels = _rgb(image)
    numbers = np.array(sorted(colours), dtype=np.int32)
    if not len(numbers):
        return pixels
    palette = np.array([(0, 0, 0), *(colours[int(number)] for number in numbers)], np.uint8)
    index = np.where(np.isin(label, numbers), np.searchsorted(numbers, label) + 1, 0)
    if tinted:
        pixels = np.where(index[..., None] > 0, 0.75 * pixels + 0.25 * palette[index], pixels).astype(np.uint8)
    inside = index
    for _ in range(1 if min(image.shape) < _SMALLEST else 2):  # a line of two pixels survives a smaller screen
        edge = find_boundaries(inside, mode="inner")  # type: ignore[no-untyped-call]
        pixels[edge] = palette[index[edge]]
        inside = np.where(edge, 0, inside)
    return pixels


def instance_colours(label: NDArray[np.int32]) -> dict[int, Colour]:
    """A bright colour for every number above 0, far from those of the numbers next to it."""
    numbers = (int(number) for number in np.unique(label[label > 0]))
    return {number: _bright(number * _HUE_STEP % 1) for number in numbers}


def class_colours(label: NDArray[np.int32]) -> dict[int, Colour]:
    """The colour of every class above 0, the same in every image."""
    numbers = (int(number) for number in np.unique(label[label > 0]))
    return {number: CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)] for number in numbers}


def matching_colours(
    truth: NDArray[np.int32], prediction: NDArray[np.int32], colours: Mapping[int, Colour]
) -> dict[int, Colour]:
    """For every predicted instance the colour of the true one of which it covers most; white if it covers none."""
    result = {int(number): _WHITE for number in np.unique(prediction[prediction > 0])}
    both = (prediction > 0) & (truth > 0)
    pairs, voxels = np.unique(np.stack([prediction[both], truth[both]]), axis=1, return_counts=True)
    for found, true in pairs[:, np.argsort(voxels, kind="stable")].T:  # the largest overlap comes last and stays
        result[int(found)] = colours[int(true)]
    return result


def enlargement(shape: Sequence[int]) -> int:
    """Whole factor by which a small slice is enlarged, so that an outline does not hide it."""
    return max(math.ceil(_SMALLEST / max(shape)), 1)


def enlarged(array: NDArray[Value], factor: int) -> NDArray[Value]:
    """Every voxel as a square of pixels."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _bright(hue: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 1.0))
    return red, green, blue


def _rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[..., None], 3, axis=2)
