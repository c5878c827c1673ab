"""Image files of a folder, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = (
    *(".ome.tif", ".ome.tiff", ".nii.gz"),  # the double ones first: the longest suffix is the suffix
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".nii", ".mha", ".mhd", ".nrrd"),
)

NAMED_AT_MOST = 5  # files an error message names


def image_suffix(name: str) -> str:
    """The image suffix a file name ends with, in lower case; empty where it has none.

    Examples:
        >>> image_suffix("brain.NII.GZ"), image_suffix("notes.txt")
        ('.nii.gz', '')
    """
    return next((suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), "")


def image_stem(name: str) -> str:
    """A file's name without its image suffix: what an image and its label share.

    Examples:
        >>> image_stem("brain.v2.nii.gz")
        'brain.v2'
    """
    return name[: len(name) - len(image_suffix(name))]


def absolute(path: str | os.PathLike[str]) -> Path:
    """``path`` from the file system's root, with ``~`` filled in and links kept."""
    return Path(path).expanduser().absolute()


def some_names(names: Iterable[str]) -> str:
    """Up to five names for an error message, and how many more there are.

    Examples:
        >>> some_names("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - NAMED_AT_MOST} more" if len(listed) > NAMED_AT_MOST else ""
    return ", ".join(listed[:NAMED_AT_MOST]) + more


def has_images(folder: Path) -> bool:
    """Whether ``folder`` is a folder with at least one image file directly in it."""
    return folder.is_dir() and any(_is_image(path) for path in folder.iterdir())


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The image files directly in ``folder`` by stem, sorted; hidden and other files are passed over.

    Raises:
        FileNotFoundError: ``folder`` does not exist or holds no image.
        ValueError: two images share a stem, so that a label could belong to either.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; check the path (given relative to {Path.cwd()}?)")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_image(path):
            continue
        stem = image_stem(path.name)
        if stem in found:
            raise ValueError(
                f"names without suffix must be unique in a folder, but {folder} holds both {found[stem].name} "
                f"and {path.name}; rename or remove one"
            )
        found[stem] = path
    if not found:
        raise FileNotFoundError(f"folder {folder} holds no image; the formats read are {' '.join(IMAGE_SUFFIXES)}")
    return dict(sorted(found.items()))


def image_files(folder_or_file: str | os.PathLike[str], recursive: bool = False) -> list[str]:
    """Absolute paths of the images to predict: one file, or all images of a folder sorted by path.

    Args:
        folder_or_file: an image file, or a folder of them.
        recursive: descend into sub-folders too; hidden ones are passed over.

    Raises:
        FileNotFoundError: the path does not exist, or holds no image.
        ValueError: the file's suffix is not one that is read, or two images of one folder share a stem
            (their results would be written to one file).
    """
    path = absolute(folder_or_file)
    if path.is_file():
        if not image_suffix(path.name):
            raise ValueError(
                f"{path} is not an image file by its suffix; the formats read are {' '.join(IMAGE_SUFFIXES)}"
            )
        return [str(path)]
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}; check the path (given relative to {Path.cwd()}?)")
    if not recursive:
        return [str(image) for image in images_by_stem(path).values()]
    folders = sorted({image.parent for image in path.rglob("*") if _is_image(image) and not _is_hidden(image, path)})
    if not folders:
        raise FileNotFoundError(f"folder {path} and those below hold no image; read are {' '.join(IMAGE_SUFFIXES)}")
    return [str(image) for folder in folders for image in images_by_stem(folder).values()]


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and image_suffix(path.name) != "" and path.is_file()


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
