"""Components of a mask, in NumPy: connected, freed of holes, split at watersheds, renumbered."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

DISTANCE_SIGMA = 1.0  # voxels; a digital outline is rough by about one, and each roughness is a peak of its own


def connected_components(mask: npt.NDArray[np.bool_], neighbours: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Components of the mask, numbered 1..n; ``neighbours`` is the structuring element that joins voxels."""
    labels: npt.NDArray[np.int32] = ndimage.label(mask, neighbours, output=np.int32)[0]
    return labels


def without_holes(mask: npt.NDArray[np.bool_], connectivity: int) -> npt.NDArray[np.bool_]:
    """The mask with the background that it encloses, and whatever lies inside.

    Holes are connected dually to the mask, so that each has exactly one component around it and filling
    joins no two that lie side by side.

    Args:
        mask: 2D or 3D. In a volume of one slice the slice is filled as the plane it is: along an axis of
            size one every voxel would be open to the outside.
        connectivity: the mask's, in axes along which two neighbours may differ.
    """
    plane = mask.squeeze()
    if plane.ndim < 2:
        return mask
    hole_neighbours = ndimage.generate_binary_structure(plane.ndim, plane.ndim if connectivity == 1 else 1)
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(plane, hole_neighbours)
    return filled.reshape(mask.shape)


def smooth_distance(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """Euclidean distance to the background, in voxels, smoothed by a Gaussian of one voxel."""
    smooth: npt.NDArray[np.floating] = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), DISTANCE_SIGMA)
    return smooth


def distance_markers(
    distance: npt.NDArray[np.floating], instances: npt.NDArray[np.int32], split_distance: int
) -> npt.NDArray[np.int32]:
    """The peaks of each instance, at least ``split_distance`` voxels apart along some axis, numbered 1..n."""
    peaks = peak_local_max(distance, min_distance=split_distance, exclude_border=False, labels=instances)
    peaks = peaks.reshape(-1, distance.ndim)  # where there are none, scikit-image returns (0, 2) in 3D too
    markers = np.zeros(distance.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return markers


def split_by_markers(
    instances: npt.NDArray[np.int32],
    markers: npt.NDArray[np.int32],
    height: npt.NDArray[np.floating],
    neighbours: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Basins of the markers, grown downhill within the instances; an instance without a marker is its own."""
    is_marked = np.zeros(instances.max(initial=0) + 1, dtype=bool)
    is_marked[instances[markers > 0]] = True
    seeds = np.where(is_marked[instances] | (instances == 0), markers, markers.max(initial=0) + instances)
    basins: npt.NDArray[np.int32] = watershed(-height, seeds, connectivity=neighbours, mask=instances > 0)
    return basins


def renumbered(instances: npt.NDArray[np.int32], min_size: int) -> npt.NDArray[np.int32]:
    """Instances of at least ``min_size`` voxels as 1..n, in their order."""
    sizes = np.bincount(instances.ravel(), minlength=1)
    stays = sizes >= max(min_size, 1)
    stays[0] = False
    numbers: npt.NDArray[np.int32] = np.where(stays, np.cumsum(stays), 0).astype(np.int32)
    return numbers[instances]
