"""Sizes along one axis: what valid convolutions take away, and which inputs no pooling cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Padding = Literal["valid", "same"]


def margin(levels: int, convs: int = 2, kernel: int = 3) -> int:
    """Voxels that valid convolutions take from each side of one axis.

    Every level loses ``convs * (kernel // 2)`` of its own voxels per pass, and one voxel of
    level ``i`` is ``2**i`` voxels of the image; each level but the lowest is passed twice.

    Args:
        levels: number of 2x down-samplings; 4 in Ronneberger 2015 (2D), 3 in Cicek 2016 (3D).
        convs: convolutions per level and pass.
        kernel: their odd size.

    Examples:
        >>> margin(levels=4)  # 572 - 2 * 92 = 388, Fig. 1 of arXiv:1505.04597
        92
        >>> margin(levels=3)  # 132 - 2 * 44 = 44, Fig. 2 of arXiv:1606.06650
        44
    """
    per_pass = convs * (kernel // 2)
    return per_pass * (3 * (1 << levels) - 2)


@dataclass(frozen=True)
class Geometry:
    """How a U-Net's output relates to its input along one axis: the one thing a tiling must know.

    A *valid* network answers for its input less ``margin`` voxels on each side. A *same*-padded network answers
    for all of its input; there ``margin`` is the context that the inferer reads within the image and throws away (a
    halo). A network of *one size* takes inputs of ``tile`` voxels and no others; so a tile at the border of the image
    is filled up by mirroring, whatever the padding. Every public size of this project is one that this class calls
    legal.

    Args:
        levels: number of 2x down-samplings, at least 0.
        padding: ``"valid"`` as in the papers, or ``"same"``.
        margin: voxels of context on each side; by default what the valid network of as many levels loses,
            and for ``"same"`` the next multiple of ``2**levels`` that holds its whole receptive field
            (107 voxels to one side for four levels, so 112). A valid network without a pooling grid (levels 0) may have
            any other: what it loses.
        tile: the only input size that the network takes, as transformers with an embedding of each place; else None.

    Raises:
        ValueError: if ``levels`` or ``margin`` is negative, or the margin of a same-padded network is no multiple of
            ``2**levels`` (its tiles would then lie on another pooling grid than the whole image), or ``tile`` is no
            legal input or has less than ``2**levels`` voxels between its margins.

    Examples:
        >>> paper = Geometry(levels=4)
        >>> paper.output_size(572), paper.input_size(388), paper.margin
        (388, 572, 92)
        >>> Geometry(levels=3).output_size(132), Geometry(levels=3).output_size(116)
        (44, 28)
        >>> transformer = Geometry(levels=0, padding="same", margin=28, tile=224)
        >>> transformer.input_size(500), transformer.window_size(100), transformer.stride(100)
        (224, 224, 168)
        >>> paper.output_size(570)
        Traceback (most recent call last):
        ...
        ValueError: input size 570 is not one that this network passes without losing voxels in a pooling; \
the nearest are 556 and 572
    """

    levels: int = 4
    padding: Padding = "valid"
    margin: int = -1
    tile: int | None = None

    def __post_init__(self) -> None:
        if self.levels < 0:
            raise ValueError(f"levels must be 0 or more, got {self.levels}")
        if self.padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', got {self.padding!r}")
        natural = margin(self.levels)
        if self.padding == "same":
            natural = self._round_up(natural + 2**self.levels - 1)
        if self.margin == -1:
            object.__setattr__(self, "margin", natural)
        elif self.margin < 0:
            raise ValueError(f"margin must be 0 or more voxels, got {self.margin}")
        elif self.padding == "same" and self.margin % self.step:
            raise ValueError(
                f"the margin of a same-padded network with {self.levels} levels must be a multiple of {self.step}, "
                f"got {self.margin}"
            )
        elif self.padding == "valid" and self.levels > 0 and self.margin != natural:
            raise ValueError(f"a valid network with {self.levels} levels loses {natural} voxels, not {self.margin}")
        smallest = self._round_up(2 * self.margin + self.step)
        if self.tile is not None and (self.tile < smallest or self.tile != self._round_up(self.tile)):
            raise ValueError(
                f"a tile with {self.levels} levels and margins of {self.margin} voxels must have {smallest} voxels, or "
                f"a multiple of {self.step} more, got {self.tile}"
            )

    @property
    def step(self) -> int:
        """Spacing of the pooling grid in voxels, ``2**levels``: legal sizes and tile corners lie on it."""
        return 1 << self.levels

    @property
    def loss(self) -> int:
        """Voxels by which the network's output is smaller than its input on each side: 0 for a same-padded one."""
        return self.margin if self.padding == "valid" else 0

    @property
    def smallest_input(self) -> int:
        """Smallest legal input of one pass: 188 for the 2D paper (output 4), 92 for the 3D paper (output 4)."""
        return self.step if self.padding == "same" and self.tile is None else self.input_size(1)

    @property
    def _residue(self) -> int:
        """Remainder of legal inputs on the pooling grid: every level adds 4 of its voxels to twice the level below."""
        return 0 if self.padding == "same" else 4 * (self.step - 1) % self.step

    def _round_up(self, size: int) -> int:
        """The next size on the grid of legal inputs."""
        return size + (self._residue - size) % self.step

    def is_legal_input(self, size: int) -> bool:
        """Whether a pass over ``size`` voxels cuts none in a pooling and leaves at least one."""
        if self.tile is not None:
            return size == self.tile
        return size >= self.smallest_input and size == self._round_up(size)

    def output_size(self, input_size: int) -> int:
        """Size of the network's output for one input size.

        Raises:
            ValueError: if a pooling would lose voxels, or the network does not take this size; names legal sizes.
        """
        if self.tile is not None and input_size != self.tile:
            raise ValueError(f"this network takes inputs of {self.tile} voxels only, got {input_size}: use such tiles")
        if not self.is_legal_input(input_size):
            below = input_size - (input_size - self._residue) % self.step
            nearest = [size for size in (below, below + self.step) if size >= self.smallest_input]
            raise ValueError(
                f"input size {input_size} is not one that this network passes without losing voxels in a pooling; "
                f"the nearest are {' and '.join(map(str, nearest or [self.smallest_input]))}"
            )
        return input_size - 2 * self.loss

    def input_size(self, output_size: int) -> int:
        """Smallest legal input whose output, less the halo of a same-padded network, holds ``output_size`` voxels.

        For a network of one size it is that, whatever is wanted.
        """
        if output_size < 1:
            raise ValueError(f"an output has at least one voxel per axis, got {output_size}")
        return self.tile or self._round_up(output_size + 2 * self.margin)

    def window_size(self, output_size: int) -> int:
        """Smallest legal write window of at least ``output_size`` voxels: what a training window should have.

        For a network of one size it is all that it answers, whatever is wanted.

        Examples:
            >>> Geometry(levels=4).window_size(388), Geometry(levels=4).window_size(200)
            (388, 212)
        """
        return self.input_size(output_size) - 2 * (self.margin if self.tile is None else self.loss)

    def read_window(self, start: int, output_size: int, size: int) -> slice:
        """What a tile reads of an image axis of ``size`` voxels to answer for ``output_size`` of them from ``start``.

        The margin of a valid network may lie outside the image, and so may that of a network of one size. Any other
        same-padded network pads at the border of the image as it learnt to at that of its training windows: there the
        tile ends, but for what is missing to a legal size (and to two steps, for networks that pad by mirroring).

        Examples:
            >>> Geometry(levels=3).read_window(0, 44, size=100)
            slice(-44, 88, None)
            >>> Geometry(levels=3, padding="same").read_window(0, 40, size=100)
            slice(0, 96, None)
            >>> Geometry(levels=3, padding="same").read_window(0, 40, size=35)
            slice(0, 40, None)
        """
        first = start - self.margin
        last = first + self.input_size(output_size)
        if self.padding == "valid" or self.tile is not None:
            return slice(first, last)
        return slice(max(first, 0), min(last, max(self._round_up(size), 2 * self.step)))

    def stride(self, output_size: int) -> int:
        """Largest distance between tiles that keeps every one on the pooling grid of the whole image.

        Outputs of the 2D network are 4 mod 16, so tiles that abut at 388 are not identical to one pass: 384 are.
        """
        return max((self.input_size(output_size) - 2 * self.margin) // self.step, 1) * self.step
