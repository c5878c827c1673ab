"""A public data set with one call: fetched, checked, unpacked and laid out."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from overtile.data.archives import unpack
from overtile.data.datalist import datalist
from overtile.data.fetching import check_md5, fetch
from overtile.data.folders import absolute
from overtile.data.sources import Source

logger = logging.getLogger(__name__)


def get_data_set(
    source: Source, folder: str | os.PathLike[str] = "data", archives: Sequence[str | os.PathLike[str]] = ()
) -> Path:
    """The folder of a public data set, ready for ``datalist``; what is done already is not done again.

    The provider's archives are kept in ``<folder>/downloads``. The data set appears as a whole or not at all.

    Args:
        source: one of ``SOURCES``.
        folder: where data sets are kept.
        archives: the provider's files, where they are downloaded already; where there are several, under the
            provider's names.

    Returns:
        ``<folder>/<source.folder>``.

    Raises:
        FetchError: a download cannot succeed now, or a checksum is wrong.
        ArchiveError: an archive is damaged, hostile, or not what it should be.
        FileExistsError: the data set's folder is taken by something else.
        ValueError: ``archives`` are not the files this data set comes in.
    """
    target = absolute(folder) / source.folder
    if target.exists():
        logger.info("%s is there already: %s", target, _contents_of_existing(target))
        return target
    logger.info("%s\n  source:  %s\n  licence: %s\n  cite:    %s", *_description(source))
    files = _given(source, archives) if archives else _fetched(source, target.parent / "downloads" / source.folder)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    try:
        for archive, file in zip(source.archives, files, strict=True):
            logger.info("unpacking %s", file)
            unpack(file, unfinished / "unpacked" / Path(archive.name).stem, archive.limits, archive.wanted)
        source.arrange(unfinished / "unpacked", unfinished / "arranged")
        contents = _contents(unfinished / "arranged")
        (unfinished / "arranged").rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    logger.info("%s: %s", target, contents)
    return target


def _fetched(source: Source, folder: Path) -> list[Path]:
    files = [fetch(archive.url, folder / archive.name, archive.md5) for archive in source.archives]
    logger.info("%s keeps what was downloaded; it may be deleted once the data set is laid out", folder)
    return files


def _given(source: Source, archives: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The user's files in the order of the source's archives, with the right checksums."""
    files = [absolute(path) for path in archives]
    if len(source.archives) > 1:
        by_name = {file.name: file for file in files}
        files = [by_name[archive.name] for archive in source.archives if archive.name in by_name]
    if len(files) != len(source.archives) or len(archives) != len(files):
        wanted = ", ".join(archive.name for archive in source.archives)
        raise ValueError(f"{source.folder} comes in {wanted}; got {', '.join(map(str, archives))}")
    for archive, file in zip(source.archives, files, strict=True):
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}; check the path (given relative to {Path.cwd()}?)")
        check_md5(file, archive.md5)
    return files


def _contents(folder: Path) -> str:
    """What ``datalist`` finds in a folder, in words."""
    training, validation = (len(datalist(folder, section)) for section in ("training", "validation"))
    return f"{training} labelled images to train and {validation} to validate"


def _contents_of_existing(folder: Path) -> str:
    try:
        return _contents(folder)
    except (ValueError, OSError) as error:
        raise FileExistsError(
            f"{folder} exists, but is not this data set: {error}; move it away, or choose another folder"
        ) from error


def _description(source: Source) -> tuple[str, str, str, str]:
    addresses = ", ".join(archive.url for archive in source.archives)
    return f"{source.folder}: {source.content}", f"{source.page} ({addresses})", source.licence, source.cite
