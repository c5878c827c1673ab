"""The one command of ``benchmarks/``: that it runs and writes its table. What it measures is nobody's test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run of the cheapest row, which needs no peer but MONAI."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "performance.md").write_text(
        "# By hand\n\n<!-- benchmarks: begin -->\nold\n<!-- benchmarks: end -->\n\nAlso by hand.\n", encoding="utf-8"
    )
    command(folder, "--rows", "D1")
    return folder


def command(folder, *arguments):
    files = ["--output", folder / "performance.md", "--results", folder / "results.json"]
    path = os.pathsep.join([str(ROOT / "bundle"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *arguments, *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        timeout=300,
    )


@pytest.fixture
def benchmarks(monkeypatch):
    """The package, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    return pytest.importorskip("benchmarks.rows")


def test_a_row_is_measured_and_written_into_the_table_between_the_marks(run):
    text = (run / "performance.md").read_text(encoding="utf-8")
    assert "# By hand" in text
    assert "Also by hand." in text
    assert "old" not in text
    assert "| **D1** |" in text
    assert "overlap 0.5 (monai" in text


def test_the_sliding_window_computes_what_its_overlap_says(run):
    """3 x 3 windows of 512 with an overlap of half cover 1024: 2.25 times the image."""
    line = json.loads((run / "results.json").read_text())["D1"]["lines"][0]
    assert line["theirs"] == 2.25
    assert 1 < line["ours"] < 1.25


def test_rows_measured_before_stay_and_the_table_is_written_without_measuring(run):
    before = (run / "results.json").read_text()
    command(run, "--rows")
    assert (run / "results.json").read_text() == before
    assert "| **D1** |" in (run / "performance.md").read_text(encoding="utf-8")


def test_a_peer_that_is_missing_or_fails_says_so_and_the_others_are_measured(benchmarks):
    from benchmarks.timing import Contender

    def missing():
        raise ImportError(name="no_such_peer")

    def fails():
        raise OSError("broken")

    ours, works = (Contender(name, "numpy", lambda: lambda: sum(range(10_000))) for name in ("ours", "works"))
    peers = [Contender("missing", "no-such-peer", missing), Contender("failing", "numpy", lambda: fails), works]
    lines = benchmarks.compare("a job", ours, [(peer, 2.0) for peer in peers], rounds=2)
    assert [line.theirs is None for line in lines] == [True, True, False]
    assert "not installed: no_such_peer" in lines[0].note
    assert "failed: OSError: broken" in lines[1].note
    assert all(line.ours is not None for line in lines)


def test_a_row_that_fails_is_recorded_with_its_error(benchmarks):
    def measure(quick):
        raise RuntimeError("out of memory")

    record = benchmarks.record(benchmarks.Row("a row", measure), quick=True, machine={})
    assert record["error"] == "RuntimeError: out of memory"
    assert record["lines"] == []


@pytest.mark.parametrize(
    ("line", "met"),
    [
        pytest.param({"ours": 1.0, "theirs": 14.0, "target": 14.0}, True, id="ratio reached"),
        pytest.param({"ours": 1.0, "theirs": 13.9, "target": 14.0}, False, id="ratio missed"),
        pytest.param({"ours": 1.07, "theirs": 3.0, "target": 1.07, "limit": True}, True, id="within the limit"),
        pytest.param({"ours": 1.08, "theirs": 3.0, "target": 1.07, "limit": True}, False, id="beyond the limit"),
        pytest.param({"ours": None, "theirs": 3.0, "target": 1.07}, None, id="not measured"),
        pytest.param({"ours": 1.0, "theirs": 3.0}, None, id="without target"),
    ],
)
def test_a_target_is_a_least_ratio_or_a_limit(benchmarks, line, met):
    assert benchmarks.Line("a job", **line).met is met
