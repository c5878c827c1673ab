"""How a run was started: the bundle's folder, the device, switches on the command line."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch


def bundle_root() -> str:
    """Folder of the bundle that is running, from whatever folder it was started.

    MONAI puts the bundle's folder second on ``sys.path`` before it runs anything, so this is the first folder there,
    the working folder last, that holds ``configs/metadata.json``; ``"."`` if there is none.
    """
    for folder in (*sys.path[1:], *sys.path[:1]):
        if (Path(folder) / "configs" / "metadata.json").is_file():
            return str(Path(folder).absolute())
    return "."


def default_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def zoom_mode(scale: float, spatial_dims: int) -> str:
    """How images are resampled to ``scale`` and results back: MONAI's word for ``Zoomd``.

    Linear between half and whole resolution, where it is the mean of the voxels it replaces (at 0.5 exactly) and
    smooth on the way back; by area below, where linear interpolation would pass voxels over.

    Args:
        scale: size of the network's image over that of the loaded one, the same for all axes.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: for a scale that is no positive number.

    Examples:
        >>> zoom_mode(0.5, 2), zoom_mode(0.25, 3)
        ('bilinear', 'area')
    """
    if not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise ValueError(f"scale is one positive number for all axes, 0.5 for half the resolution, got {scale!r}")
    if scale < 0.5:
        return "area"
    return "bilinear" if spatial_dims == 2 else "trilinear"


def switch(value: bool | str) -> bool:
    """A yes or no from a config or the command line, where ``--resume true`` arrives as a word.

    Args:
        value: True, False, or one of the words true, false, yes, no, on, off in any case.

    Raises:
        ValueError: for anything else.

    Examples:
        >>> switch("true"), switch("False"), switch(True)
        (True, False, True)
    """
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError(f"a switch is true or false, got {value!r}")
    return words[str(value).lower()]
