"""Everything that must be clean before a change lands: ``.venv/bin/python scripts/check.py``, by hand and in CI."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "-n", "auto", "--maxprocesses", "8", "--dist", "loadfile", *sys.argv[1:]),  # a process per core
)

if __name__ == "__main__":
    for check in CHECKS:
        print("$", *check, flush=True)
        if status := subprocess.run([sys.executable, "-m", *check], cwd=ROOT, check=False).returncode:
            sys.exit(status)
