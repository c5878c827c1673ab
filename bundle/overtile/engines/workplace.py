"""How a run was started: the bundle's folder, the device, switches on the command line."""

from __future__ import annotations

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
