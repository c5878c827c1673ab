"""Labels at the door: any dtype that holds whole numbers, NumPy or torch, one channel, errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
from monai.config.type_definitions import NdarrayOrTensor
from monai.data.meta_tensor import MetaTensor
from monai.utils import convert_to_numpy, ensure_tuple
from numpy.typing import NDArray

IntegerArray: TypeAlias = NDArray[np.integer[Any]]


def label_name(label: NdarrayOrTensor) -> str:
    """What an error calls this label: with its file if it is known."""
    file = label.meta.get("filename_or_obj") if isinstance(label, MetaTensor) else None
    return f"label {file}" if file else "label"


def whole_numbers(label: NdarrayOrTensor) -> IntegerArray:
    """The label as a NumPy array of integers; not always a copy, so do not write to it.

    Raises:
        ValueError: for values that are not integers.
    """
    array = np.asarray(convert_to_numpy(label))
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if np.issubdtype(array.dtype, np.integer):
        return array
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(invalid="ignore"):  # NaN and infinity fail the comparison below
            integers = array.astype(np.int64)
        if (integers == array).all():
            return integers
        worst = array[integers != array].flat[0]
        raise ValueError(
            f"{label_name(label)} must hold integers, got {worst}: load it without scaling or interpolation"
        )
    raise ValueError(f"{label_name(label)} must hold integers, got dtype {array.dtype}")


def is_label(values: IntegerArray, ignore_label: int | None) -> NDArray[np.bool_]:
    """Mask of the voxels with this value; nowhere for ``None``."""
    return np.zeros(values.shape, dtype=bool) if ignore_label is None else np.asarray(values == ignore_label)


def check_one_channel(label: NdarrayOrTensor) -> None:
    """Fail unless a label is channel first with one channel, in 2D or 3D.

    Raises:
        ValueError: otherwise.
    """
    if label.ndim not in (3, 4) or label.shape[0] != 1:
        raise ValueError(
            f"{label_name(label)} must have shape (1, H, W) or (1, D, H, W), got {tuple(label.shape)}: use "
            "EnsureChannelFirstd before, and one channel of numbers instead of one-hot channels"
        )


def new_weight_keys(keys: Sequence[Hashable], weight_key: str | Sequence[str]) -> tuple[Hashable, ...]:
    """One weight key per label key.

    Raises:
        ValueError: unless there are as many, all different, from the labels' too.
    """
    weight_keys: tuple[Hashable, ...] = ensure_tuple(weight_key)
    if len(weight_keys) != len(keys) or len({*weight_keys, *keys}) != 2 * len(keys):
        raise ValueError(f"weight_key needs one new key per label, got {weight_keys} for {tuple(keys)}")
    return weight_keys
