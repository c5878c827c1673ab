"""Files that are there whole or not at all, however a run ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside the target and moves: the old file or the new one, never half of one.

    Args:
        path: of the file, new or there already.
        write: writes the content to the path that it is given.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
