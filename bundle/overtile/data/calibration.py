"""The voxel size a TIFF file states: in OME-XML, in ImageJ's description, or in the resolution tags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

import tifffile

MICROMETRES = {  # one unit in micrometres; lower case, with both Unicode letters for micro and ImageJ's escaped one
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **{"pm": 1e-6, "å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6},
    **dict.fromkeys(("inch", "in"), 25400.0),
}
RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # tag 296; 1 is none
SCREEN_DPI = (72, 96)  # written by programs that know no pixel size; ImageJ passes over 72 likewise


@dataclass(frozen=True)
class Calibration:
    """Voxel size along x, y, z; in micrometres, or relative to the pixel width where no unit is known."""

    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "pixel"


def calibration(tif: tifffile.TiffFile) -> Calibration:
    """The voxel size of an open file: OME-XML before ImageJ's description before the resolution tags.

    Where a file is silent on z, ImageJ means 1 unit; other files are taken to be isotropic.
    """
    if tif.is_ome and tif.ome_metadata:
        return _from_ome(tif.ome_metadata) or _from_tags(tif)
    if tif.is_imagej and tif.imagej_metadata is not None:
        return _from_imagej(tif, tif.imagej_metadata)
    return _from_tags(tif)


def _from_ome(xml: str) -> Calibration | None:
    """PhysicalSizeX, -Y and -Z of the first image; None where it has none in a unit of length."""
    try:
        pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    except ElementTree.ParseError:
        return None
    if pixels is None:
        return None
    x, y, z = (
        _positive(pixels.get(f"PhysicalSize{axis}"))
        * MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower(), math.nan)
        for axis in "XYZ"
    )
    if math.isnan(x):
        return None
    return Calibration((x, x if math.isnan(y) else y, x if math.isnan(z) else z), "um")


def _from_imagej(tif: tifffile.TiffFile, stated: Mapping[str, object]) -> Calibration:
    """Resolution tags in the unit of the description, ``spacing`` along z."""
    factor = MICROMETRES.get(str(stated.get("unit", "")).strip().lower(), math.nan)
    x, y = _pixel_size(tif)
    z = _positive(stated.get("spacing"))
    if math.isnan(factor):  # no unit: what remains is the ratio of the sides
        plain = _from_tags(tif)
        if plain.unit != "pixel":
            return plain
        return Calibration((1.0, plain.spacing[1], 1.0 if math.isnan(z) else z / (1.0 if math.isnan(x) else x)))
    x = 1.0 if math.isnan(x) else x
    y = x if math.isnan(y) else y
    z = 1.0 if math.isnan(z) else z
    return Calibration((x * factor, y * factor, z * factor), "um")


def _from_tags(tif: tifffile.TiffFile) -> Calibration:
    """Resolution tags in inch or centimetre; 1 and the resolutions of a screen are no calibration."""
    x, y = _pixel_size(tif)
    if math.isnan(x) or math.isnan(y):
        return Calibration()
    tag = tif.pages.first.tags.get("ResolutionUnit")
    unit = RESOLUTION_UNITS.get(int(tag.value) if tag is not None else 2, "")  # TIFF 6.0: inch where not stated
    if not unit or x == 1 or (unit == "inch" and round(1 / x, 3) in SCREEN_DPI):
        return Calibration((1.0, y / x, 1.0))
    factor = MICROMETRES[unit]
    return Calibration((x * factor, y * factor, x * factor), "um")


def _pixel_size(tif: tifffile.TiffFile) -> tuple[float, float]:
    """One over XResolution and YResolution; NaN where a tag is missing or makes no sense."""
    sizes = []
    for name in ("XResolution", "YResolution"):
        tag = tif.pages.first.tags.get(name)
        pixels, units = tag.value if tag is not None else (0, 0)
        sizes.append(units / pixels if pixels and units else math.nan)
    return sizes[0], sizes[1]


def _positive(stated: object) -> float:
    """A stated length without its sign (ImageJ writes -2 for a stack taken downwards); NaN where it is none."""
    try:
        length = abs(float(str(stated)))
    except ValueError:
        return math.nan
    return length if 0 < length < math.inf else math.nan
