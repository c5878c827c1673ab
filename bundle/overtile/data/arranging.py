"""From a provider's layout to one that ``datalist`` reads; every step says what it misses.

Each function takes the folder its archives were unpacked to and makes the folder ``target``.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import skimage.measure
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from overtile.data.archives import ArchiveError
from overtile.data.folders import some_names

SLICES = 30
HELD_OUT_SLICES = (12, 13, 14, 27, 28, 29)  # the last three of the nearly noise-free half and of the noisy one

logger = logging.getLogger(__name__)


def isbi2012(unpacked: Path, target: Path) -> None:
    """The stacks as single slices: 24 to train, slices 12-14 and 27-29 to validate, the second stack to test.

    Labels are 0 (membrane) and 255 (cell). The test section has labels where the archive has.
    """
    images, labels = _stack(_one(unpacked, "train-volume.tif")), _stack(_one(unpacked, "train-labels.tif"))
    if len(images) != SLICES or images.shape != labels.shape or not _is_binary(labels):
        raise ArchiveError(
            f"the training stacks must be {SLICES} slices of one size and labels of two values, got images of "
            f"{images.shape} and labels of {labels.shape} with {np.unique(labels).size} values"
        )
    for number in range(SLICES):
        section = "validation" if number in HELD_OUT_SLICES else "training"
        _save_slice(target / section, number, images, labels)
    for file in unpacked.rglob("test-volume.tif"):
        images, truth = _stack(file), file.with_name("test-labels.tif")
        known = _stack(truth) if truth.is_file() else None
        if known is None or known.shape != images.shape or not _is_binary(known):
            logger.warning("the test stack has no labels of two values: its images are laid out without labels")
            known = None
        for number in range(len(images)):
            _save_slice(target / "test", number, images, known)


def cell_tracking(unpacked: Path, target: Path) -> None:
    """The challenge's own layout, unchanged: sequences 01 and 02 with their gold annotation."""
    root = _one(unpacked, "01_GT").parent
    _need(root, "01/*.tif", "01_GT/SEG/man_seg*.tif", "02/*.tif", "02_GT/SEG/man_seg*.tif")
    shutil.move(root, target)


def decathlon(unpacked: Path, target: Path) -> None:
    """The decathlon's own layout, unchanged."""
    root = _one(unpacked, "imagesTr").parent
    _need(root, "imagesTr/*.nii.gz", "labelsTr/*.nii.gz", "dataset.json")
    shutil.move(root, target)


def bbbc039(unpacked: Path, target: Path) -> None:
    """The provider's split as sections, its masks as instance maps.

    A mask's first channel has another value for every nucleus than for those it touches; nuclei are its connected
    regions of one value (https://gist.github.com/jccaicedo/15e811722fca51e3ae90e8b43057f075).
    """
    split = {}
    for section in ("training", "validation", "test"):
        stems = [Path(line).stem for line in _one(unpacked, f"{section}.txt").read_text(encoding="utf-8").split()]
        split[section] = {stem: (_one(unpacked, f"{stem}.tif"), _one(unpacked, f"{stem}.png")) for stem in stems}
    for section, files in split.items():
        (target / section / "images").mkdir(parents=True)
        for stem, (image, label) in files.items():
            mask = _pixels(label)
            nuclei = skimage.measure.label(mask if mask.ndim == 2 else mask[..., 0])
            _save(target / section / "labels" / f"{stem}.tif", nuclei.astype(np.uint16))
            shutil.move(image, target / section / "images" / f"{stem}.tif")


def usiigaci(unpacked: Path, target: Path) -> None:
    """The provider's 45 sets to train and 5 to validate: ``raw.tif`` and the instance map ``instances_ids.png``."""
    for section, name in (("training", "train"), ("validation", "val")):
        folder = _one(unpacked, name)
        for cells in sorted(folder.glob("set*")):
            _need(cells, "raw.tif", "instances_ids.png")
            label = _pixels(cells / "instances_ids.png")
            if label.ndim == 3:  # gray, saved as colour
                label = label[..., 0]
            stem = f"set{int(cells.name.removeprefix('set')):02d}"
            _save(target / section / "labels" / f"{stem}.tif", label)
            (target / section / "images").mkdir(exist_ok=True)
            shutil.move(cells / "raw.tif", target / section / "images" / f"{stem}.tif")


def _one(root: Path, name: str) -> Path:
    """The one file or folder of this name, wherever below ``root``."""
    found = sorted(root.rglob(name))
    if len(found) != 1:
        there = some_names(path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())
        raise ArchiveError(
            f"{name} is expected once, but found {len(found)} times; the archives hold {there or 'nothing'}; "
            "either one is another than the provider's, or the provider has changed it: please report that"
        )
    return found[0]


def _need(root: Path, *patterns: str) -> None:
    missing = [pattern for pattern in patterns if not any(root.glob(pattern))]
    if missing:
        raise ArchiveError(
            f"{root.name} of the archive lacks {some_names(missing)}; either it is another than the provider's, or the "
            "provider has changed it: please report that"
        )


def _stack(file: Path) -> NDArray[Any]:
    """All pages of a TIFF file; by Pillow, whose decoders (LZW, PackBits) need no further package."""
    with Image.open(file) as image:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])


def _pixels(file: Path) -> NDArray[Any]:
    with Image.open(file) as image:
        return np.asarray(image)


def _is_binary(labels: NDArray[Any]) -> bool:
    return np.unique(labels).size == 2


def _save_slice(section: Path, number: int, images: NDArray[Any], labels: NDArray[Any] | None) -> None:
    _save(section / "images" / f"slice{number:02d}.tif", images[number])
    if labels is not None:
        _save(section / "labels" / f"slice{number:02d}.tif", np.where(labels[number] > 0, 255, 0).astype(np.uint8))


def _save(file: Path, pixels: NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, pixels, compression="zlib")
