"""Trains networks on the same images, each for the same time or as many steps, and compares what they reach and cost.

    python scripts/compare.py unet_2015 vnet multiresunet --config_file configs/quick.yaml --minutes 4
    python scripts/compare.py vnet dynunet dynunet,configs/nnunet.yaml --steps 5000 --dataset_dir FOLDER

A network is a name in configs/networks, an overlay of yours, or several with commas between, the later over the former.
--config_file names what all share, an experiment for example; other options go to every training and evaluation, as in
--seed 1. A comparison that was interrupted goes on with the same command, and networks can be added to one.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "bundle"))  # an installed copy wins

from overtile import __version__
from overtile.reports import (
    NetworkComparison,
    NetworkResult,
    network_figure,
    network_page,
    network_table,
    number,
    write_network_csv,
)

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
EPOCHS = 10  # of a training, each with a validation; down to eight where more steps fit into the time so
TRIAL = 3  # steps that say how many fit into the time
TAKEN = ("output_dir", "ckpt_dir", "max_epochs", "steps_per_epoch", "val_interval", "resume", "costs_file")
EMBEDDED = "the embedded sample"


@dataclass(frozen=True)
class Contender:
    """A network's name, config files from the lowest to the highest, and folder of results."""

    name: str
    files: tuple[Path, ...]
    folder: Path


def main() -> int:
    """Read the command line, train and score what is not done yet, write table and plot; the exit status."""
    options, rest = command_line()
    try:
        shared = shared_options(rest)
        contenders = [contender(entry, options) for entry in options.networks]
        check(contenders, options, shared)
    except (OSError, ValueError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    budget = f"{options.minutes:g} minutes" if options.minutes else f"{options.steps:,} steps"
    count = f"{len(contenders)} network{'s' * (len(contenders) > 1)}"
    print(f"{count}, {budget} each; if it is interrupted, the same command goes on", flush=True)
    results: list[NetworkResult] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the training would go on alone
    try:
        for place, one in enumerate(contenders, start=1):
            results.append(compared(one, options, shared, f"{place}/{len(contenders)} {one.name}:"))
            table = write(results, options, shared, budget)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on where it stopped", file=sys.stderr)
        return 130
    print(f"\n{table}\n\ntable and plot: {options.output_dir / 'networks.html'}")
    return int(any(result.score is None for result in results))


def command_line() -> tuple[argparse.Namespace, list[str]]:
    """What was asked for, and options for the trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join(sorted(file.stem for file in (CONFIGS / "networks").glob("*.yaml")))
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help=known)
    shared = "overlay over train.json for all, once for each"
    parser.add_argument("--config_file", action="append", default=[], type=Path, metavar="OVERLAY", help=shared)
    budget = parser.add_mutually_exclusive_group(required=True)
    minutes = "of steps and validations for each network; a few steps tell how many fit"
    budget.add_argument("--minutes", type=float, help=minutes)
    budget.add_argument("--steps", type=int, help=f"of training for each network, rounded up to a multiple of {EPOCHS}")
    place = ROOT / "output" / "comparison"
    parser.add_argument("--output_dir", type=Path, default=place, metavar="DIR", help="default: output/comparison")
    options, rest = parser.parse_known_args()
    if min(options.minutes or 1, options.steps or 1) <= 0:
        parser.error("a network needs some time: --minutes and --steps must be above 0")
    return options, rest


def shared_options(rest: Sequence[str]) -> dict[str, str]:
    """Options for every training and evaluation.

    Raises:
        ValueError: if they are not pairs of ``--name value``, or set what the comparison sets.
    """
    parts = [part for given in rest for part in (given.split("=", 1) if given.startswith("--") else [given])]
    names, values = parts[::2], parts[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise ValueError(f"options for the trainings are pairs --name value, got {' '.join(rest)}")
    options = {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}
    if taken := [name for name in options if name in TAKEN]:
        raise ValueError(f"the comparison itself sets {', '.join(taken)}; give --minutes, --steps and --output_dir")
    return options


def contender(entry: str, options: argparse.Namespace) -> Contender:
    """The network of one entry of the command line.

    Raises:
        FileNotFoundError: if it is neither a network of configs/networks nor a file.
    """
    overlays = [Path(part) if part.endswith((".yaml", ".yml", ".json")) else network(part) for part in entry.split(",")]
    if missing := [str(file) for file in [*options.config_file, *overlays] if not file.is_file()]:
        raise FileNotFoundError(f"there is no overlay {', '.join(missing)}")
    name = "+".join(file.stem for file in overlays)
    files = [CONFIGS / "train.json", *options.config_file, *overlays, CONFIGS / "compare.yaml"]
    return Contender(name, tuple(file.absolute() for file in files), options.output_dir.absolute() / name)


def network(name: str) -> Path:
    """The overlay of a network's name."""
    file = CONFIGS / "networks" / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise FileNotFoundError(f"there is no network {name!r}; there are {known}, or give the path of an overlay")
    return file


def check(contenders: Sequence[Contender], options: argparse.Namespace, shared: dict[str, str]) -> None:
    """Raises where two networks have one name, or a folder holds results of something else."""
    names = [one.name for one in contenders]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"{', '.join(sorted(twice))} stands there more than once; copies of an overlay need other names"
        )
    for one in contenders:
        plan, trained = one.folder / "plan.json", one.folder / "models" / "last.ckpt"
        if trained.is_file() and plan.is_file() and planned_as(plan) != asked(one, options, shared):
            raise ValueError(
                f"{one.folder} holds a training with other files, options or another budget: delete it to train anew, "
                "or choose another --output_dir"
            )


def planned_as(plan: Path) -> Any:
    """What was asked for when a plan was made."""
    return json.loads(plan.read_text(encoding="utf-8"))["asked"]


def asked(one: Contender, options: argparse.Namespace, shared: dict[str, str]) -> dict[str, Any]:
    """What makes a result what it is, to be compared with what is on disk."""
    digests = [[file.name, sha256(file.read_bytes()).hexdigest()[:16]] for file in one.files]
    return {"files": digests, "options": shared, "minutes": options.minutes, "steps": options.steps}


def compared(one: Contender, options: argparse.Namespace, shared: dict[str, str], says: str) -> NetworkResult:
    """Trains and scores one network, or what is left of that, and returns its row."""
    plan_file, wanted = one.folder / "plan.json", asked(one, options, shared)
    one.folder.mkdir(parents=True, exist_ok=True)
    try:
        if not plan_file.is_file() or planned_as(plan_file) != wanted:
            epochs, steps = planned(one, options, shared, says)
            plan = {"asked": wanted, "max_epochs": epochs, "steps_per_epoch": steps}
            plan_file.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
        if not (one.folder / "scores.json").is_file():
            steps = plan["max_epochs"] * plan["steps_per_epoch"]
            print(f"{says} {steps:,} steps, {one.folder / 'log.txt'}", flush=True)
            places = {"output_dir": str(one.folder), "ckpt_dir": str(one.folder / "models")}
            length = {name: str(plan[name]) for name in ("max_epochs", "steps_per_epoch")}
            run("training", one, {**shared, **places, **length, "resume": "true"})
            run("evaluating", one, {**shared, **places})
    except RuntimeError as error:
        print(f"{says} {error}", file=sys.stderr, flush=True)
        return NetworkResult(one.name, remark=str(error))
    found = result(one)
    print(f"{says} {number(found.score)}, {one.folder / 'report.html'}", flush=True)
    return found


def planned(one: Contender, options: argparse.Namespace, shared: dict[str, str], says: str) -> tuple[int, int]:
    """Epochs and steps of each that the budget allows, by a trial of a few steps and a validation."""
    if options.steps:
        return EPOCHS, -(-options.steps // EPOCHS)
    trial = one.folder / "trial"
    places = {"output_dir": str(trial), "ckpt_dir": str(trial)}
    run("training", one, {**shared, **places, "max_epochs": "1", "steps_per_epoch": str(TRIAL)})
    costs = json.loads((trial / "costs.json").read_text(encoding="utf-8"))
    shutil.rmtree(trial)
    step, validation = costs["training"]["seconds_per_step"], costs["inference"]["total_seconds"]
    print(f"{says} {step:.2g} s a step, {validation:.2g} s a validation", flush=True)
    return fitting(60 * options.minutes, step, validation)


def fitting(seconds: float, step: float, validation: float) -> tuple[int, int]:
    """Epochs with a validation each, and their steps, as fit into a time: ten, or less where a tenth more steps fit so.

    Examples:
        >>> fitting(150, step=0.2, validation=0.3), fitting(150, step=7.3, validation=1.5), fitting(1, 7.3, 1.5)
        ((10, 73), (9, 2), (10, 1))
    """
    lengths = [(epochs, int((seconds / epochs - validation) / step)) for epochs in (EPOCHS, EPOCHS - 1, EPOCHS - 2)]
    most = max(epochs * steps for epochs, steps in lengths)
    return next((epochs, max(steps, 1)) for epochs, steps in lengths if epochs * steps >= 0.9 * most)


def run(run_id: str, one: Contender, options: dict[str, str]) -> None:
    """One run of MONAI's bundle command, its output behind that of earlier ones in log.txt.

    Raises:
        RuntimeError: if it fails, with the last line that it printed.
    """
    files = [*one.files]
    if run_id == "evaluating":
        files.insert(-1, CONFIGS / "evaluate.json")
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    config_file = str([str(file) for file in files])
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", config_file, *given]
    # threads that wait passively: on a busy machine the others would spin for a core that somebody else has
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE"}
    log = one.folder / "log.txt"
    with log.open("a", encoding="utf-8") as stream:
        done = subprocess.run(command, stdout=stream, stderr=stream, env={**os.environ, **quiet}, check=False)
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{run_id} failed with exit status {done.returncode}: {''.join(last)} ({log})")


def result(one: Contender) -> NetworkResult:
    """The row of a network that was trained and scored."""
    found, costs = (
        json.loads((one.folder / name).read_text(encoding="utf-8")) for name in ("scores.json", "costs.json")
    )
    training, inference = costs["training"], costs["inference"]
    score = found["scores"][found["headline"]["metric"]]
    return NetworkResult(
        name=one.name,
        score=score,
        remark="" if score is not None else "the metric has no value on these images",
        parameters=inference["parameters"],
        steps=training["steps"],
        training_seconds=training["seconds"],
        training_bytes=training["peak_bytes"],
        inference_seconds=inference["seconds"] / inference["voxels"],
        inference_bytes=inference["peak_bytes"],
        report=f"{one.name}/report.html",
    )


def write(results: Sequence[NetworkResult], options: argparse.Namespace, shared: dict[str, str], budget: str) -> str:
    """Writes networks.html, networks.csv, networks.md and networks.svg, and returns the table."""
    scored = [one for one in results if one.score is not None]
    headline: dict[str, Any] = {"name": "score", "higher_is_better": True}
    devices: list[str] = []
    for one in scored:
        headline, device = (
            json.loads((options.output_dir / one.name / file).read_text(encoding="utf-8"))[key]
            for file, key in (("scores.json", "headline"), ("costs.json", "training"))
        )
        devices.append(device["device"])
    given = " ".join(f"--{name} {value}" for name, value in shared.items() if name != "dataset_dir")
    facts = {
        "data": shared.get("dataset_dir", EMBEDDED),
        "budget": f"{budget} for each network",
        "config files": ", ".join(["train.json", *(file.name for file in options.config_file)]),
        "options": given,
        "device": ", ".join(dict.fromkeys(devices)),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "by": f"overtile {__version__}, MONAI {version('monai')}, PyTorch {version('torch')}",
    }
    comparison = NetworkComparison(
        title=f"Networks on {Path(facts['data']).name}",
        metric=headline["name"],
        results=results,
        higher_is_better=headline["higher_is_better"],
        facts=[(name, value) for name, value in facts.items() if value],
    )
    table, folder = network_table(comparison), options.output_dir
    write_network_csv(folder / "networks.csv", comparison)
    for name, text in {
        "networks.html": network_page(comparison),
        "networks.svg": network_figure(comparison, alone=True),
        "networks.md": table + "\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    return table


if __name__ == "__main__":
    sys.exit(main())
