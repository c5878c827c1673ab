"""Dataset folders as people have them: which layout one is, and its image-label pairs.

::

    sections    <root>/{training,validation,test}/{images,labels}/
    decathlon   <root>/{imagesTr,labelsTr,imagesTs}/, dataset.json, split.json        medicaldecathlon.com
    tracking    <root>/01/t000.tif, <root>/01_GT/SEG/man_seg000.tif, 02 ...           celltrackingchallenge.net
                <root>/01_GT/TRA/man_track000.tif: a marker in every cell, annotated or not
    monailabel  <root>/*, <root>/labels/final/*                                       MONAI Label's datastore
    flat        <root>/{images,labels}/
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from overtile.data.folders import has_images, images_by_stem, some_names

Section = Literal["training", "validation", "test"]
Truth = Literal["GT", "ST", "GT+ST"]
Pairs = dict[str, dict[str, str]]  # by name: {"image": path, "label": path}, with markers {..., "marker": path}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ask:
    """What is wanted of a dataset folder; the fields are the arguments of ``datalist``."""

    section: Section
    images: str = "images"
    labels: str = "labels"
    truth: Truth = "GT"
    require_labels: bool = True
    markers: bool = False


@dataclass(frozen=True)
class Found:
    """Pairs of one section, or, ``whole``, of training and validation together, still to be split."""

    pairs: Pairs
    whole: bool = False


def match(images: Mapping[str, Path], labels: Mapping[str, Path], ask: Ask, where: str) -> Pairs:
    """Images and labels of the same name, every one with its partner.

    Raises:
        ValueError: an image has no label (and ``ask.require_labels``), or a label no image.
    """
    unlabelled = [images[name].name for name in images if name not in labels]
    orphaned = [labels[name].name for name in labels if name not in images]
    if unlabelled and ask.require_labels:
        raise ValueError(
            f"every image needs a label of the same name (the suffix may differ), but {where} lacks the labels of "
            f"{len(unlabelled)} of {len(images)} images: {some_names(unlabelled)}; add the labels or remove the images"
        )
    if orphaned:
        raise ValueError(
            f"every label needs an image of the same name (the suffix may differ), but {where} lacks the images of "
            f"{len(orphaned)} of {len(labels)} labels: {some_names(orphaned)}; add the images or remove the labels"
        )
    return {
        name: {"image": str(path), "label": str(labels[name])} if name in labels else {"image": str(path)}
        for name, path in sorted(images.items())
    }


def two_folders(root: Path, images: str, labels: str, ask: Ask) -> Pairs:
    """Pairs of ``<root>/<images>`` and ``<root>/<labels>``; without labels where none are required or there."""
    labelled = ask.require_labels or (root / labels).is_dir()
    found = images_by_stem(root / images)
    return match(found, images_by_stem(root / labels) if labelled else {}, ask, where=str(root / labels))


def sections(root: Path, ask: Ask) -> Found | None:
    """Folders named after the sections; a missing validation section is split off training."""
    there = [name for name in ("training", "validation", "test") if (root / name / ask.images).is_dir()]
    if not there:
        return None
    whole = ask.section != "test" and "validation" not in there
    section = "training" if whole else ask.section
    if section not in there:
        raise FileNotFoundError(
            f"{root} has no section {section!r} (it has {', '.join(there)}); add {root / section / ask.images}"
        )
    return Found(two_folders(root / section, ask.images, ask.labels, ask), whole)


def tracking(root: Path, ask: Ask) -> Found | None:
    """Sequences of the Cell Tracking Challenge; only the frames with a segmentation are listed.

    The truth of single slices of a volume (``man_seg_000_000.tif``) is passed over: it has no image of its size.
    """
    sequences = [path for path in sorted(root.glob("[0-9][0-9]")) if _numbered(path, "t")]
    if not sequences:
        return None
    _no_test_section(root, ask)
    pairs: Pairs = {}
    for sequence in sequences:
        frames, labels = _numbered(sequence, "t"), _truth(root, sequence.name, ask.truth)
        wanted = {number: path for number, path in frames.items() if number in labels or not ask.require_labels}
        found = match(wanted, labels, ask, where=f"{root / sequence.name}_{ask.truth.partition('+')[0]}/SEG")
        pairs |= {f"{sequence.name}/{number}": pair for number, pair in found.items()}
        if ask.markers:
            _add_markers(found, root / f"{sequence.name}_GT" / "TRA")
    if not pairs:
        raise FileNotFoundError(
            f"no frame of {root} is annotated in {sequences[0].name}_{ask.truth}/SEG/man_segNNN.tif; "
            "add the annotation, or choose another one: truth='GT' (gold), truth='ST' (silver) or truth='GT+ST' (both)"
        )
    return Found(pairs, whole=True)


def _truth(root: Path, sequence: str, truth: Truth) -> dict[str, Path]:
    """Segmentations by frame; of several kinds of truth the first that a frame has."""
    labels: dict[str, Path] = {}
    for kind in reversed(truth.split("+")):
        labels |= _numbered(root / f"{sequence}_{kind}" / "SEG", "man_seg")
    return labels


def _add_markers(pairs: Pairs, folder: Path) -> None:
    """Puts each frame's marker image into its entry."""
    markers = _numbered(folder, "man_track")
    if missing := [f"man_track{number}.tif" for number in pairs if number not in markers]:
        raise FileNotFoundError(
            f"markers tell which cells of a frame have no segmentation, but {folder} lacks {some_names(missing)}; "
            "add them, or leave out markers=True"
        )
    for number, pair in pairs.items():
        pair["marker"] = str(markers[number])


def monailabel(root: Path, ask: Ask) -> Found | None:
    """MONAI Label's datastore: images that have a final label (all images where labels are not required)."""
    folder = root / "labels" / "final"
    if not folder.is_dir() or not has_images(root):
        return None
    _no_test_section(root, ask)
    images, labels = images_by_stem(root), images_by_stem(folder) if has_images(folder) else {}
    for name in sorted(set(labels) - set(images)):
        logger.warning("%s has no image in %s and is passed over", labels[name], root)
    labelled = {name: path for name, path in labels.items() if name in images}
    if ask.require_labels and not labelled:
        raise FileNotFoundError(f"no image of {root} has a final label in {folder} yet; submit at least one label")
    wanted = {name: path for name, path in images.items() if name in labelled or not ask.require_labels}
    return Found(match(wanted, labelled, ask, where=str(folder)), whole=True)


def flat(root: Path, ask: Ask) -> Found | None:
    """One folder of images and one of labels."""
    if not (root / ask.images).is_dir():
        return None
    _no_test_section(root, ask)
    return Found(two_folders(root, ask.images, ask.labels, ask), whole=True)


def _numbered(folder: Path, prefix: str) -> dict[str, Path]:
    """TIFF files ``<prefix>NNN.tif`` (three digits or four) by number; none where there is no such folder."""
    name = re.compile(rf"{prefix}(\d{{3,4}})\.tiff?", re.IGNORECASE)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {hit.group(1): path for path in files if (hit := name.fullmatch(path.name))}


def _no_test_section(root: Path, ask: Ask) -> None:
    if ask.section == "test":
        raise FileNotFoundError(
            f"{root} has no section 'test': only <root>/test/{ask.images} and <root>/imagesTs are one; "
            "to predict every image of a folder use image_files"
        )
