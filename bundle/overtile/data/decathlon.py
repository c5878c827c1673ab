"""The layout of the Medical Segmentation Decathlon: imagesTr, labelsTr, imagesTs, with or without its lists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from overtile.data.folders import image_stem, images_by_stem, some_names
from overtile.data.layouts import Ask, Found, Pairs, match, two_folders


def decathlon(root: Path, ask: Ask) -> Found | None:
    """Pairs after ``dataset.json`` where there is one, else by name; split after ``split.json`` where there is one.

    ``split.json`` holds names without suffix: ``{"training": ["liver_0", ...], "validation": [...]}``.
    """
    if not (root / "imagesTr").is_dir():
        return None
    if ask.section == "test":
        return Found(_test_images(root, ask))
    listed, split = _json(root / "dataset.json"), _json(root / "split.json")
    if listed.get("validation") and not split:
        return Found(_listed(root, ask.section, listed.get(ask.section), ask))
    if "training" in listed:
        pairs = _listed(root, "training", listed["training"], ask)
    else:
        pairs = two_folders(root, "imagesTr", "labelsTr", ask)
    return Found(_named(pairs, split, ask, root / "split.json")) if split else Found(pairs, whole=True)


def _test_images(root: Path, ask: Ask) -> Pairs:
    """The images to predict; the challenge keeps their labels."""
    images = images_by_stem(root / "imagesTs")
    folder = root / "labelsTs"
    without = Ask(ask.section, require_labels=False)
    return match(images, images_by_stem(folder) if folder.is_dir() else {}, without, where=str(folder))


def _listed(root: Path, section: str, entries: object, ask: Ask) -> Pairs:
    """Pairs of one list of ``dataset.json``, with paths relative to the root."""
    images, labels = {}, {}
    file = root / "dataset.json"
    for entry in cast("Sequence[object]", entries if isinstance(entries, list) else [entries]):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise ValueError(f'{file}: {section!r} must be a list of {{"image": path, "label": path}}, got {entry!r}')
        name = image_stem(Path(entry["image"]).name)
        images[name] = root / entry["image"]
        if isinstance(entry.get("label"), str):
            labels[name] = root / entry["label"]
    missing = [str(path) for path in (*images.values(), *labels.values()) if not path.is_file()]
    if missing or not images:
        what = f"files that do not exist: {some_names(missing)}" if missing else "no image"
        raise FileNotFoundError(f"{file} lists under {section!r} {what}; add the files or correct the list")
    return match(images, labels, ask, where=str(file))


def _named(pairs: Pairs, split: dict[str, object], ask: Ask, file: Path) -> Pairs:
    """The pairs that ``split.json`` names for the section."""
    names = split.get(ask.section)
    if not isinstance(names, list) or not names:
        raise ValueError(f"{file} needs a list of image names under {ask.section!r}, got {names!r}")
    stems = sorted({image_stem(str(name)) for name in names})
    unknown = [stem for stem in stems if stem not in pairs]
    if unknown:
        raise ValueError(f"{file} names images that are not in imagesTr: {some_names(unknown)}; correct the list")
    return {stem: pairs[stem] for stem in stems}


def _json(file: Path) -> dict[str, object]:
    """The object a JSON file holds; an empty one where there is no such file."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}; correct or remove it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold an object with 'training', got a {type(content).__name__}")
    return content
