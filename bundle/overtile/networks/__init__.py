"""Networks: the U-Net of 2015 and its 3D successor."""

from overtile.networks.streaming import can_stream, stream
from overtile.networks.unet import UNet
from overtile.networks.wrappers import unwrapped

__all__ = ["UNet", "can_stream", "stream", "unwrapped"]
