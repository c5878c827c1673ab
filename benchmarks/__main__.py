"""The one command: measures the rows, keeps them in a JSON file after each, and writes the table."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from benchmarks import elastic, growth, inference, pipeline, weight_map
from benchmarks.machine import ROOT, describe_machine
from benchmarks.plot import plot_growth
from benchmarks.rows import Curve, record
from benchmarks.table import write_table

ROWS = {**elastic.ROWS, **weight_map.ROWS, **inference.ROWS, **pipeline.ROWS, **growth.ROWS}
FOLDER = ROOT / "output" / "benchmarks"
logger = logging.getLogger("benchmarks")


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--rows",
        nargs="*",
        choices=ROWS,
        metavar="ROW",
        help=f"of {' '.join(ROWS)}; none: write the table",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--output", type=Path, help="Markdown file; default docs/performance.md")
    parser.add_argument("--results", type=Path, help="JSON file with the raw figures; default in output/benchmarks")
    arguments = parser.parse_args()
    name = "quick" if arguments.quick else "results"
    output: Path = arguments.output or (FOLDER / "quick.md" if arguments.quick else ROOT / "docs" / "performance.md")
    results: Path = arguments.results or FOLDER / f"{name}.json"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    measure(list(ROWS) if arguments.rows is None else arguments.rows, arguments.quick, output, results)


def measure(rows: list[str], quick: bool, output: Path, results: Path) -> None:
    """Measures rows and merges them into those already in ``results``, so that a run can be continued or repeated.

    Args:
        rows: their names.
        quick: small sizes.
        output: Markdown file with the table; the plot goes into ``images`` beside it.
        results: JSON file.
    """
    machine = describe_machine()
    records: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    results.parent.mkdir(parents=True, exist_ok=True)
    for name in rows:
        logger.info("%s: %s", name, ROWS[name].title)
        records[name] = record(ROWS[name], quick, machine)
        logger.info("%s took %.0f s %s", name, records[name]["took"], records[name]["error"])
        results.write_text(json.dumps(records, indent=1), encoding="utf-8")
    ordered = {name: records[name] for name in ROWS if name in records}
    curves = [Curve(**curve) for record in ordered.values() for curve in record["curves"]]
    if curves:
        try:
            plot_growth(curves, output.parent / "images" / "growth.png")
        except ImportError as error:
            logger.warning("no plot: %s", error)
    write_table(ordered, output)
    logger.info("table: %s", output)


if __name__ == "__main__":
    main()
