"""Networks: the U-Net of 2015 and its 3D successor, architectures that came of it, and those it was set against."""

from overtile.networks.encoder_weights import load_encoder
from overtile.networks.fcn import FCN
from overtile.networks.fixed_size import fixed_geometry
from overtile.networks.multiresunet import MultiResUNet
from overtile.networks.patch_classifier import PatchClassifier
from overtile.networks.streaming import can_stream, stream
from overtile.networks.swin_unet import SwinUNet
from overtile.networks.transunet import TransUNet
from overtile.networks.unet import UNet
from overtile.networks.wrappers import unwrapped

__all__ = [
    "FCN",
    "MultiResUNet",
    "PatchClassifier",
    "SwinUNet",
    "TransUNet",
    "UNet",
    "can_stream",
    "fixed_geometry",
    "load_encoder",
    "stream",
    "unwrapped",
]
