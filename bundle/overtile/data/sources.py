"""Public data sets: where their providers keep them, under which licence, and what to expect of their archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from overtile.data import arranging
from overtile.data.archives import Limits

MB = 10**6


@dataclass(frozen=True)
class Archive:
    """One file of a provider.

    Attributes:
        url: its address.
        limits: what it may unpack to: several times what it does.
        md5: its checksum; None where the provider publishes none.
        wanted: pattern of the paths that are needed of it.
    """

    url: str
    limits: Limits
    md5: str | None = None
    wanted: str = ".*"

    @property
    def name(self) -> str:
        """The file's name, under which a browser saves it too."""
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True)
class Source:
    """A data set, as its provider offers it.

    Attributes:
        folder: what the laid-out folder is called.
        content: what is to be seen in it.
        page: where the provider describes it.
        licence: the terms of use, in short; the provider's page is what holds.
        cite: whom to cite.
        archives: the files it comes in.
        arrange: from the folder with the unpacked archives to the one that ``datalist`` reads.
    """

    folder: str
    content: str
    page: str
    licence: str
    cite: str
    archives: tuple[Archive, ...]
    arrange: Callable[[Path, Path], None]


def _tracking(name: str, content: str) -> Source:
    """A data set of the Cell Tracking Challenge, under its name there."""
    address = f"https://data.celltrackingchallenge.net/training-datasets/{name}.zip"
    return Source(
        folder=name,
        content=content,
        page="http://celltrackingchallenge.net/datasets/",
        licence="free for work on the challenge; other scientific use: ask the data's providers; commercial use: ask "
        "the organizers too (Conditions of use of the images, on the page above)",
        cite="Maška et al. 2023, Nature Methods 20:1010 (10.1038/s41592-023-01879-y)",
        archives=(Archive(address, Limits(2000 * MB, 5000)),),
        arrange=arranging.cell_tracking,
    )


_BBBC039 = "https://data.broadinstitute.org/bbbc/BBBC039/"

SOURCES = {
    "isbi2012": Source(
        folder="isbi2012",
        content="neuronal membranes, serial-section electron microscopy, 30 + 30 slices of 512x512",
        page="https://imagej.net/events/isbi-2012-segmentation-challenge",
        licence="non-commercial research",
        cite="Cardona et al. 2010 (10.1371/journal.pbio.1000502); Arganda-Carreras et al. 2015, Front Neuroanat 9:142",
        archives=(Archive("https://downloads.imagej.net/ISBI-2012-challenge.zip", Limits(300 * MB, 100)),),
        arrange=arranging.isbi2012,
    ),
    "dic_hela": _tracking(
        "DIC-C2DH-HeLa",
        "HeLa cells, differential interference contrast, 2 x 84 frames of 512x512, few of them annotated",
    ),
    "phc_u373": _tracking(
        "PhC-C2DH-U373",
        "glioblastoma-astrocytoma cells, phase contrast, 2 x 115 frames of 520x696, few of them annotated",
    ),
    "hippocampus": Source(
        folder="Task04_Hippocampus",
        content="anterior and posterior hippocampus, MRI, 260 labelled volumes of about 35x50x36",
        page="http://medicaldecathlon.com",
        licence="CC BY-SA 4.0",
        cite="Simpson et al. 2019 (arXiv:1902.09063)",
        archives=(
            Archive(  # address and checksum: monai.apps.DecathlonDataset
                "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
                Limits(500 * MB, 5000),
                md5="9d24dba78a72977dbd1d2e110310f31b",
            ),
        ),
        arrange=arranging.decathlon,
    ),
    "bbbc039": Source(
        folder="BBBC039",
        content="nuclei of U2OS cells, fluorescence (Hoechst), 200 images of 520x696, 16 bit",
        page="https://bbbc.broadinstitute.org/BBBC039",
        licence="CC0",
        cite="Caicedo et al. 2019 (10.1002/cyto.a.23863); Ljosa et al. 2012 (10.1038/nmeth.2083)",
        archives=(
            Archive(f"{_BBBC039}images.zip", Limits(1000 * MB, 1000)),
            Archive(f"{_BBBC039}masks.zip", Limits(500 * MB, 1000)),
            Archive(f"{_BBBC039}metadata.zip", Limits(10 * MB, 100)),
        ),
        arrange=arranging.bbbc039,
    ),
    "usiigaci": Source(
        folder="Usiigaci",
        content="T98G cells, phase contrast, 50 images of 1022x1024, 16 bit",
        page="https://github.com/oist/Usiigaci",
        licence="MIT, (c) 2018 Okinawa Institute of Science and Technology",
        cite="Tsai et al. 2019, SoftwareX 9 (10.1016/j.softx.2019.02.007)",
        archives=(
            Archive(  # the data are a folder of the program's repository
                "https://github.com/oist/Usiigaci/archive/refs/heads/master.zip",
                Limits(4000 * MB, 20000),
                wanted=r"[^/]+/Mask R-CNN/(train|val)/set\d+/(raw\.tif|instances_ids\.png)",
            ),
        ),
        arrange=arranging.usiigaci,
    ),
}
