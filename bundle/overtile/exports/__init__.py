"""Networks for other programs: TorchScript, ONNX, and packages for Fiji, ilastik, QuPath and others (bioimage.io)."""

from overtile.exports.bioimageio import write_package
from overtile.exports.formats import write_onnx, write_torchscript
from overtile.exports.halo import WithHalo
from overtile.exports.model_card import ModelCard, TrainingData

__all__ = ["ModelCard", "TrainingData", "WithHalo", "write_onnx", "write_package", "write_torchscript"]
