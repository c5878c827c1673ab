"""Data sets, image files and their formats."""

from overtile.data.datalist import datalist
from overtile.data.folders import image_files
from overtile.data.loading import LoadImagesd
from overtile.data.samples import sample_folder
from overtile.data.tiff_reader import TiffReader
from overtile.data.tiff_writer import TiffWriter

__all__ = ["LoadImagesd", "TiffReader", "TiffWriter", "datalist", "image_files", "sample_folder"]
