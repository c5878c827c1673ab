"""Lists of image and label files, as MONAI's data sets take them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from overtile.data.decathlon import decathlon
from overtile.data.folders import absolute, some_names
from overtile.data.layouts import Ask, Pairs, Section, Truth, flat, monailabel, sections, tracking

logger = logging.getLogger(__name__)

LAYOUTS = (sections, decathlon, tracking, monailabel, flat)  # the first that recognises a folder reads it


def datalist(
    dataset_dir: str | os.PathLike[str],
    section: Section = "training",
    *,
    validation_fraction: float = 0.2,
    images: str = "images",
    labels: str = "labels",
    seed: int = 0,
    truth: Truth = "GT",
    markers: bool = False,
    validation_names: Sequence[str] | None = None,
    require_labels: bool = True,
) -> list[dict[str, str]]:
    """Image and label paths of one section of a dataset folder, sorted by name, the same on every machine.

    The layout is recognised: sections (``training/images``, ``training/labels``, ``validation/...``, ``test/...``),
    one pair of folders (``images``, ``labels``), the Medical Segmentation Decathlon, the Cell Tracking Challenge
    or MONAI Label's datastore; ``overtile.data.layouts`` draws them. An image and its label share their name, not
    their suffix. Where the layout names no validation images, ``validation_fraction`` of all is split off.

    Args:
        dataset_dir: the root of the data set.
        section: which part of it.
        validation_fraction: of all images, where there is no validation section; at least one image, never all.
        images: name of the image folder (layouts with sections or one pair of folders).
        labels: name of the label folder (the same layouts).
        seed: another seed, another split.
        truth: gold (``"GT"``) or silver (``"ST"``) annotation of the Cell Tracking Challenge, or ``"GT+ST"`` for gold
            where a frame has it and silver elsewhere.
        markers: whether to list the challenge's markers too, one in every cell, as the key ``"marker"``: they tell
            which cells have no segmentation.
        validation_names: exactly these images are the validation section, instead of a fraction; in the challenge's
            layout a name is ``"01/039"``, sequence and frame. Not for layouts that name their validation images.
        require_labels: if false, images without a label are listed too, without the key ``"label"``.

    Returns:
        ``[{"image": path, "label": path}, ...]`` with absolute paths.

    Raises:
        FileNotFoundError: a folder is missing or holds no image.
        ValueError: an image without a label or a label without an image, two images of one name, an unknown
            validation image, or no layout fits.

    Examples:
        >>> from overtile.data import sample_folder
        >>> [sorted(pair) for pair in datalist(sample_folder(), "validation")]
        [['image', 'label']]
    """
    _check_choice("section", section, get_args(Section))
    _check_choice("truth", truth, get_args(Truth))
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
    root = absolute(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"dataset folder {root} does not exist; check dataset_dir, got {str(dataset_dir)!r}")
    ask = Ask(section, images, labels, truth, require_labels, markers)
    found = next((found for layout in LAYOUTS if (found := layout(root, ask))), None)
    if found is None:
        entries = some_names(path.name for path in sorted(root.iterdir()) if not path.name.startswith("."))
        raise ValueError(
            f"{root} has none of the layouts read here: training/{images} + training/{labels}, {images} + {labels}, "
            "imagesTr + labelsTr, 01 + 01_GT/SEG, or images + labels/final; "
            f"it holds {entries or 'nothing'}; rearrange it, or name its folders with images=... and labels=..."
        )
    if markers and not all("marker" in pair for pair in found.pairs.values()):
        raise ValueError(
            f"only the Cell Tracking Challenge's layout has markers, and {root} is another; leave out markers"
        )
    if validation_names is not None:
        held_out = _named(found.pairs, validation_names, root, found.whole)
        return list(part(found.pairs, held_out, section).values())
    pairs = split_pairs(found.pairs, section, validation_fraction, seed) if found.whole else found.pairs
    return list(pairs.values())


def split_pairs(pairs: Pairs, section: Section, fraction: float, seed: int) -> Pairs:
    """The part of ``pairs`` that belongs to ``section``; training and validation together are all of them.

    Who is held out is decided by a hash of seed and name, not by a place in a list: an image that joins the
    data set later leaves most of the others where they were. A single pair serves for both sections.
    """
    if len(pairs) == 1:
        logger.warning("only one image, %s: it serves for training and for validation", *pairs)
        return pairs
    count = min(max(1, round(len(pairs) * fraction)), len(pairs) - 1)
    drawn = sorted(pairs, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return part(pairs, drawn[:count], section)


def part(pairs: Pairs, held_out: Collection[str], section: Section) -> Pairs:
    """The pairs named by ``held_out`` for the validation section, the others for training."""
    return {name: pair for name, pair in pairs.items() if (name in held_out) == (section == "validation")}


def _named(pairs: Pairs, names: Sequence[str], root: Path, whole: bool) -> Sequence[str]:
    if not whole:
        raise ValueError(f"{root} names its validation images itself; leave out validation_names, got {names}")
    if unknown := [name for name in names if name not in pairs]:
        raise ValueError(
            f"{root} has no annotated image called {some_names(unknown)}; its images are {some_names(pairs)}"
        )
    if not 0 < len(set(names)) < len(pairs):
        raise ValueError(f"validation_names must leave images on both sides; {len(names)} of {len(pairs)} were named")
    return names


def _check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {value!r}")
