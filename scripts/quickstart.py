"""Sets everything up in .venv, trains on the embedded image and evaluates its held-out part.

Run it as ``python3 scripts/quickstart.py``; it needs nothing but Python 3.11 or newer. ``--setup-only`` stops after the
installation; anything else on the command line goes on to training and evaluation, for example ``--max_epochs 5``.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OUTPUT = ROOT / "output" / "quickstart"


def install() -> None:
    """The versions of constraints.txt and this bundle, in a virtual environment of its own."""
    if not PYTHON.exists():
        print(f"creating {ENVIRONMENT}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    print("installing (PyTorch, MONAI and ITK are large: a few minutes the first time)", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", "constraints.txt", "-e", ".[dev]"], cwd=ROOT, check=True)


def run(run_id: str, configs: list[str], options: list[str]) -> None:
    """One run of MONAI's bundle command, shown as it could be typed."""
    files = str([f"configs/{name}" for name in configs]).replace(" ", "")
    options = ["--config_file", files, "--output_dir", str(OUTPUT), "--ckpt_dir", str(OUTPUT / "models"), *options]
    print("\n$ python -m monai.bundle run", run_id, *(f'"{o}"' if "[" in o else o for o in options), flush=True)
    # threads that wait passively: on a busy machine the others would spin for a core that somebody else has
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(PYTHON), "-m", "monai.bundle", "run", run_id, *options]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, **quiet})


def main() -> None:
    """Install, train, evaluate, and say where the results are."""
    options = sys.argv[1:]
    install()
    if options == ["--setup-only"]:
        return
    run("training", ["train.json", "quick.yaml"], options)
    run("evaluating", ["train.json", "quick.yaml", "evaluate.json"], options)
    results = json.loads((OUTPUT / "scores.json").read_text(encoding="utf-8"))
    print("\nscores on the held-out part:", *(f"{name} {value:.3f}" for name, value in results["scores"].items()))
    print("scores: ", OUTPUT / "scores.json")
    print("report: ", OUTPUT / "report.html")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"stopped: {' '.join(map(str, error.cmd[:6]))} ... failed with exit status {error.returncode}")
