"""From a foreground probability map to numbered instances."""

from collections.abc import Hashable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.config.type_definitions import NdarrayTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy import ndimage

from overtile.transforms.components import (
    connected_components,
    distance_markers,
    renumbered,
    smooth_distance,
    split_by_markers,
    without_holes,
)

PROBABILITY_TOLERANCE = 1e-3  # what half precision and averaging over tiles or flips may add to [0, 1]


def label_instances(
    probability: NdarrayTensor,
    threshold: float = 0.5,
    *,
    connectivity: int | None = None,
    min_size: int = 0,
    fill_holes: bool = False,
    split_distance: int | None = None,
    split_probability: float | None = None,
) -> NdarrayTensor:
    """Instances of a foreground probability map, numbered 1..n, as int32 of the map's kind and device.

    In this order: threshold, fill holes, connected components, split each component at the watersheds
    between its markers, drop small instances. A component with fewer than two markers stays whole.

    Args:
        probability: foreground probability, 2D or 3D, in [0, 1]; ``(*spatial)`` without channel.
        threshold: foreground is what lies above.
        connectivity: number of axes along which two neighbours may differ: 1 joins over faces only, the
            number of axes (None) over corners too, 8 or 26 neighbours, as MATLAB's ``bwconncomp`` does.
        min_size: instances of fewer voxels are dropped.
        fill_holes: add the background that a component encloses, and with it whatever lies inside.
            Holes are connected dually: over faces, unless ``connectivity`` is 1. In 3D a hole is a cavity,
            except in a volume of one slice, which is filled as the plane it is.
        split_distance: markers are the peaks of the Euclidean distance to the background (smoothed by a
            Gaussian of one voxel), at least this many voxels apart along some axis. For round objects;
            take at least their radius, and expect long ones to break.
        split_probability: markers are the components above this second, higher threshold; the watershed
            follows the probability.

    Raises:
        ValueError: if the map is not 2D or 3D, is no probability, or an option is out of its range.

    Examples:
        >>> label_instances(np.array([[0.9, 0.2, 0.0, 0.0], [0.0, 0.8, 0.1, 0.6]]))
        array([[1, 0, 0, 0],
               [0, 1, 0, 2]], dtype=int32)
        >>> label_instances(np.array([[0.7, 0.9, 0.7, 0.6, 0.8, 0.9]]), split_probability=0.75)
        array([[1, 1, 1, 2, 2, 2]], dtype=int32)
    """
    _check_options(threshold, connectivity, min_size, split_distance, split_probability)
    values = _probability_values(probability)
    reach = values.ndim if connectivity is None else connectivity
    if reach > values.ndim:
        raise ValueError(f"connectivity counts axes, at most {values.ndim} in this map; it is {connectivity}")
    neighbours = ndimage.generate_binary_structure(values.ndim, reach)
    foreground = values > threshold
    if fill_holes:
        foreground = without_holes(foreground, reach)
    instances = connected_components(foreground, neighbours)
    if split_distance is not None and not foreground.all():  # without background there is no distance to it
        distance = smooth_distance(foreground)
        markers = distance_markers(distance, instances, split_distance)
        instances = split_by_markers(instances, markers, distance, neighbours)
    if split_probability is not None:
        markers = connected_components(values > split_probability, neighbours)
        instances = split_by_markers(instances, markers, values, neighbours)
    return convert_to_dst_type(renumbered(instances, min_size), probability, dtype=np.int32)[0]


def _check_options(
    threshold: float,
    connectivity: int | None,
    min_size: int,
    split_distance: int | None,
    split_probability: float | None,
) -> None:
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must lie in [0, 1); it is {threshold}")
    if connectivity is not None and connectivity < 1:
        raise ValueError(f"connectivity must be 1 (faces) or more, or None (corners too); it is {connectivity}")
    if min_size < 0:
        raise ValueError(f"min_size counts voxels and must not be negative; it is {min_size}")
    if split_distance is not None and split_probability is not None:
        raise ValueError("split_distance and split_probability are two ways to place markers; give one of them")
    if split_distance is not None and split_distance < 1:
        raise ValueError(f"split_distance must be at least 1 voxel, or None not to split; it is {split_distance}")
    if split_probability is not None and not threshold < split_probability < 1:
        raise ValueError(f"split_probability must lie between threshold {threshold} and 1; it is {split_probability}")


def _probability_values(probability: NdarrayOrTensor) -> npt.NDArray[np.floating]:
    """The map as a NumPy array of at least single precision."""
    if isinstance(probability, torch.Tensor):
        probability = probability.detach().to(torch.promote_types(probability.dtype, torch.float32)).cpu().numpy()
    values = np.asarray(probability)
    values = values.astype(np.promote_types(values.dtype, np.float32), copy=False)
    if values.ndim not in (2, 3):
        raise ValueError(f"a probability map has 2 or 3 spatial axes and no channel; its shape is {values.shape}")
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if np.isnan(low):
        raise ValueError(f"a probability map must not hold NaN; {np.isnan(values).sum()} of {values.size} voxels do")
    if low < -PROBABILITY_TOLERANCE or high > 1 + PROBABILITY_TOLERANCE:
        raise ValueError(
            f"probabilities lie in [0, 1]; the map reaches from {low:.4g} to {high:.4g}. "
            "Apply softmax first (Activationsd(softmax=True))"
        )
    return values


class LabelInstances(Transform):
    """Numbers the instances of one image: :func:`label_instances` on its foreground channel.

    ``(C, *spatial)`` probabilities give ``(1, *spatial)`` int32 of the same kind, meta data kept. A single
    channel is taken as the foreground's.

    Args:
        threshold: see :func:`label_instances`, also for the options up to ``split_probability``.
        connectivity: 1 for faces, None for corners too.
        min_size: least number of voxels.
        fill_holes: whether to fill what a component encloses.
        split_distance: least distance of two markers in voxels.
        split_probability: second, higher threshold for markers.
        foreground_channel: which of several channels to label.

    Raises:
        ValueError: if an option is out of its range; when called, if the image is not such a map.

    Examples:
        >>> logits = torch.tensor([[[0.0, 5.0, 0.0, 0.0]], [[5.0, 0.0, 5.0, 5.0]]])
        >>> LabelInstances()(logits.softmax(dim=0))
        tensor([[[1, 0, 2, 2]]], dtype=torch.int32)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self,
        threshold: float = 0.5,
        connectivity: int | None = None,
        min_size: int = 0,
        fill_holes: bool = False,
        split_distance: int | None = None,
        split_probability: float | None = None,
        foreground_channel: int = 1,
    ) -> None:
        _check_options(threshold, connectivity, min_size, split_distance, split_probability)
        self.threshold = threshold
        self.connectivity = connectivity
        self.min_size = min_size
        self.fill_holes = fill_holes
        self.split_distance = split_distance
        self.split_probability = split_probability
        self.foreground_channel = foreground_channel

    def __call__(self, img: NdarrayTensor) -> NdarrayTensor:
        """Instances ``(1, *spatial)`` of probabilities ``(C, *spatial)``."""
        channels = img.shape[0]
        channel = 0 if channels == 1 else self.foreground_channel
        if not -channels <= channel < channels:
            raise ValueError(f"foreground_channel {channel} is none of the image's {channels} channels")
        instances = label_instances(
            img[channel],
            self.threshold,
            connectivity=self.connectivity,
            min_size=self.min_size,
            fill_holes=self.fill_holes,
            split_distance=self.split_distance,
            split_probability=self.split_probability,
        )
        return convert_to_dst_type(instances[None], img, dtype=np.int32)[0]


class LabelInstancesd(MapTransform):
    """Dictionary form of :class:`LabelInstances`; each key's probabilities are replaced by its instances.

    Args:
        keys: keys of the probabilities.
        threshold: see :class:`LabelInstances`, also for the options up to ``foreground_channel``.
        connectivity: 1 for faces, None for corners too.
        min_size: least number of voxels.
        fill_holes: whether to fill what a component encloses.
        split_distance: least distance of two markers in voxels.
        split_probability: second, higher threshold for markers.
        foreground_channel: which of several channels to label.
        allow_missing_keys: whether to pass over keys that are not there.
    """

    backend = LabelInstances.backend

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float = 0.5,
        connectivity: int | None = None,
        min_size: int = 0,
        fill_holes: bool = False,
        split_distance: int | None = None,
        split_probability: float | None = None,
        foreground_channel: int = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label = LabelInstances(
            threshold, connectivity, min_size, fill_holes, split_distance, split_probability, foreground_channel
        )

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """The data with instances in place of the probabilities."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.label(result[key])
        return result
