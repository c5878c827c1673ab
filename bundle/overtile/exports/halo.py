"""A network whose tiles other programs put together without a seam."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from overtile.geometry import Geometry


class WithHalo(nn.Module):
    """A network that answers at the size of its input, less a halo that the caller crops on each side.

    Programs that tile images know two numbers of a network: the step of its input sizes, and a halo, by which tiles
    overlap and answers are cropped. They do not know outputs that are smaller than inputs. So the answer of a valid
    network is put back where it belongs, between zeros::

        input    |0 -- lead --|------------------------------ size|
        network               |.loss.|===== answer =====|.loss.|
        output   |0 --------- 0|====== answer ========= |0 --- 0|     as large as the input
        kept     |--- halo ---|======================|--- halo ---|

    ``halo`` is the network's margin, rounded up to a multiple of ``2**levels``; sizes are such multiples too, and
    ``lead`` voxels in front are left out. So a tile whose kept part begins at a multiple of ``2**levels`` lies on the
    pooling grid on which :class:`overtile.inferers.OverlapTileInferer` lays its own, and answers the same.

    Args:
        network: any that takes (B, C, *spatial) and returns (B, K, *spatial) of a size as ``geometry`` says; scripted,
            traced or not.
        geometry: of the network; by default its ``geometry`` attribute.
        reverse_axes: the network was trained on (x, y) or (x, y, z), as MONAI's loaders hand images over, and is now
            called with (y, x) or (z, y, x).

    Raises:
        ValueError: for a network without a geometry where none is given, or one that takes one size only.

    Examples:
        >>> from overtile.networks import UNet
        >>> paper = WithHalo(UNet(levels=4, features=1).eval())
        >>> paper.halo, paper.step, paper.smallest_input  # a margin of 92
        (96, 16, 208)
        >>> tuple(paper(torch.rand(1, 1, 208, 224)).shape)
        (1, 2, 208, 224)
    """

    def __init__(
        self,
        network: nn.Module,
        geometry: Geometry | None = None,
        reverse_axes: bool = False,
    ) -> None:
        super().__init__()
        known = geometry if geometry is not None else getattr(network, "geometry", None)
        if not isinstance(known, Geometry):
            raise ValueError("the network does not say what it does to sizes; give geometry=Geometry(levels, padding)")
        if known.tile is not None:
            raise ValueError(
                f"this network takes tiles of {known.tile} voxels only, and other programs choose sizes of their own: "
                "export one that takes more sizes"
            )
        self.network = network
        self.reverse_axes = reverse_axes
        self.step = known.step
        self.halo = -(-known.margin // known.step) * known.step
        self.smallest_input = 2 * self.halo + self.step
        self.loss = known.loss
        self.lead = self.halo - known.loss if known.loss else 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, *spatial) for (B, C, *spatial) of sizes ``smallest_input + n * step``."""
        if self.reverse_axes:
            image = image.transpose(2, -1)  # (y, x) to (x, y), and (z, y, x) to (x, y, z)
        for axis in range(2, image.dim()):
            image = image.narrow(axis, self.lead, image.size(axis) - self.lead)
        logits: torch.Tensor = self.network(image)
        if self.loss:
            logits = F.pad(logits, [self.halo, self.loss] * (image.dim() - 2))
        return logits.transpose(2, -1) if self.reverse_axes else logits
