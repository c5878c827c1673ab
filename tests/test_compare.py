"""The command that compares networks, as a user calls it: interrupted, gone on with, and with mistakes."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
TINY = "levels: 1\nfeatures: 2\noutput_size: 20\ndropout: 0.0\n"
BROKEN = "geometry:\n  _target_: overtile.geometry.Geometry\n  levels: -1\n"


def command(networks, folder, *options):
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, str(ROOT / "scripts" / "compare.py"), *map(str, networks)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    arguments = [*program, "--output_dir", str(folder), *map(str, options)]
    return subprocess.Popen(arguments, env={**os.environ, **settings}, **streams)


@pytest.fixture(scope="module")
def overlays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlays")
    for name, text in {"tiny": TINY, "broken": BROKEN}.items():
        (folder / f"{name}.yaml").write_text(text)
    return [folder / "tiny.yaml", folder / "broken.yaml"]


@pytest.fixture(scope="module")
def comparison(overlays, cells, tmp_path_factory):
    """A folder of results: interrupted in the training of the first network, then gone on with, and a second added."""
    folder = tmp_path_factory.mktemp("comparison")
    options = ("--minutes", "0.2", "--dataset_dir", cells, "--seed", "1")
    first = command(overlays[:1], folder, *options)
    saved = folder / "tiny" / "models" / "last.ckpt"
    end = time.monotonic() + 120
    while not saved.is_file() and first.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    first.terminate()
    told = first.communicate(timeout=120)
    at = torch.load(saved, weights_only=True)["epoch"]
    second = command(overlays, folder, *options)
    return {"folder": folder, "first": (first, *told), "at": at, "second": (second, *second.communicate(timeout=300))}


@pytest.mark.slow
def test_an_interrupted_comparison_says_so_and_goes_on_with_the_training_that_it_had_begun(comparison):
    process, _, err = comparison["first"]
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    folder = comparison["folder"] / "tiny"
    assert (
        f"resumed from {folder / 'models' / 'last.ckpt'} after epoch {comparison['at']}"
        in (folder / "log.txt").read_text()
    )
    costs = json.loads((folder / "costs.json").read_text())
    plan = json.loads((folder / "plan.json").read_text())
    assert 8 <= plan["max_epochs"] <= 10
    assert list(costs["training"]["epochs"]) == [str(epoch) for epoch in range(1, plan["max_epochs"] + 1)]
    assert costs["training"]["steps"] == plan["max_epochs"] * plan["steps_per_epoch"]
    assert not (folder / "trial").exists()


@pytest.mark.slow
def test_a_network_that_fails_is_a_row_with_its_reason_and_does_not_stop_the_others(comparison):
    process, out, _ = comparison["second"]
    assert process.returncode == 1
    assert "| 1 tiny" in out
    with (comparison["folder"] / "networks.csv").open(newline="", encoding="utf-8") as stream:
        tiny, broken = csv.DictReader(stream)
    scores = json.loads((comparison["folder"] / "tiny" / "scores.json").read_text())
    assert scores["headline"] == {"metric": "val_f1", "name": "val_f1", "higher_is_better": True}
    assert float(tiny["score"]) == scores["scores"]["val_f1"]
    assert broken["score"] == ""
    assert "training failed with exit status 1: ValueError: levels must be 0 or more, got -1" in broken["remark"]


@pytest.mark.slow
def test_table_and_plot_are_written_as_page_csv_markdown_and_svg(comparison):
    folder = comparison["folder"]
    assert "levels must be 0 or more" in (folder / "networks.html").read_text(encoding="utf-8")
    assert (folder / "networks.md").read_text(encoding="utf-8").startswith("| network")
    assert (folder / "networks.svg").read_text(encoding="utf-8").startswith("<svg xmlns")
    assert (folder / "tiny" / "report.html").is_file()


@pytest.mark.slow
def test_a_finished_comparison_is_not_trained_again_and_another_budget_is_refused(comparison, overlays, cells):
    weights = comparison["folder"] / "tiny" / "models" / "model.pt"
    before = weights.stat().st_mtime_ns
    given = ("--dataset_dir", cells, "--seed", "1")
    again = command(overlays[:1], comparison["folder"], "--minutes", "0.2", *given)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "| 1 tiny" in out
    assert weights.stat().st_mtime_ns == before
    other = command(overlays[:1], comparison["folder"], "--steps", "10", *given)
    _, err = other.communicate(timeout=120)
    assert other.returncode == 2
    assert "another budget: delete it to train anew, or choose another --output_dir" in err


MISTAKES = {
    "an unknown network": (["unet_2051"], ["--steps", "10"], "no network 'unet_2051'; there are attention_unet"),
    "an overlay that is not there": (["mine.yaml"], ["--steps", "10"], "there is no overlay mine.yaml"),
    "one network twice": (["vnet", "vnet"], ["--steps", "10"], "vnet stands there more than once"),
    "what the comparison sets": (["vnet"], ["--steps", "10", "--max_epochs", "3"], "sets max_epochs"),
    "half an option": (["vnet"], ["--steps", "10", "--seed"], "pairs --name value"),
    "no budget": (["vnet"], [], "one of the arguments --minutes --steps is required"),
    "no time": (["vnet"], ["--minutes", "-1"], "must be above 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_before_anything_is_trained(mistake, tmp_path):
    networks, options, says = MISTAKES[mistake]
    process = command(networks, tmp_path / "comparison", *options)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "comparison").exists()
