"""Gets a public data set, laid out for training: ``python scripts/get_data.py isbi2012``; ``--list`` names them all."""

import argparse
import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "bundle"))  # an installed copy wins

from overtile.data import SOURCES, FetchError, get_data_set


def main() -> int:
    """Read the command line, get the data set, and say how to go on; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", choices=SOURCES, help="the data set")
    parser.add_argument("--folder", default="data", help="where data sets are kept (default: data)")
    archive = "the provider's file, where you have it already; once for each where there are several"
    parser.add_argument("--archive", action="append", default=[], metavar="FILE", help=archive)
    parser.add_argument("--list", action="store_true", help="name the data sets and their licences")
    options = parser.parse_args()
    if options.list or options.name is None:
        for name, source in SOURCES.items():
            print(f"{name:12} {source.content}\n{'':12} {source.page}\n{'':12} licence: {source.licence}")
        return 0 if options.list else 2
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folder = get_data_set(SOURCES[options.name], options.folder, options.archive)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (FetchError, ValueError, OSError) as error:
        print(f"{options.name}: {error}", file=sys.stderr)
        return 1
    print(f"use it with --dataset_dir {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
