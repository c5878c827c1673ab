"""Archives from the net, unpacked so that they can write nowhere else and not more than they may."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

BLOCK = 2**20
FILE, FOLDER = "file", "folder"
TAR_KINDS = {tarfile.REGTYPE: FILE, tarfile.AREGTYPE: FILE, tarfile.CONTTYPE: FILE, tarfile.DIRTYPE: FOLDER}
TAR_KINDS |= {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link"}
ZIP_KINDS = {0: FILE, stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: "symbolic link"}  # 0: made without one
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class ArchiveError(ValueError):
    """An archive that is damaged, hostile, or not the one it should be."""


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to: so many bytes in so many members."""

    bytes: int
    members: int


@dataclass(frozen=True)
class Member:
    """An entry of an archive, as it states itself."""

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, limits: Limits, wanted: str = ".*") -> None:
    """Write the files of a zip or tar archive into a new folder, or, on any error, nothing.

    Only names, folders and bytes are taken over: no links, no permissions, no owners. Hidden files and the
    ``__MACOSX`` folder are left out. (``tarfile``'s own filter lets links within the folder pass and knows no limits.)

    Args:
        archive: a zip file or a tar file, the latter compressed or not.
        folder: must not exist yet.
        limits: hold for the sizes the archive states, of all members, and again for the bytes that come out.
        wanted: pattern that a member's whole path must match; the others are passed over.

    Raises:
        ArchiveError: the archive is damaged or neither zip nor tar; a member has a path that is absolute or leads
            upward, is a link or a device, or exists twice; there is more of it than ``limits`` allow.
        FileExistsError: there is a ``folder``.
    """
    folder.mkdir(parents=True)
    try:
        with _members(archive) as members:
            _write(members, folder, limits, re.compile(wanted))
    except DAMAGED as error:
        shutil.rmtree(folder)
        raise ArchiveError(f"{archive} is damaged ({error}); remove it and get it again") from error
    except ArchiveError as error:
        shutil.rmtree(folder)
        raise ArchiveError(f"{archive} is refused, nothing of it was kept: {error}") from error
    except BaseException:
        shutil.rmtree(folder)
        raise


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    """The entries of an archive, one after the other, while it is open."""
    if tarfile.is_tarfile(archive):  # asked first: a tar file that ends with a zip file passes for a zip file
        with tarfile.open(archive) as tar:
            yield (_tar_member(tar, info) for info in tar)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield (_zip_member(opened, info) for info in opened.infolist())
    else:
        with archive.open("rb") as content:
            start = content.read(16)
        raise ArchiveError(
            f"it is neither a zip nor a tar file (it begins with {start!r}): perhaps a download that broke off, or a "
            "web page instead of the file; remove it and get it again"
        )


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = FOLDER if info.is_dir() else ZIP_KINDS.get(stat.S_IFMT(info.external_attr >> 16), "device")
    if info.flag_bits & 1:
        kind = "password-protected file"
    return Member(info.filename, kind, info.file_size, lambda: archive.open(info))


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind = "sparse file" if info.issparse() else TAR_KINDS.get(info.type, "device")
    return Member(info.name, kind, info.size, lambda: cast("IO[bytes]", archive.extractfile(info)))


def _write(members: Iterator[Member], folder: Path, limits: Limits, wanted: re.Pattern[str]) -> None:
    """Check and write the members; what a member states is checked before it is read."""
    stated = written = 0
    for count, member in enumerate(members, start=1):
        stated += member.size
        if count > limits.members or stated > limits.bytes:
            raise ArchiveError(_beyond(limits))
        path = _path_inside(member.name)
        junk = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if member.kind == FOLDER or junk or not wanted.fullmatch(path.as_posix()):
            continue  # folders are made for the files in them
        if member.kind != FILE:
            raise ArchiveError(f"{member.name!r} is a {member.kind}, and only files and folders are unpacked")
        written += _copy(member, folder / path, limits, written)


def _copy(member: Member, file: Path, limits: Limits, before: int) -> int:
    """Write one member and return its size; ``before`` bytes are written already."""
    written = 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as content, file.open("xb") as output:
            while block := content.read(BLOCK):
                written += len(block)
                if before + written > limits.bytes:
                    raise ArchiveError(_beyond(limits))
                output.write(block)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"two of its members want the path {member.name!r}") from error
    return written


def _path_inside(name: str) -> PurePosixPath:
    """A member's path relative to the folder it is unpacked to.

    Raises:
        ArchiveError: the path is absolute, leads upward, or has characters that mean something else on some systems.

    Examples:
        >>> _path_inside("./train/set1/raw.tif")
        PurePosixPath('train/set1/raw.tif')
    """
    parts = name.replace("\\", "/").split("/")  # a path on Windows, and written by some programs there
    if parts[0] == "":
        raise ArchiveError(f"the path {name!r} is absolute")
    if ".." in parts:
        raise ArchiveError(f"the path {name!r} leads upward")
    if re.search(r"[:\x00-\x1f]", name):  # drives and streams on Windows; control characters
        raise ArchiveError(f"the path {name!r} has characters that no path should have")
    return PurePosixPath(*parts)


def _beyond(limits: Limits) -> str:
    return (
        f"it unpacks to more than {limits.bytes / 1e6:.0f} MB or {limits.members} members, the limits declared for it"
    )
