"""Dense conditional random field: class probabilities that follow the edges of the image."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor, NdarrayTensor
from monai.transforms.transform import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type
from numpy.typing import NDArray

LEAST_PROBABILITY = 1e-5  # bounds the unary energy: without it a class of probability 0 could never come back
SUM_TOLERANCE = 1e-2  # what half precision and averaging over tiles or flips may add to a sum of 1


def dense_crf(
    probability: NdarrayTensor,
    image: NdarrayOrTensor,
    *,
    theta_alpha: float | Sequence[float] = 5.0,
    theta_beta: float = 0.5,
    theta_gamma: float | Sequence[float] = 1.0,
    w1: float = 3.0,
    w2: float = 1.0,
    iterations: int = 5,
) -> NdarrayTensor:
    """Class probabilities of a fully connected CRF, of the kind, dtype and device of the network's probabilities.

    Krähenbühl & Koltun 2011 (arXiv:1210.5644): every voxel ``i`` pays ``-log p_i(x_i)`` for its class ``x_i``, and
    every pair of voxels of different classes pays (eq. 3, positions ``p`` and intensities ``I``)::

        w1 exp(-|p_i - p_j|² / 2 theta_alpha² - |I_i - I_j|² / 2 theta_beta²)  +  w2 exp(-|p_i - p_j|² / 2 theta_gamma²)
                       appearance: alike and near, one class                          smoothness: no islands

    Mean-field inference on the permutohedral lattice, linear in the number of voxels, by the authors' C++ code in
    pydensecrf2. Its kernels are normalised, symmetrically, so that ``w1`` and ``w2`` mean the same for every theta.
    The result is within 0.006 of the exact mean field on average (tests/transforms/test_crf.py). Measured on one
    core: 0.2 s for 512² voxels and 3 classes; 6 s and 1.3 GB of memory for 64 x 248 x 244.

    It helps where intensity tells the classes apart, and misleads where it does not: on the probabilities of a simple
    classifier of voxels it took the Dice score from 0.931 to 0.940 on the fluorescent nuclei of BBBC039, and from 0.554
    to 0.523 on DIC-C2DH-HeLa. So it is off unless asked for; compare on validation images.

    MONAI's ``CRF`` needs MONAI compiled from source; a window of convolutions (ConvCRF, arXiv:1805.04777) sees no
    farther than the window.

    Args:
        probability: ``(K, *spatial)`` after soft-max, K >= 2 classes, 2D or 3D.
        image: ``(C, *spatial)``, what the network saw.
        theta_alpha: reach of the appearance kernel in voxels, one for all axes or one per axis (as for anisotropic
            voxels). Less than the radius of the objects: beyond it the background outvotes them.
        theta_beta: difference of intensity that counts as an edge, in the image's own units: standard deviations after
            NormalizeIntensityd. Less follows weaker edges, and noise.
        theta_gamma: reach of the smoothness kernel in voxels, as ``theta_alpha``; about the largest island to remove.
        w1: weight of the appearance kernel; 0 leaves it out.
        w2: weight of the smoothness kernel; 0 leaves it out.
        iterations: steps of mean-field inference.

    Raises:
        ImportError: without pydensecrf2, the extra ``crf``.
        ValueError: for an option out of its range, or arrays that are no such probabilities and image.

    Examples:
        >>> image = np.array([[[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]])
        >>> foreground = np.array([[0.1, 0.6, 0.1, 0.1, 0.9, 0.9, 0.4, 0.9]])  # two voxels are wrong
        >>> refined = dense_crf(np.stack([1 - foreground, foreground]), image)  # doctest: +SKIP
        >>> refined.argmax(axis=0)  # doctest: +SKIP
        array([[0, 0, 0, 0, 1, 1, 1, 1]])
    """
    alpha, gamma = _widths(theta_alpha), _widths(theta_gamma)
    _check_options(alpha, theta_beta, gamma, w1, w2, iterations)
    p, intensity = _values(probability), _values(image)
    _check_arrays(p, intensity, alpha, gamma)
    classes, *shape = p.shape
    field = _pydensecrf().DenseCRF(math.prod(shape), classes)
    field.setUnaryEnergy(-np.log(np.clip(p, LEAST_PROBABILITY, 1)).reshape(classes, -1))
    if w1 > 0:
        appearance = np.concatenate([_positions(shape, alpha), intensity / theta_beta])
        field.addPairwiseEnergy(appearance.reshape(len(appearance), -1), compat=w1)
    if w2 > 0:
        field.addPairwiseEnergy(_positions(shape, gamma).reshape(len(shape), -1), compat=w2)
    refined = np.asarray(field.inference(iterations)).reshape(p.shape)
    return convert_to_dst_type(refined, probability)[0]


def _pydensecrf() -> ModuleType:
    """The compiled module, imported on use: it is an extra."""
    try:
        return import_module("pydensecrf.densecrf")
    except ImportError as error:
        raise ImportError(
            'dense_crf needs pydensecrf2: pip install "overtile[crf]" (compiled on installation, by a C++ compiler)'
        ) from error


def _widths(theta: float | Sequence[float]) -> list[float]:
    widths: list[float] = np.ravel(theta).astype(float).tolist()
    return widths


def _values(array: NdarrayOrTensor) -> NDArray[np.float32]:
    """The array in single precision, contiguous, as the C++ code reads it."""
    if isinstance(array, torch.Tensor):
        array = array.detach().float().cpu().numpy()
    return np.ascontiguousarray(array, dtype=np.float32)


def _positions(shape: Sequence[int], theta: Sequence[float]) -> NDArray[np.float32]:
    """Coordinates ``(axes, *shape)`` in units of theta, one for all axes or one per axis."""
    thetas = theta if len(theta) == len(shape) else [*theta] * len(shape)
    axes = [np.arange(size, dtype=np.float32) / np.float32(t) for size, t in zip(shape, thetas, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _check_options(
    alpha: Sequence[float], beta: float, gamma: Sequence[float], w1: float, w2: float, iterations: int
) -> None:
    _pydensecrf()
    for name, theta in (("theta_alpha", alpha), ("theta_beta", [beta]), ("theta_gamma", gamma)):
        if not all(0 < t < math.inf for t in theta) or not theta:
            raise ValueError(f"{name} is the width of a Gaussian and must be > 0, got {theta}")
    for name, weight in (("w1", w1), ("w2", w2)):
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be >= 0, got {weight}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")


def _check_arrays(
    p: NDArray[np.float32], image: NDArray[np.float32], alpha: Sequence[float], gamma: Sequence[float]
) -> None:
    if p.ndim not in (3, 4) or len(p) < 2:
        raise ValueError(f"probability needs shape (K, H, W) or (K, D, H, W) with 2 classes or more, got {p.shape}")
    if image.shape[1:] != p.shape[1:]:
        raise ValueError(f"image needs the voxels of the probability, (C, *{p.shape[1:]}), got {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError("image must be finite; it holds NaN or infinity")
    if not np.abs(p.sum(axis=0) - 1).max(initial=0) <= SUM_TOLERANCE or p.min(initial=0) < -SUM_TOLERANCE:
        raise ValueError("probabilities lie in [0, 1] and sum to 1. Apply softmax first (Activationsd(softmax=True))")
    for name, theta in (("theta_alpha", alpha), ("theta_gamma", gamma)):
        if len(theta) not in (1, p.ndim - 1):
            raise ValueError(f"{name} needs one width, or one for each axis of {p.shape[1:]}, got {theta}")


class DenseCRFd(MapTransform):
    """Dictionary form of :func:`dense_crf`: refines each key's probabilities by the image.

    It comes after the soft-max and before the probabilities become instances or classes.

    Args:
        keys: keys of the probabilities ``(K, *spatial)``.
        image_key: key of the image ``(C, *spatial)``.
        theta_alpha: see :func:`dense_crf`, also for the options up to ``iterations``.
        theta_beta: difference of intensity that counts as an edge.
        theta_gamma: reach of the smoothness kernel in voxels.
        w1: weight of the appearance kernel.
        w2: weight of the smoothness kernel.
        iterations: steps of mean-field inference.
        allow_missing_keys: whether to pass over keys that are not there.

    Raises:
        ImportError: without pydensecrf2, the extra ``crf``.
        ValueError: if an option is out of its range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        theta_alpha: float | Sequence[float] = 5.0,
        theta_beta: float = 0.5,
        theta_gamma: float | Sequence[float] = 1.0,
        w1: float = 3.0,
        w2: float = 1.0,
        iterations: int = 5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_options(_widths(theta_alpha), theta_beta, _widths(theta_gamma), w1, w2, iterations)
        self.image_key = image_key
        self.theta_alpha = theta_alpha
        self.theta_beta = theta_beta
        self.theta_gamma = theta_gamma
        self.w1 = w1
        self.w2 = w2
        self.iterations = iterations

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """The data with refined probabilities."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = dense_crf(
                result[key],
                result[self.image_key],
                theta_alpha=self.theta_alpha,
                theta_beta=self.theta_beta,
                theta_gamma=self.theta_gamma,
                w1=self.w1,
                w2=self.w2,
                iterations=self.iterations,
            )
        return result
