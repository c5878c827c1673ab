"""One image and what was found in it, as a person looks at it: a slice no larger than a screen."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST = 800  # pixels of the longer side: twice what a panel of a page has on a screen


@dataclass(frozen=True)
class Scene:
    """A slice as rows and columns (y, x), reduced to a screen's size, so that outlines can be drawn at that size.

    Args:
        image: gray values of a stretched contrast.
        truth: instances or classes, negative where there is no ground truth; None if unknown.
        prediction: instances or classes.
        probability: of the foreground, 255 for 1.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.int32] | None
    prediction: NDArray[np.int32]
    probability: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        image: NDArray[np.floating],
        truth: NDArray[Any] | None,
        prediction: NDArray[Any],
        probability: NDArray[np.floating],
        largest: int = LARGEST,
    ) -> Scene:
        """The scene of an image (x, y) or, in the slice with most foreground, of a volume (x, y, z).

        Args:
            image: in MONAI's axis order, as the other arrays.
            truth: instances or classes, negative where unknown; or None.
            prediction: instances or classes.
            probability: of the foreground, 0 to 1.
            largest: pixels of the longer side; larger images are reduced.
        """
        at = fullest_slice(prediction if truth is None else truth)
        return cls(
            gray(image[at], largest),
            None if truth is None else reduced_label(truth[at], largest),
            reduced_label(prediction[at], largest),
            _reduced((np.clip(probability[at], 0, 1) * 255).round().astype(np.uint8).T, largest),
        )

    def packed(self) -> bytes:
        """The scene in little memory, until it is known which scenes are wanted."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: array for name, array in present.items() if array is not None})
        return buffer.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> Scene:
        """The scene that :meth:`packed` has packed."""
        with np.load(io.BytesIO(content)) as arrays:
            return cls(arrays["image"], arrays.get("truth"), arrays["prediction"], arrays["probability"])


def fullest_slice(label: NDArray[Any]) -> tuple[Any, ...]:
    """Index of the slice (x, y) with most foreground in a volume; of all there is in an image."""
    if label.ndim == 2:
        return (...,)
    return (..., int((label > 0).sum(axis=(0, 1)).argmax()))


def gray(image: NDArray[np.floating], largest: int = LARGEST) -> NDArray[np.uint8]:
    """An image (x, y) as rows of gray values, its brightest and darkest few voxels saturated, reduced if large."""
    low, high = np.percentile(image, (0.5, 99.5))
    stretched = np.clip((image.T - low) / max(high - low, 1e-12), 0, 1)
    return _reduced((stretched * 255).round().astype(np.uint8), largest)


def reduced_label(label: NDArray[Any], largest: int = LARGEST) -> NDArray[np.int32]:
    """A label (x, y) as rows of numbers, none of them invented."""
    rows = label.T.astype(np.int32)
    height, width = reduced_size(rows.shape, largest)
    at_row, at_column = (
        ((np.arange(to) + 0.5) * size / to).astype(int) for to, size in zip((height, width), rows.shape, strict=True)
    )
    return np.ascontiguousarray(rows[at_row[:, None], at_column])


def reduced_size(shape: tuple[int, ...], largest: int = LARGEST) -> tuple[int, int]:
    """Rows and columns that a slice of this shape is reduced to."""
    factor = min(1.0, largest / max(shape))
    return max(round(shape[0] * factor), 1), max(round(shape[1] * factor), 1)


def _reduced(rows: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    height, width = reduced_size(rows.shape, largest)
    return np.asarray(Image.fromarray(rows).resize((width, height), Image.Resampling.BOX))
