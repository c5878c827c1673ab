"""Makes the package under ``bundle/`` importable where it is not installed (an installed copy wins)."""

import sys
from pathlib import Path

_PACKAGES = str(Path(__file__).resolve().parent.parent / "bundle")
if _PACKAGES not in sys.path:
    sys.path.append(_PACKAGES)
