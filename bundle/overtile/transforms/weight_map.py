"""Separation weights: how much each voxel counts in the loss, most of all in the gap between two instances."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor, NdarrayTensor
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import TransformBackends
from numpy.typing import NDArray

from overtile.transforms.class_labels import ClassWeights, weight_per_class
from overtile.transforms.gap import InstanceMap, separated_instances, yields
from overtile.transforms.label_values import check_one_channel, new_weight_keys
from overtile.transforms.two_nearest import distance_within, gap_width

TOLERANCE = 1e-6  # a term below it is left out


def separation_weights(
    label: NdarrayTensor,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: ClassWeights = "balanced",
    *,
    spacing: float | Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> NdarrayTensor:
    """Weight of every voxel: float32, of the label's kind and shape; 0 where it is ignored.

    ``w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))``, eq. 2 of arXiv:1505.04597, with the distances to the
    nearest and second nearest instance after :func:`separated_instances`. The second term is for the background, and
    0 with fewer than two instances.

    Args:
        label: instances, see :func:`separated_instances`.
        w0: largest separation weight, >= 0.
        sigma: reach of the separation, in voxels, or in the unit of ``spacing``.
        class_weights: ``w_c``: "balanced" within this label, a pair (background, foreground), or None for 1.
        spacing: voxel size, one for all or one per spatial axis.
        ignore_label: value of voxels without ground truth: no background, no instance, not counted.

    Raises:
        ValueError: for a label that is no instance map, or numbers out of range.

    Examples:
        >>> touching = np.array([[1, 1, 2, 2]])  # 1 + 10 exp(-(1 + 1)^2 / 50) in the gap
        >>> print(separation_weights(touching, class_weights=None).round(2))
        [[ 1. 1. 10.23 1. ]]
    """
    instances = InstanceMap.read(label, spacing, ignore_label)
    ids = np.where(yields(instances.ids), 0, instances.ids)
    foreground = ids > 0
    inside = int(np.count_nonzero(foreground))
    outside = ids.size - int(np.count_nonzero(instances.ignored)) - inside
    background_weight, foreground_weight = weight_per_class(class_weights, (outside, inside))
    weight = _separation(ids, w0, sigma, instances.sampling)
    weight += background_weight
    weight[foreground] = foreground_weight
    return instances.finish(weight, label)


def separation_weights_2019(
    label: NdarrayTensor,
    w0: float = 50.0,
    sigma: float = 6.0,
    balance: float = 0.1,
    balance_sigma: float = 10.0,
    *,
    spacing: float | Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> NdarrayTensor:
    """Weight of every voxel as in the U-Net plugin: float32, of the label's kind and shape; 0 where it is ignored.

    1 in instances; in the background, which fades with the distance to the foreground, ``balance + w0 exp(-(d1 +
    d2)^2 / (2 sigma^2)) + (1 - balance) exp(-d1^2 / (2 balance_sigma^2))`` (Falk et al. 2019,
    doi:10.1038/s41592-018-0261-2). Unlike in 2015 the distances are those to the instances before the gap.

    Args:
        label: instances, see :func:`separated_instances`.
        w0: largest separation weight, the plugin's ``lambda_sep``, >= 0.
        sigma: reach of the separation, ``sigma_sep``, in voxels, or in the unit of ``spacing``.
        balance: weight far from all instances, ``v_bal``, >= 0.
        balance_sigma: how far from an instance the background counts in full, ``sigma_bal``, in the same unit.
        spacing: voxel size, one for all or one per spatial axis.
        ignore_label: value of voxels without ground truth.

    Raises:
        ValueError: for a label that is no instance map, or numbers out of range.

    Examples:
        >>> one_cell = np.array([[1] + [0] * 100])  # 0.1 + 0.9 exp(-d1^2 / 200)
        >>> print(separation_weights_2019(one_cell)[0, [0, 1, 10, 100]].round(3))
        [1. 0.996 0.646 0.1 ]
    """
    _check_curve("balance", balance, balance_sigma)
    instances = InstanceMap.read(label, spacing, ignore_label)
    ids = instances.ids
    weight = _separation(ids, w0, sigma, instances.sampling)
    weight += balance
    nearest = distance_within(ids > 0, _reach(1 - balance, balance_sigma), instances.sampling)
    weight += (1 - balance) * _bell(nearest, balance_sigma)
    weight[(ids > 0) & ~yields(ids)] = 1
    return instances.finish(weight, label)


class SeparationWeights(Transform):
    """Weights of an instance map ``(1, *spatial)``, by either paper's formula.

    Args:
        formula: "2015" for :func:`separation_weights`, "2019" for :func:`separation_weights_2019`.
        w0: largest separation weight; None for the formula's own.
        sigma: reach of the separation; None for the formula's own.
        class_weights: of the 2015 formula; that of 2019 has its own balance.
        spacing: voxel size, or "pixdim" to take it from a MetaTensor, so that ``sigma`` is in its unit.
        ignore_label: value of voxels without ground truth; their weight is 0.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        formula: Literal["2015", "2019"] = "2015",
        w0: float | None = None,
        sigma: float | None = None,
        class_weights: ClassWeights = "balanced",
        spacing: float | Sequence[float] | Literal["pixdim"] | None = None,
        ignore_label: int | None = None,
    ) -> None:
        if formula not in ("2015", "2019"):
            raise ValueError(f"formula is '2015' or '2019', got {formula!r}")
        if formula == "2019" and class_weights != "balanced":
            raise ValueError(f"formula '2019' balances by distance: leave out class_weights, got {class_weights}")
        self.formula = formula
        self.curve = {name: value for name, value in (("w0", w0), ("sigma", sigma)) if value is not None}
        _check_curve("w0", self.curve.get("w0", 1), self.curve.get("sigma", 1))
        weight_per_class(class_weights, (1, 1))  # fail now, not at the first image
        self.class_weights = class_weights
        self.spacing = spacing
        self.ignore_label = ignore_label

    def __call__(self, label: NdarrayTensor) -> NdarrayTensor:
        """The weights, float32, of the label's kind and shape."""
        check_one_channel(label)
        spacing = self.spacing
        if isinstance(spacing, str):
            if spacing != "pixdim" or not isinstance(label, MetaTensor):
                raise ValueError(f"spacing {spacing!r}: give numbers, or 'pixdim' for a MetaTensor (got {type(label)})")
            spacing = label.pixdim.tolist()[: label.ndim - 1]
        if self.formula == "2019":
            return separation_weights_2019(label, **self.curve, spacing=spacing, ignore_label=self.ignore_label)
        return separation_weights(
            label, **self.curve, class_weights=self.class_weights, spacing=spacing, ignore_label=self.ignore_label
        )


class SeparationWeightsd(MapTransform):
    """Weights next to each instance map, which gets the gap of :func:`separated_instances`.

    Args:
        keys: instance maps, channel first ``(1, *spatial)``.
        weight_key: where the weights go, one new key per label.
        formula: see :class:`SeparationWeights`, also for the other arguments.
        w0: largest separation weight.
        sigma: reach of the separation.
        class_weights: of the 2015 formula.
        spacing: voxel size, or "pixdim".
        ignore_label: value of voxels without ground truth; it stays in the label, with weight 0.
        allow_missing_keys: skip a key that is missing.

    Examples:
        >>> sample = SeparationWeightsd("label", class_weights=None)({"label": np.array([[[1, 1, 2, 2]]])})
        >>> sample["label"].tolist(), sample["weight"].round().tolist()
        ([[[1, 1, 0, 2]]], [[[1.0, 1.0, 10.0, 1.0]]])
    """

    backend = SeparationWeights.backend

    def __init__(
        self,
        keys: KeysCollection,
        weight_key: str | Sequence[str] = "weight",
        *,
        formula: Literal["2015", "2019"] = "2015",
        w0: float | None = None,
        sigma: float | None = None,
        class_weights: ClassWeights = "balanced",
        spacing: float | Sequence[float] | Literal["pixdim"] | None = None,
        ignore_label: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.weight_keys = new_weight_keys(self.keys, weight_key)
        self.weights = SeparationWeights(formula, w0, sigma, class_weights, spacing, ignore_label)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """A new dictionary with weights and separated instances."""
        d = dict(data)
        for key, weight_key in self.key_iterator(d, self.weight_keys):
            d[weight_key] = self.weights(d[key])
            d[key] = separated_instances(d[key], self.weights.ignore_label)
        return d


def _separation(ids: NDArray[np.int32], w0: float, sigma: float, sampling: tuple[float, ...]) -> NDArray[np.float32]:
    """``w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` of the background, exact to ``TOLERANCE``; any value in instances."""
    _check_curve("w0", w0, sigma)
    if w0 <= TOLERANCE:
        return np.zeros(ids.shape, dtype=np.float32)
    term = _bell(gap_width(ids, _reach(w0, sigma), sampling), sigma)
    term *= w0
    return term


def _reach(height: float, sigma: float) -> float:
    """Distance beyond which ``height exp(-distance^2 / (2 sigma^2))`` is below the tolerance."""
    return sigma * math.sqrt(2 * math.log(max(abs(height) / TOLERANCE, 1)))


def _bell(distance: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """``exp(-distance^2 / (2 sigma^2))``, in place of ``distance``: a fresh array costs more than the arithmetic."""
    distance *= distance
    distance *= -1 / (2 * sigma**2)
    return np.exp(distance, out=distance)


def _check_curve(name: str, height: float, sigma: float) -> None:
    if not (0 <= height < math.inf and 0 < sigma < math.inf):
        raise ValueError(f"{name} needs to be >= 0 and its sigma > 0, got {height} and {sigma}")
