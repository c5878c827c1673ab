"""Inference: the overlap-tile strategy of the paper as a MONAI inferer."""

from overtile.inferers.backends import with_backend
from overtile.inferers.memory import activation_bytes
from overtile.inferers.overlap_tile import OverlapTileInferer
from overtile.inferers.symmetries import Symmetry, symmetries

__all__ = ["OverlapTileInferer", "Symmetry", "activation_bytes", "symmetries", "with_backend"]
