"""Class maps: the class index of every voxel, and weights that balance the classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor, NdarrayTensor
from monai.transforms.transform import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type
from numpy.typing import NDArray

from overtile.transforms.label_values import (
    IntegerArray,
    check_one_channel,
    is_label,
    label_name,
    new_weight_keys,
    whole_numbers,
)

ClassWeights: TypeAlias = Literal["balanced"] | Sequence[float] | None


def balanced_weights(counts: Sequence[int] | IntegerArray) -> NDArray[np.float64]:
    """One weight per class, ``N / (K n_c)``: every class present gets the same sum, and a labelled voxel 1 on average.

    This is the ``w_c`` of arXiv:1505.04597, eq. 2, which the paper does not spell out.

    Args:
        counts: labelled voxels ``n_c`` of each class; ``N`` is their sum, ``K`` the number that are not 0.

    Examples:
        >>> balanced_weights([6, 2, 0]).round(3).tolist()  # an absent class needs no weight
        [0.667, 2.0, 0.0]
    """
    n = np.asarray(counts, dtype=np.float64)
    weights = np.zeros_like(n)
    present = n > 0
    weights[present] = n.sum() / (present.sum() * n[present])
    return weights


def weight_per_class(class_weights: ClassWeights, counts: Sequence[int] | IntegerArray) -> NDArray[np.float32]:
    """The weight of each class: balanced by its ``counts``, as given, or 1 for ``None``.

    Raises:
        ValueError: for another word, another number of weights than of counts, or a weight that is negative or not
            finite.
    """
    if class_weights is None:
        return np.ones(len(counts), dtype=np.float32)
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise ValueError(f"class_weights is 'balanced', one weight per class or None, got {class_weights!r}")
        return balanced_weights(counts).astype(np.float32)
    weights = np.asarray(class_weights, dtype=np.float32)
    if weights.shape != (len(counts),) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"class_weights needs {len(counts)} weights >= 0, one per class, got {class_weights}")
    return weights


def class_indices(
    label: NdarrayTensor,
    num_classes: int,
    class_values: Sequence[int] | None = None,
    ignore_label: int | None = None,
) -> NdarrayTensor:
    """Class indices ``0 .. num_classes - 1`` of a label, of its kind and dtype; 0 where it is ignored.

    Args:
        label: integers, of any shape and dtype that holds them.
        num_classes: ``K`` >= 2, background included.
        class_values: the label's value of class 0, 1, ...; default the indices themselves, and for two classes also
            0 and 255, as binary masks are often stored.
        ignore_label: value of voxels without a class, such as 3 in Cicek 2016.

    Raises:
        ValueError: for a label with other values, or ``class_values`` that do not name ``num_classes`` classes.

    Examples:
        >>> class_indices(np.array([0, 255, 255]), num_classes=2).tolist()
        [0, 1, 1]
        >>> class_indices(np.array([2, 0, 1, 3]), num_classes=3, class_values=(2, 0, 1), ignore_label=3).tolist()
        [0, 1, 2, 0]
    """
    _check_classes(num_classes, class_values, ignore_label)
    values = whole_numbers(label)
    ignored = is_label(values, ignore_label)
    spellings = [range(num_classes) if class_values is None else class_values]
    if class_values is None and num_classes == 2:
        spellings.append((0, 255))
    for spelling in spellings:
        indices, unknown = np.zeros(values.shape, dtype=np.int32), ~ignored
        for index, value in enumerate(spelling):
            here = values == value
            indices[here] = index
            unknown &= ~here
        if not unknown.any():
            return convert_to_dst_type(indices, label)[0]
    strangers = ", ".join(str(value) for value in np.unique(values[unknown])[:9])
    raise ValueError(
        f"{label_name(label)} may hold {' or '.join(str(tuple(s)) for s in spellings)}, but holds {strangers}: give "
        f"the values of its {num_classes} classes in order as class_values, and a value without a class as ignore_label"
    )


def class_weight_map(
    label: NdarrayTensor,
    num_classes: int,
    class_values: Sequence[int] | None = None,
    class_weights: ClassWeights = "balanced",
    ignore_label: int | None = None,
) -> NdarrayTensor:
    """Weight of every voxel by its class: float32, of the label's kind and shape; 0 where it is ignored.

    Args:
        label: see :func:`class_indices`, also for the arguments not named here.
        num_classes: ``K`` >= 2, background included.
        class_values: the label's value of class 0, 1, ...
        class_weights: "balanced" within this label (:func:`balanced_weights`), one weight per class, or None for 1.
        ignore_label: value of voxels without a class.

    Examples:
        >>> print(class_weight_map(np.array([0, 0, 0, 1, 7]), num_classes=2, ignore_label=7).round(3))
        [0.667 0.667 0.667 2. 0. ]
    """
    indices = whole_numbers(class_indices(label, num_classes, class_values, ignore_label))
    ignored = is_label(whole_numbers(label), ignore_label)
    counts = np.bincount(indices[~ignored], minlength=num_classes)
    weight = weight_per_class(class_weights, counts)[indices]
    return convert_to_dst_type(np.where(ignored, 0, weight), label, dtype=np.float32)[0]


class ClassWeightsd(MapTransform):
    """Class indices in place of each label, and next to it the weights that balance them.

    Args:
        keys: labels, channel first ``(1, *spatial)``.
        weight_key: where the weights go, one new key per label.
        num_classes: see :func:`class_weight_map`, also for the other arguments.
        class_values: the label's value of class 0, 1, ...
        class_weights: "balanced", one weight per class, or None.
        ignore_label: value of voxels without a class; they get class 0 and weight 0.
        allow_missing_keys: skip a key that is missing.

    Examples:
        >>> mask = np.array([[[0, 0, 0, 255]]], dtype=np.uint8)
        >>> sample = ClassWeightsd("label", num_classes=2)({"label": mask})
        >>> print(sample["label"], sample["weight"].round(3))
        [[[0 0 0 1]]] [[[0.667 0.667 0.667 2. ]]]
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        weight_key: str | Sequence[str] = "weight",
        *,
        num_classes: int,
        class_values: Sequence[int] | None = None,
        class_weights: ClassWeights = "balanced",
        ignore_label: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.weight_keys = new_weight_keys(self.keys, weight_key)
        _check_classes(num_classes, class_values, ignore_label)
        weight_per_class(class_weights, range(num_classes))  # fail now, not at the first image
        self.num_classes = num_classes
        self.class_values = class_values
        self.class_weights = class_weights
        self.ignore_label = ignore_label

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """A new dictionary with indices and weights."""
        d = dict(data)
        for key, weight_key in self.key_iterator(d, self.weight_keys):
            label = d[key]
            check_one_channel(label)
            d[weight_key] = class_weight_map(
                label, self.num_classes, self.class_values, self.class_weights, self.ignore_label
            )
            d[key] = class_indices(label, self.num_classes, self.class_values, self.ignore_label)
        return d


def _check_classes(num_classes: int, class_values: Sequence[int] | None, ignore_label: int | None) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes counts the background too, so it is at least 2, got {num_classes}")
    values = range(num_classes) if class_values is None else class_values
    if len(values) != num_classes or len(set(values)) != num_classes:
        raise ValueError(f"class_values needs {num_classes} different values, one per class, got {tuple(values)}")
    if ignore_label in values:
        raise ValueError(
            f"ignore_label {ignore_label} is also the value of a class: list only the classes as class_values"
        )
