"""What computes a network's answers: PyTorch itself, in other memory layouts or compiled, or another runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
from torch import nn

from overtile.exports import write_onnx
from overtile.geometry import Geometry
from overtile.networks import unwrapped

Backend = Literal["eager", "channels_last", "inductor", "openvino", "onnxruntime"]
Precision = Literal["float32", "bfloat16", "float16"]
Pass = Callable[[torch.Tensor], torch.Tensor]

PACKAGES = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx")}  # the extras of pyproject.toml


def with_backend(network: nn.Module, backend: Backend = "eager", precision: Precision = "float32") -> nn.Module:
    """The network for inference on a backend: to be called like it, with a tile (B, C, *spatial), for its logits.

    Works for any module that takes one tensor, 2D or 3D, and returns one. The backend is prepared on the first tile:
    until then weights may be loaded and the module moved to another device. **Weights that change afterwards are not
    seen** by inductor, openvino and onnxruntime. Tiles of all sizes share what was prepared. There are no gradients.

    ==================  ==========================================================================================
    ``"eager"``         PyTorch as it is; in float32 this is the network itself
    ``"channels_last"`` PyTorch with the channels innermost in memory
    ``"inductor"``      ``torch.compile``; needs a C++ compiler, and takes a minute for the first tile
    ``"openvino"``      Intel's runtime, on the CPU; ``pip install "overtile[openvino]"``
    ``"onnxruntime"``   on the CPU, in float32 only; ``pip install "overtile[onnxruntime]"``
    ==================  ==========================================================================================

    Figures for each are in docs/performance.md. Installing OpenVINO installs Intel's telemetry too; its command
    ``opt_in_out --opt_out`` turns that off.

    Args:
        network: in evaluation mode; a (data-)parallel wrapper is taken off.
        backend: one of the above.
        precision: of the arithmetic where that is safe (``torch.autocast``); logits keep the tile's dtype. On CUDA,
            convolutions in float32 use TF32 unless ``torch.backends.cudnn.allow_tf32`` is set to False.

    Raises:
        ValueError: for an unknown backend or precision; on a tile, for a network in training mode, or of a size that
            does not fit the network's ``geometry``.
        ImportError: without the packages of the backend.

    Examples:
        >>> from overtile.networks import UNet
        >>> network = UNet(levels=2, features=4).eval()
        >>> image = torch.rand(1, 1, 60, 44)
        >>> bool(torch.allclose(with_backend(network, "channels_last")(image), network(image), atol=1e-5))
        True
    """
    for option, value, known in (
        ("backend", backend, get_args(Backend)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in known:
            raise ValueError(f"{option} must be one of {', '.join(map(repr, known))}, got {value!r}")
    if backend == "onnxruntime" and precision != "float32":
        raise ValueError(f"backend 'onnxruntime' computes in float32 only, got precision {precision!r}")
    for package in PACKAGES.get(backend, ()):
        _package(package, backend)
    if (backend, precision) == ("eager", "float32"):
        return network
    return _Executed(unwrapped(network), backend, precision)


class _Executed(nn.Module):
    """A network, ``module``, whose passes a backend computes."""

    def __init__(self, network: nn.Module, backend: Backend, precision: Precision) -> None:
        super().__init__()
        self.module = network  # the name that data-parallel wrappers use: see overtile.networks.unwrapped
        self.training = network.training
        self.backend = backend
        self.precision = precision
        self.geometry = getattr(network, "geometry", None)
        self._passes: Pass | None = None

    @torch.no_grad()
    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        if self.module.training:
            raise ValueError(f"backend {self.backend!r} is for inference: call eval() on the network first")
        if isinstance(self.geometry, Geometry):
            for size in tile.shape[2:]:  # compiled networks do not check it themselves
                self.geometry.output_size(size)
        if self._passes is None:
            self._passes = _BACKENDS[self.backend](self.module, tile, self.precision)
        return self._passes(tile).to(tile)


def _eager(network: Pass, _example: torch.Tensor, precision: Precision) -> Pass:
    if precision == "float32":
        return network

    def run(tile: torch.Tensor) -> torch.Tensor:
        with torch.autocast(tile.device.type, dtype=getattr(torch, precision)):
            return network(tile)

    return run


def _channels_last(network: nn.Module, example: torch.Tensor, precision: Precision) -> Pass:
    run = _eager(network, example, precision)
    layout = torch.channels_last if example.ndim == 4 else torch.channels_last_3d
    # a copy, since contiguous() leaves a tile of one channel as it is; the weights need no conversion
    return lambda tile: run(tile.clone(memory_format=layout))


def _inductor(network: nn.Module, example: torch.Tensor, precision: Precision) -> Pass:
    # dynamic: else every size of tile would be compiled anew, a minute each
    compiled = torch.compile(network, dynamic=True, options={"freezing": example.device.type == "cpu"})
    run = _eager(compiled, example, precision)
    return lambda tile: run(tile.contiguous())


def _openvino(network: nn.Module, example: torch.Tensor, precision: Precision) -> Pass:
    openvino = _package("openvino", "openvino")
    shape = [-1, example.shape[1], *[-1] * (example.ndim - 2)]
    with _traced():
        model = openvino.convert_model(network, example_input=example, input=[(shape, openvino.Type.f32)])
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.compile_model(model, "CPU", hints)
    return lambda tile: torch.from_numpy(compiled(tile.contiguous().cpu().numpy())[0].copy())


def _onnxruntime(network: nn.Module, example: torch.Tensor, _precision: Precision) -> Pass:
    onnxruntime = _package("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        model = Path(folder, "network.onnx")
        write_onnx(network, example, model, image="tile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda tile: torch.from_numpy(session.run(None, {"tile": tile.cpu().numpy()})[0])


_BACKENDS: dict[Backend, Callable[[nn.Module, torch.Tensor, Precision], Pass]] = {
    "eager": _eager,
    "channels_last": _channels_last,
    "inductor": _inductor,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}


@contextmanager
def _traced() -> Iterator[None]:
    """Silences what tracing says of sizes, which stay dynamic, and what PyTorch says of its tracing exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _package(name: str, backend: str) -> Any:
    """A module that is imported on use: it is an extra."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f'backend {backend!r} needs the package {name}: pip install "overtile[{backend}]"') from error
