"""The U-Net of Ronneberger, Fischer and Brox (2015) and its 3D successor (Cicek 2016) for MONAI.

A training sample and an inference tile are one thing here: a window to read, mirrored outside the image,
and a window to write (see :mod:`overtile.geometry`).
"""

__version__ = "0.4.0"
