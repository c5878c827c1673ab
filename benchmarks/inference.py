"""Rows C and D: one pass of the network, and the passes that an image costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from monai.inferers import sliding_window_inference
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rows import Line, Result, Row, compare, line
from benchmarks.timing import Contender, Job, interleaved
from overtile.geometry import Geometry
from overtile.inferers import OverlapTileInferer, with_backend
from overtile.networks import PatchClassifier, UNet

Backend = Literal["eager", "channels_last", "openvino", "onnxruntime"]
Infer = Callable[[torch.Tensor, UNet], object]
BACKENDS: dict[Backend, str] = {  # inductor compiles for minutes
    "eager": "torch",
    "channels_last": "torch",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
}
ROI = 512  # of MONAI's sliding window
PATCHES = 256  # of the sliding window that are timed, for all of an image
CICEK_TILE = (132, 132, 116)  # of arXiv:1606.06650, Fig. 2


def paper_network(features: int = 64, padding: str = "valid") -> UNet:
    """The network of 2015, or one as deep with fewer features or same-padded."""
    return UNet(features=features, padding=padding).eval()  # type: ignore[arg-type]


def cicek_network(padding: str = "valid") -> UNet:
    """The network of 2016, for one channel and two classes."""
    return UNet(3, 1, 2, levels=3, features=32, padding=padding, double_before_pool=True).eval()  # type: ignore[arg-type]


def _forward(backend: Backend, package: str, size: int, width: int) -> Contender:
    """One pass on a backend; compiling it is not counted."""

    def prepare() -> Job:
        torch.manual_seed(0)
        network = with_backend(paper_network(width), backend)
        image = torch.rand(1, 1, size, size)

        def job() -> object:
            with torch.no_grad():
                return network(image)

        return job

    return Contender(backend, package, prepare)


def _pass(quick: bool) -> Result:
    """C1; the target is for the fastest backend."""
    size, width = (188, 8) if quick else (572, 64)
    ways = [_forward(backend, package, size, width) for backend, package in BACKENDS.items()]
    eager, *others = interleaved(ways, rounds=3)
    what = f"{size}², {width} features, backend "
    lines = [line(what + way.label, took, ways[0].label, eager) for way, took in zip(ways[1:], others, strict=True)]
    fastest = max(range(len(lines)), key=lambda place: lines[place].ratio or 0)
    lines[fastest] = replace(lines[fastest], target=1.25)
    return Result(lines)


def flops(infer: Infer, make: Callable[[], UNet], shape: Sequence[int]) -> int:
    """Operations that the inference of an image takes: it really runs, on PyTorch's device for shapes only."""
    image = torch.empty((1, 1, *shape), device="meta")
    with torch.device("meta"):
        network = make()
    with torch.no_grad():
        infer(image, network)  # the inferer estimates the memory of a pass on the same device, once
        with FlopCounterMode(display=False) as counter:
            infer(image, network)
    return int(counter.get_total_flops())


def sliding_window(overlap: float) -> Infer:
    """MONAI's, window by window, blended by a Gaussian."""

    def infer(image: torch.Tensor, network: UNet) -> object:
        return sliding_window_inference(image, ROI, 1, network, overlap=overlap, mode="gaussian")

    return infer


def _one_pass(image: torch.Tensor, network: UNet) -> object:
    return network(image)


def _windows(image: torch.Tensor, network: UNet, overlap: float, roi: int) -> None:
    """The passes of MONAI's sliding window, without its blending, which does not run on the device for shapes."""
    shapes: list[torch.Size] = []

    def note(window: torch.Tensor) -> torch.Tensor:
        shapes.append(window.shape)
        return window

    sliding_window_inference(torch.empty(image.shape), roi, 1, note, overlap=overlap)
    for shape in shapes:
        network(torch.empty(shape, device="meta"))


def _redundancy_2d(quick: bool) -> Result:
    size = 1024 if quick else 2048
    same = partial(paper_network, padding="same")
    whole = flops(_one_pass, same, (size, size))
    windows = {
        overlap: flops(partial(_windows, overlap=overlap, roi=ROI), same, (size, size)) for overlap in (0.5, 0.25)
    }
    lines = []
    for gibibytes, target in ((4.0, 1.25), (1.5, 1.07)):
        ours = flops(OverlapTileInferer(memory_limit=gibibytes), paper_network, (size, size)) / whole
        for overlap, theirs in windows.items():
            lines.append(
                Line(
                    f"{size}², within {gibibytes:g} GiB",
                    ours,
                    _monai(f"sliding window {ROI}, overlap {overlap}"),
                    theirs / whole,
                    unit="x",
                    target=target,
                    limit=True,
                )
            )
    return Result(lines)


def _redundancy_3d(quick: bool) -> Result:
    size = 128 if quick else 256
    shape = (size,) * 3
    same = partial(cicek_network, padding="same")
    whole = flops(_one_pass, same, shape)
    ours = flops(OverlapTileInferer(), cicek_network, shape) / whole
    answer = [Geometry(levels=3).output_size(side) for side in CICEK_TILE]
    paper = flops(OverlapTileInferer(answer), cicek_network, shape) / whole
    windows = flops(partial(_windows, overlap=0.5, roi=96), same, shape) / whole
    what = f"{size}³, within 4 GiB"
    lines = [
        Line(what, ours, f"the same with the paper's tile {CICEK_TILE}", paper, unit="x", target=1.7, limit=True),
        Line(what, ours, _monai("sliding window 96, overlap 0.5"), windows, unit="x", target=1.7, limit=True),
    ]
    return Result(lines)


def _monai(name: str) -> str:
    return Contender(f"MONAI {name}", "monai", lambda: lambda: None).label


def inference(name: str, package: str, infer: Infer, network: UNet, size: int) -> Contender:
    """An image of noise through a network; the job is the whole inference."""

    def prepare() -> Job:
        image = torch.rand(1, 1, size, size)

        def job() -> object:
            with torch.no_grad():
                return infer(image, network)

        return job

    return Contender(name, package, prepare)


def _seconds(quick: bool) -> Result:
    size, width = (512, 4) if quick else (2048, 16)
    torch.manual_seed(0)
    valid, same = paper_network(width), paper_network(width, "same")
    ours = inference("OverlapTileInferer", "overtile", OverlapTileInferer(), valid, size)
    peers: list[tuple[Contender, float | None]] = []
    for overlap, target in ((0.5, 2.5), (0.25, None)):
        name = f"MONAI sliding window {ROI}, overlap {overlap}"
        peers.append((inference(name, "monai", sliding_window(overlap), same, size), target))
    return Result(compare(f"{size}², {width} features", ours, peers, rounds=2, warm=quick))


def _sliding_patches(quick: bool) -> Result:
    """D4: the argument of arXiv:1505.04597, section 1, against a patch for every voxel."""
    size = 64 if quick else 512
    torch.manual_seed(0)
    classifier = PatchClassifier().eval()
    image = torch.rand(1, 1, size + 2 * classifier.margin, size + 2 * classifier.margin)
    voxels = torch.randint(size, (PATCHES, 2)).tolist()
    patches = torch.stack(
        [image[0, :, y : y + classifier.patch_size, x : x + classifier.patch_size] for y, x in voxels]
    )
    with torch.no_grad():
        answers = classifier(image)[0, :, [y for y, _ in voxels], [x for _, x in voxels]].T
        torch.testing.assert_close(classifier.classify(patches), answers, atol=1e-4, rtol=1e-4)

    def answering(name: str, answer: Callable[[], object], factor: float = 1.0) -> Contender:
        return Contender(name, "overtile", lambda: torch.no_grad()(answer), factor)

    at_once = answering("all voxels at once", lambda: classifier(image))
    name = f"a patch of {classifier.patch_size}² for every voxel, extrapolated from {PATCHES} patches"
    slid = answering(name, lambda: [classifier.classify(some) for some in patches.split(64)], size**2 / PATCHES)
    network = paper_network()
    unet = inference("the U-Net of 2015, OverlapTileInferer", "overtile", OverlapTileInferer(), network, size)
    return Result(compare(f"{size}², patch classifier N4", at_once, [(slid, None), (unet, None)], rounds=3))


ROWS = {
    "C1": Row("one pass of the paper's network", _pass),
    "D1": Row("operations of inference, over those of one same-padded pass of the whole image", _redundancy_2d),
    "D2": Row("inference of an image", _seconds),
    "D3": Row("operations of inference in 3D, over those of one same-padded pass of the whole volume", _redundancy_3d),
    "D4": Row("a class for every voxel by the patch around it, and by the network at once", _sliding_patches),
}
