"""Scores as files: for a program and for a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overtile.reports.rendering import Score


def write_json(
    file: Path,
    scores: Mapping[str, Score],
    images: Sequence[Mapping[str, Any]],
    headline: Mapping[str, Any] | None = None,
) -> None:
    """Writes ``{"scores": {...}, "images": [{"image": name, ...}, ...]}``; null where there is no score.

    Args:
        file: to be written.
        scores: of all images together.
        images: name, scores and whatever else is known of every image.
        headline: which of the scores comes first, and what is known of it; written as ``"headline"``.
    """
    content = {"scores": dict(scores), "images": [dict(image) for image in images]}
    if headline is not None:
        content = {"headline": dict(headline), **content}
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(file: Path, scores: Mapping[str, Score], images: Sequence[Mapping[str, Any]]) -> None:
    """Writes a row per image and a last one, ``all``, for all of them together; empty where there is no score.

    Args:
        file: to be written.
        scores: of all images together.
        images: ``"image"``, a name, and scores of every image, the same columns in each; some of ``scores`` may not
            be known of single images.
    """
    columns = [name for name in dict.fromkeys([*(images[0] if images else ()), *scores]) if name != "image"]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["image", *columns], extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*images, {"image": "all", **scores}])
