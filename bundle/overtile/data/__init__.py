"""Data sets, image files and their formats."""

from overtile.data.archives import ArchiveError
from overtile.data.data_sets import get_data_set
from overtile.data.datalist import datalist
from overtile.data.fetching import FetchError
from overtile.data.folders import image_files
from overtile.data.loading import LoadImagesd
from overtile.data.samples import sample_folder
from overtile.data.sources import SOURCES, Source
from overtile.data.tiff_reader import TiffReader
from overtile.data.tiff_writer import TiffWriter

__all__ = [
    "SOURCES",
    "ArchiveError",
    "FetchError",
    "LoadImagesd",
    "Source",
    "TiffReader",
    "TiffWriter",
    "datalist",
    "get_data_set",
    "image_files",
    "sample_folder",
]
