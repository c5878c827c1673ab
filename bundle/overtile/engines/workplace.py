"""Where a run happens: the bundle's folder and the device."""

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
