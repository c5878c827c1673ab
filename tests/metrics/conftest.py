"""True membranes of the ISBI 2012 challenge, and predictions that are wrong in known ways."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

ISBI = Path(__file__).resolve().parents[2] / "../shared/data/isbi2012"


def _blurred(truth):
    return ndimage.gaussian_filter((truth > 0).astype(np.float32), 1.5)


def _noisy(truth):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 0.8, truth.shape), 1.5)
    return (_blurred(truth) + noise).clip(0, 1).astype(np.float32)


WRONG = {
    "blurred": _blurred,
    "noisy": _noisy,
    "shifted": lambda truth: np.roll(truth, 2, axis=1),
    "eroded": lambda truth: ndimage.binary_erosion(truth, iterations=2),
}


@pytest.fixture(scope="session")
def membranes():
    """One true slice, 512 x 512: cells 255, membranes 0."""
    file = ISBI / "validation" / "labels" / "slice10.tif"
    if not file.exists():
        pytest.skip(f"needs the ISBI 2012 data in {ISBI}")
    return tifffile.imread(file)


@pytest.fixture(params=WRONG)
def wrong(membranes, request):
    """A prediction for the slice that is blurred, noisy, shifted or eroded."""
    return WRONG[request.param](membranes)
