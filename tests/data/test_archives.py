"""Archives made here, kind and hostile ones; after every refusal the folder above must be as it was."""

import io
import re
import stat
import struct
import tarfile
import zipfile

import pytest

from overtile.data import ArchiveError, archives
from overtile.data.archives import Limits, Member, _write, unpack

LIMITS = Limits(bytes=100_000, members=10)


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def make_tar(path, members, mode="w"):
    """Members are names and contents, or ``TarInfo`` without contents."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(kind, target=""):
    info = tarfile.TarInfo("set1/evil.tif")
    info.type, info.linkname = kind, target
    return info


def zip_special(mode):
    info = zipfile.ZipInfo("set1/evil.tif")
    info.create_system, info.external_attr = 3, mode << 16
    return info


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GOOD = [("top/a.tif", b"a" * 1000), ("top/inner/b.tif", b""), ("./top/inner/c.txt", b"c")]
UNPACKED = {"top/a.tif": b"a" * 1000, "top/inner/b.tif": b"", "top/inner/c.txt": b"c"}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_zip(path, [("top/", b""), *GOOD]),
        lambda path: make_zip(path, GOOD, zipfile.ZIP_STORED),
        lambda path: make_tar(path, [(special(tarfile.DIRTYPE), b""), *GOOD]),
        lambda path: make_tar(path, GOOD, "w:gz"),
    ],
    ids=["zip", "stored zip", "tar", "tar.gz"],
)
def test_the_files_come_out_as_they_went_in(tmp_path, make):
    unpack(make(tmp_path / "archive"), tmp_path / "new" / "folder", LIMITS)
    assert contents(tmp_path / "new" / "folder") == UNPACKED


def test_a_tar_file_that_ends_with_a_zip_file_is_a_tar_file(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", [("x", b"x")]).read_bytes()
    unpack(make_tar(tmp_path / "outer.tar", [("rois.zip", inner)]), tmp_path / "out", LIMITS)
    assert contents(tmp_path / "out") == {"rois.zip": inner}


def test_permissions_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("a.tif")
    info.mode = 0o4777
    unpack(make_tar(tmp_path / "a.tar", [(info, b"a")]), tmp_path / "out", LIMITS)
    assert stat.S_IMODE((tmp_path / "out" / "a.tif").stat().st_mode) & 0o4111 == 0


def test_hidden_files_and_those_not_wanted_stay_in_the_archive(tmp_path):
    members = [
        ("t/._a.tif", b"1"),
        ("__MACOSX/t/a.tif", b"2"),
        (".DS_Store", b"3"),
        ("t/a.tif", b"4"),
        ("t/a.md", b"5"),
    ]
    link = zip_special(stat.S_IFLNK | 0o777)
    unpack(make_zip(tmp_path / "a.zip", [*members, (link, "/etc")]), tmp_path / "out", LIMITS, wanted=r"t/.*\.tif")
    assert contents(tmp_path / "out") == {"t/a.tif": b"4"}


HOSTILE = {
    "upward": (("../evil.tif", b"x"), "leads upward"),
    "upward inside": (("set1/../../evil.tif", b"x"), "leads upward"),
    "upward on Windows": (("set1\\..\\..\\evil.tif", b"x"), "leads upward"),
    "absolute": (("/tmp/evil.tif", b"x"), "is absolute"),
    "absolute on Windows": (("\\evil.tif", b"x"), "is absolute"),
    "drive": (("C:/evil.tif", b"x"), "characters"),
    "stream": (("set1/a.tif:evil", b"x"), "characters"),
    "twice": (("first.tif", b"x"), "two of its members want the path 'first.tif'"),
    "file as folder": (("first.tif/evil.tif", b"x"), "two of its members want the path"),
    "large": (("set1/a.tif", bytes(100_000)), "more than 0 MB or 10 members"),
}
HOSTILE_ZIP = {
    "symbolic link": ((zip_special(stat.S_IFLNK | 0o777), "/etc"), "'set1/evil.tif' is a symbolic link"),
    "device": ((zip_special(stat.S_IFCHR | 0o666), ""), "is a device"),
    "pipe": ((zip_special(stat.S_IFIFO | 0o666), ""), "is a device"),
}
HOSTILE_TAR = {
    "symbolic link": ((special(tarfile.SYMTYPE, "/etc"), b""), "'set1/evil.tif' is a symbolic link"),
    "link inside": ((special(tarfile.SYMTYPE, "../first.tif"), b""), "is a symbolic link"),
    "hard link": ((special(tarfile.LNKTYPE, "first.tif"), b""), "is a hard link"),
    "device": ((special(tarfile.CHRTYPE), b""), "is a device"),
    "block device": ((special(tarfile.BLKTYPE), b""), "is a device"),
    "pipe": ((special(tarfile.FIFOTYPE), b""), "is a device"),
}
CASES = [
    *(pytest.param(make_zip, *case, id=f"zip {name}") for name, case in (HOSTILE | HOSTILE_ZIP).items()),
    *(pytest.param(make_tar, *case, id=f"tar {name}") for name, case in (HOSTILE | HOSTILE_TAR).items()),
]


@pytest.mark.parametrize(("make", "member", "message"), CASES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, make, member, message):
    archive = make(tmp_path / "archive", [("first.tif", b"good"), member])
    before = contents(tmp_path)
    with pytest.raises(ArchiveError, match=f"is refused, nothing of it was kept: .*{message}"):
        unpack(archive, tmp_path / "out", LIMITS)
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_too_many_members_are_refused(tmp_path):
    with pytest.raises(ArchiveError, match="10 members"):
        unpack(make_zip(tmp_path / "a.zip", [(f"{i}.tif", b"") for i in range(11)]), tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_by_the_size_it_states_before_it_is_unpacked(tmp_path, monkeypatch):
    bomb = make_zip(tmp_path / "a.zip", [("a.tif", bytes(10**7))])
    assert bomb.stat().st_size < LIMITS.bytes
    monkeypatch.setattr(archives, "_copy", None)  # to call it is an error
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        unpack(bomb, tmp_path / "out", LIMITS)


def test_the_limit_holds_for_all_members_together(tmp_path):
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        unpack(make_zip(tmp_path / "a.zip", [(f"{i}.tif", bytes(50_000)) for i in range(3)]), tmp_path / "out", LIMITS)


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path):
    """Both headers of the member state 10 bytes of the 10 MB."""
    bomb = make_zip(tmp_path / "a.zip", [("a.tif", bytes(10**7))])
    true, lie = struct.pack("<I", 10**7), struct.pack("<I", 10)
    assert bomb.read_bytes().count(true) == 2
    bomb.write_bytes(bomb.read_bytes().replace(true, lie))
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(bomb, tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_a_sparse_file_is_refused(tmp_path):
    """GNU tar: 512 bytes in the archive that claim to be a file of 50 kB."""
    info = tarfile.TarInfo("a.tif")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % 0
    header[483:495] = b"%011o\0" % 50_000
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ArchiveError, match=r"'a\.tif' is a sparse file"):
        unpack(tmp_path / "a.tar", tmp_path / "out", LIMITS)


@pytest.mark.parametrize("true_size", [10**7, 40_000], ids=["one", "all together"])
def test_the_limit_holds_for_what_comes_out_whatever_was_stated(tmp_path, true_size):
    members = [Member(f"{i}.tif", "file", 10, lambda: io.BytesIO(bytes(true_size))) for i in range(3)]
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        _write(iter(members), tmp_path, LIMITS, re.compile(".*"))
    assert sum(len(content) for content in contents(tmp_path).values()) <= LIMITS.bytes


def test_damaged_archives_are_called_so(tmp_path):
    damaged = bytearray(make_zip(tmp_path / "a.zip", GOOD, zipfile.ZIP_STORED).read_bytes())
    damaged[100] ^= 1
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(ArchiveError, match=r"a\.zip is damaged \(Bad CRC-32 .* remove it and get it again"):
        unpack(tmp_path / "a.zip", tmp_path / "out", LIMITS)
    tar = make_tar(tmp_path / "a.tar", [("a.tif", bytes(9000))])
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(ArchiveError, match=r"a\.tar is damaged \(unexpected end of data\)"):
        unpack(tar, tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_encrypted_members_are_refused(tmp_path):
    """The bit that says so, in both headers of the member."""
    content = bytearray(make_zip(tmp_path / "a.zip", [("a.tif", b"x")]).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="is a password-protected file"):
        unpack(tmp_path / "a.zip", tmp_path / "out", LIMITS)


def test_a_web_page_is_no_archive(tmp_path):
    (tmp_path / "a.zip").write_text("<!DOCTYPE html><html>Please log in</html>")
    with pytest.raises(ArchiveError, match=r"neither a zip nor a tar file \(it begins with b'<!DOCTYPE html>"):
        unpack(tmp_path / "a.zip", tmp_path / "out", LIMITS)


def test_a_folder_that_exists_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(FileExistsError):
        unpack(make_zip(tmp_path / "a.zip", GOOD), tmp_path / "out", LIMITS)
    assert (tmp_path / "out" / "mine").exists()
