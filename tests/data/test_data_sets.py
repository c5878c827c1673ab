"""Every data set from a stand-in archive in its provider's layout to pairs that ``datalist`` lists."""

import gzip
import hashlib
import io
import json
import logging
import runpy
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from monai.apps import DecathlonDataset
from PIL import Image

from overtile.data import SOURCES, ArchiveError, FetchError, LoadImagesd, datalist, get_data_set
from overtile.data.sources import Archive

SCRIPT = Path(__file__).parents[2] / "scripts" / "get_data.py"
RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 256, (30, 16, 12), np.uint8)
MEMBRANES = np.where(RANDOM.random((30, 16, 12)) < 0.8, 255, 0).astype(np.uint8)
MASK = np.array([[1, 1, 2, 2, 0, 1], [1, 1, 2, 2, 0, 1]], np.uint8)  # two nuclei that touch; the 1 again, elsewhere


def tif(pixels):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    return file.getvalue()


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def lzw(stack):
    """As ImageJ's users may have saved it; tifffile alone cannot read it."""
    file = io.BytesIO()
    first, *others = (Image.fromarray(page) for page in stack)
    first.save(file, "TIFF", compression="tiff_lzw", save_all=True, append_images=others)
    return file.getvalue()


def nii(volume):
    return gzip.compress(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())


def isbi2012():
    stacks = {"train-volume": tif(STACK), "train-labels": lzw(MEMBRANES)}
    stacks |= {"test-volume": tif(STACK[::-1]), "test-labels": tif(MEMBRANES[::-1])}
    return [{f"ISBI-2012-challenge/{name}.tif": content for name, content in stacks.items()}]


def cell_tracking(name):
    frames = {f"{name}/{run}/t{i:03}.tif": tif(STACK[i]) for run in ("01", "02") for i in range(6)}
    truth = {f"{name}/{run}_GT/SEG/man_seg{i:03}.tif": tif(STACK[i]) for run in ("01", "02") for i in (1, 3)}
    return [frames | truth | {f"{name}/01_GT/TRA/man_track.txt": b"1 0 5 0"}]


def hippocampus():
    names = [f"hippocampus_{i:03}.nii.gz" for i in range(5)]
    content = {f"Task04_Hippocampus/imagesTr/{name}": nii(np.ones((4, 5, 6), np.float32)) for name in names}
    content |= {f"Task04_Hippocampus/labelsTr/{name}": nii(np.ones((4, 5, 6), np.uint8)) for name in names}
    content |= {f"Task04_Hippocampus/imagesTr/._{name}": b"Mac OS X" for name in names}
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    listed = {"training": training, "test": ["./imagesTs/hippocampus_002.nii.gz"]}
    return [content | {"Task04_Hippocampus/dataset.json": json.dumps(listed).encode()}]


def bbbc039():
    names = {"training": ["A_1", "A_2"], "validation": ["B_1"], "test": ["C_1"]}
    every = [name for section in names.values() for name in section]
    colours = np.stack([MASK, 0 * MASK, 0 * MASK, 255 + 0 * MASK], axis=-1)
    return [
        {f"images/{name}.tif": tif(MASK.astype(np.uint16)) for name in every},
        {f"masks/{name}.png": png(colours) for name in every} | {"__MACOSX/masks/._A_1.png": b"Mac OS X"},
        {
            f"metadata/{section}.txt": "".join(f"{name}.png\n" for name in some).encode()
            for section, some in names.items()
        },
    ]


def usiigaci():
    content = {"Usiigaci-master/README.md": b"# Usiigaci", "Usiigaci-master/Demo/val/T98G.gif": b"GIF"}
    for folder in ("train/set1", "train/set10", "val/set46"):
        root = f"Usiigaci-master/Mask R-CNN/{folder}"
        content |= {f"{root}/raw.tif": tif(STACK[0].astype(np.uint16)), f"{root}/instances_ids.png": png(STACK[0])}
        content |= {f"{root}/labeled.png": b"not needed", f"{root}/RoiSet.zip": b"not needed"}
    return [content]


STAND_INS = {
    "isbi2012": isbi2012,
    "dic_hela": lambda: cell_tracking("DIC-C2DH-HeLa"),
    "phc_u373": lambda: cell_tracking("PhC-C2DH-U373"),
    "hippocampus": hippocampus,
    "bbbc039": bbbc039,
    "usiigaci": usiigaci,
}


def write_archives(name, folder, contents=None):
    """Stand-ins for the files a data set comes in, under the provider's names."""
    files = []
    for archive, content in zip(SOURCES[name].archives, contents or STAND_INS[name](), strict=True):
        files.append(folder / archive.name)
        if archive.name.endswith(".tar"):
            with tarfile.open(files[-1], "w") as tar:
                for path, data in content.items():
                    info = tarfile.TarInfo(path)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        else:
            with zipfile.ZipFile(files[-1], "w") as packed:
                for path, data in content.items():
                    packed.writestr(path, data)
    return files


def source_of(name, files, host=None):
    """The source with the checksums of the stand-ins, and their addresses on ``host``."""
    archives = []
    for archive, file in zip(SOURCES[name].archives, files, strict=True):
        md5 = archive.md5 and hashlib.md5(file.read_bytes()).hexdigest()
        archives.append(replace(archive, md5=md5, url=f"{host}/{file.name}" if host else archive.url))
    return replace(SOURCES[name], archives=tuple(archives))


@pytest.fixture
def provider(tmp_path, monkeypatch):
    """An address under which the files of a folder can be got, the folder, and what was asked for."""
    monkeypatch.setenv("no_proxy", "*")
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "provider")

        def log_message(self, _, *details):
            asked.append(details[0])

    (tmp_path / "provider").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path / "provider", asked
    server.shutdown()
    server.server_close()


def relative(pairs, root):
    return [tuple(Path(path).relative_to(root).as_posix() for path in pair.values()) for pair in pairs]


@pytest.mark.parametrize(
    ("name", "training", "validation", "example"),
    [
        ("isbi2012", 24, 6, ("training/images/slice00.tif", "training/labels/slice00.tif")),
        ("dic_hela", 3, 1, ("01/t001.tif", "01_GT/SEG/man_seg001.tif")),
        ("phc_u373", 3, 1, ("01/t001.tif", "01_GT/SEG/man_seg001.tif")),
        ("hippocampus", 4, 1, ("imagesTr/hippocampus_000.nii.gz", "labelsTr/hippocampus_000.nii.gz")),
        ("bbbc039", 2, 1, ("training/images/A_1.tif", "training/labels/A_1.tif")),
        ("usiigaci", 2, 1, ("training/images/set01.tif", "training/labels/set01.tif")),
    ],
)
def test_every_data_set_is_laid_out_as_datalist_reads_it(tmp_path, name, training, validation, example):
    files = write_archives(name, tmp_path)
    folder = get_data_set(source_of(name, files), tmp_path / "data", files)
    assert folder == tmp_path / "data" / SOURCES[name].folder
    pairs = {section: datalist(folder, section) for section in ("training", "validation")}
    assert {section: len(some) for section, some in pairs.items()} == {"training": training, "validation": validation}
    assert example in relative(pairs["training"] + pairs["validation"], folder)
    loaded = LoadImagesd(["image", "label"], spatial_dims=3 if name == "hippocampus" else 2)(pairs["training"][0])
    assert loaded["image"].shape == loaded["label"].shape
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]


def test_the_slices_of_the_membranes_are_those_of_the_stacks(tmp_path):
    folder = get_data_set(SOURCES["isbi2012"], tmp_path / "data", write_archives("isbi2012", tmp_path))
    held_out = [Path(pair["image"]).stem for pair in datalist(folder, "validation")]
    assert held_out == ["slice12", "slice13", "slice14", "slice27", "slice28", "slice29"]
    for section in ("training", "validation", "test"):
        for pair in datalist(folder, section):
            number = int(Path(pair["image"]).stem.removeprefix("slice"))
            number = 29 - number if section == "test" else number
            assert np.array_equal(tifffile.imread(pair["image"]), STACK[number])
            assert np.array_equal(tifffile.imread(pair["label"]), MEMBRANES[number])


@pytest.mark.parametrize("labels", [None, STACK], ids=["absent", "no two values"])
def test_the_second_stack_may_lack_labels(tmp_path, labels, caplog):
    content = isbi2012()[0]
    del content["ISBI-2012-challenge/test-labels.tif"]
    if labels is not None:
        content["ISBI-2012-challenge/test-labels.tif"] = tif(labels)
    folder = get_data_set(SOURCES["isbi2012"], tmp_path / "data", write_archives("isbi2012", tmp_path, [content]))
    assert len(datalist(folder, "test", require_labels=False)) == 30
    assert not (folder / "test" / "labels").exists()
    assert "laid out without labels" in caplog.text


def test_nuclei_that_touch_and_nuclei_of_one_value_are_told_apart(tmp_path):
    folder = get_data_set(SOURCES["bbbc039"], tmp_path / "data", write_archives("bbbc039", tmp_path))
    label = tifffile.imread(datalist(folder, "test")[0]["label"])
    assert label.tolist() == [[1, 1, 2, 2, 0, 3], [1, 1, 2, 2, 0, 3]]
    assert relative(datalist(folder, "test"), folder) == [("test/images/C_1.tif", "test/labels/C_1.tif")]


def test_a_download_is_laid_out_once_and_not_asked_for_again(tmp_path, provider, caplog):
    host, place, asked = provider
    source = source_of("bbbc039", write_archives("bbbc039", place), host)
    with caplog.at_level(logging.INFO):
        folder = get_data_set(source, tmp_path / "data")
        assert asked == [f"GET /{name}.zip HTTP/1.1" for name in ("images", "masks", "metadata")]
        assert "licence: CC0" in caplog.text
        assert caplog.text.index("licence") < caplog.text.index("images.zip: ")
        assert get_data_set(source, tmp_path / "data") == folder
        assert f"{folder} is there already: 2 labelled images to train and 1 to validate" in caplog.text
    assert len(asked) == 3


def test_what_is_downloaded_already_is_used(tmp_path, provider):
    host, place, asked = provider
    source = source_of("hippocampus", write_archives("hippocampus", place), host)
    folder = get_data_set(source, tmp_path / "data")
    folder.rename(tmp_path / "moved away")
    assert get_data_set(source, tmp_path / "data").is_dir()
    assert len(asked) == 1


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    (tmp_path / "data" / ".isbi2012.unfinished" / "unpacked" / "ISBI-2012-challenge").mkdir(parents=True)
    folder = get_data_set(SOURCES["isbi2012"], tmp_path / "data", write_archives("isbi2012", tmp_path))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]


MISSING = {
    "isbi2012": ("train-labels.tif", r"train-labels\.tif is expected once, but found 0 times"),
    "dic_hela": ("02_GT", r"DIC-C2DH-HeLa of the archive lacks 02_GT/SEG/man_seg\*\.tif"),
    "hippocampus": ("labelsTr", r"Task04_Hippocampus of the archive lacks labelsTr/\*\.nii\.gz"),
    "bbbc039": (
        "masks/A_2",
        r"A_2\.png is expected once, but found 0 times; the archives hold images/images/A_1\.tif, ",
    ),
    "usiigaci": ("set10/raw", r"set10 of the archive lacks raw\.tif"),
}


@pytest.mark.parametrize(("name", "gone", "message"), [(name, *case) for name, case in MISSING.items()], ids=MISSING)
def test_what_an_archive_lacks_is_named_and_nothing_is_left(tmp_path, name, gone, message):
    contents = [{path: data for path, data in part.items() if gone not in path} for part in STAND_INS[name]()]
    files = write_archives(name, tmp_path, contents)
    with pytest.raises(ArchiveError, match=message):
        get_data_set(source_of(name, files), tmp_path / "data", files)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("images", [STACK, STACK[:29]], ids=["labels", "both"])
def test_stacks_of_other_sizes_are_refused(tmp_path, images):
    content = isbi2012()[0]
    content["ISBI-2012-challenge/train-volume.tif"] = tif(images)
    content["ISBI-2012-challenge/train-labels.tif"] = tif(MEMBRANES[:29])
    with pytest.raises(ArchiveError, match=rf"images of \({len(images)}, 16, 12\) and labels of \(29, 16, 12\) with 2"):
        get_data_set(SOURCES["isbi2012"], tmp_path / "data", write_archives("isbi2012", tmp_path, [content]))


def test_another_folder_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "isbi2012").mkdir()
    (tmp_path / "isbi2012" / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists, but is not this data set: .* move it away, or choose another"):
        get_data_set(SOURCES["isbi2012"], tmp_path)
    assert (tmp_path / "isbi2012" / "diary.txt").read_text() == "mine"


def test_a_given_file_with_a_wrong_checksum_is_refused_and_kept(tmp_path):
    files = write_archives("hippocampus", tmp_path)
    with pytest.raises(FetchError, match="must be 9d24dba78a72977dbd1d2e110310f31b, but is"):
        get_data_set(SOURCES["hippocampus"], tmp_path / "data", files)
    assert files[0].exists()


def test_given_files_are_recognised_by_their_names(tmp_path):
    images, masks, metadata = write_archives("bbbc039", tmp_path)
    with pytest.raises(ValueError, match=r"BBBC039 comes in images\.zip, masks\.zip, metadata\.zip; got .*masks\.zip"):
        get_data_set(SOURCES["bbbc039"], tmp_path / "data", [masks])
    with pytest.raises(FileNotFoundError, match="there is no file"):
        get_data_set(SOURCES["bbbc039"], tmp_path / "data", [metadata, images, tmp_path / "elsewhere" / "masks.zip"])
    assert get_data_set(SOURCES["bbbc039"], tmp_path / "data", [metadata, images, masks]).is_dir()


def test_the_hippocampus_is_the_file_that_monai_downloads():
    archive = SOURCES["hippocampus"].archives[0]
    assert archive.url == DecathlonDataset.resource["Task04_Hippocampus"]
    assert archive.md5 == DecathlonDataset.md5["Task04_Hippocampus"]


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_has_encrypted_addresses_terms_and_limits(source):
    assert all(source.licence and text for text in (source.cite, source.page, source.content))
    assert all(archive.url.startswith("https://") for archive in source.archives)
    assert all(0 < archive.limits.bytes <= 4e9 and archive.limits.members <= 20_000 for archive in source.archives)
    assert len({archive.name for archive in source.archives}) == len(source.archives)


def test_the_name_of_an_archive_is_the_one_a_browser_saves_it_under():
    assert Archive("https://host/a/cells.zip?download=1#top", SOURCES["bbbc039"].archives[0].limits).name == "cells.zip"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the script in an empty folder; returns its exit status, and what it wrote to both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return run


def test_the_command_gets_a_data_set_and_says_how_to_use_it(tmp_path, command):
    files = write_archives("bbbc039", tmp_path)
    status, output, _ = command("bbbc039", *(word for file in files for word in ("--archive", file.name)))
    assert status == 0
    assert output.splitlines()[-1] == f"use it with --dataset_dir {tmp_path / 'data' / 'BBBC039'}"


def test_the_command_names_the_data_sets(command):
    status, output, _ = command("--list")
    assert status == 0
    assert [name for name in SOURCES if f"\n{name} " in f"\n{output}"] == list(SOURCES)
    assert "CC BY-SA 4.0" in output
    assert command()[0] == 2
    assert command("mitosis")[0] == 2


def test_the_command_explains_errors_in_a_line(tmp_path, command):
    (tmp_path / "page.zip").write_text("<html>")
    status, _, errors = command("isbi2012", "--archive", "page.zip")
    assert status == 1
    assert errors.startswith("isbi2012: ")
    assert "neither a zip nor a tar file" in errors


def test_an_interruption_is_no_error_and_says_that_it_goes_on(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("overtile.data.get_data_set", interrupted)
    assert command("isbi2012") == (130, "", "interrupted; the same command goes on from here\n")
