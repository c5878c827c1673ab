"""What a run costs: time, memory and the size of the network, measured while it runs."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from overtile.engines.distributed import rank
from overtile.engines.whole_files import replace_whole
from overtile.networks import unwrapped

Section = Literal["training", "inference"]
_TWICE = 10.0  # seconds up to which the first image is segmented again: the first pass of a process warms it up


class Costs:
    """Writes what a training or an inference costs into a JSON file, each into a section of its own.

    ``training``: ``steps`` and ``seconds`` of all epochs, loading and augmentation in them and validation not, also of
    those before an interruption; ``seconds_per_step``, the median of this process. ``inference``: ``parameters`` of the
    network, ``images``, ``voxels``, ``seconds`` in the inferer, without loading and what follows, and
    ``total_seconds`` with them. Both: ``peak_bytes``, of the GPU's tensors or of the whole process, and ``device``.
    Only the first process of a distributed run writes.

    Args:
        file: of JSON; other sections in it stay.
        section: ``"training"`` to attach it to a trainer, behind what resumes it, ``"inference"`` to an evaluator.
    """

    def __init__(self, file: str, section: Section) -> None:
        if section not in ("training", "inference"):
            raise ValueError(f"section must be 'training' or 'inference', got {section!r}")
        self.file = Path(file)
        self.section = section
        self.epochs: dict[str, float] = {}  # seconds by the epoch's number, as JSON has its keys
        self.steps: list[float] = []
        self.seconds = self.voxels = self.images = 0.0
        self.began = self.started = 0.0

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.STARTED, self._start)
        if self.section == "training":
            engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_training)
        else:
            engine.add_event_handler(Events.ITERATION_STARTED, self._start_image)
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._image)
            engine.add_event_handler(Events.COMPLETED, self._write_inference)

    def _start(self, engine: Engine) -> None:
        self.began = _now(engine)
        self.seconds = self.voxels = self.images = 0.0
        earlier = _read(self.file).get(self.section, {}).get("epochs", {})
        self.epochs = {epoch: time for epoch, time in earlier.items() if int(epoch) <= engine.state.epoch}
        if _device(engine).type == "cuda":
            torch.cuda.reset_peak_memory_stats(_device(engine))

    def _start_epoch(self, engine: Engine) -> None:
        self.started = _now(engine)
        self.epochs[str(engine.state.epoch)] = 0.0

    def _step(self, engine: Engine) -> None:
        now = _now(engine)
        self.steps.append(now - self.started - self.epochs[str(engine.state.epoch)])
        self.epochs[str(engine.state.epoch)] = now - self.started

    def _write_training(self, engine: Engine) -> None:
        self._write(
            engine,
            {
                "epochs": self.epochs,
                "steps": engine.state.iteration,
                "seconds": sum(self.epochs.values()),
                "seconds_per_step": median(self.steps),
            },
        )

    def _start_image(self, engine: Engine) -> None:
        self.started = _now(engine)

    def _image(self, engine: Engine) -> None:
        seconds = _now(engine) - self.started
        image = engine.state.output["image"]
        if self.images == 0 and seconds < _TWICE:
            self.started = _now(engine)
            with engine.mode(engine.network), _precision(engine):
                engine.inferer(image, engine.network)
            seconds = _now(engine) - self.started
            self.began += seconds
        self.seconds += seconds
        self.images += image.shape[0]
        self.voxels += image.shape[0] * image.shape[2:].numel()

    def _write_inference(self, engine: Engine) -> None:
        self._write(
            engine,
            {
                "parameters": sum(parameter.numel() for parameter in unwrapped(engine.network).parameters()),
                "images": int(self.images),
                "voxels": int(self.voxels),
                "seconds": self.seconds,
                "total_seconds": _now(engine) - self.began,
            },
        )

    def _write(self, engine: Engine, costs: Mapping[str, Any]) -> None:
        if rank() > 0:
            return
        device = _device(engine)
        measured = {**costs, "peak_bytes": peak_bytes(device), "device": device_name(device)}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**_read(self.file), self.section: measured}, indent=1)
        replace_whole(self.file, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def peak_bytes(device: torch.device) -> int | None:
    """The most that this process had: on a GPU of tensors since the last reset, else of main memory since its start.

    Args:
        device: where the network is.

    Returns:
        Bytes; None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage would count what the parent had when it started this process
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: torch.device) -> str:
    """What a person calls the device: the GPU's name, or the processor's and how many of its threads are used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _device(engine: Engine) -> torch.device:
    """Where the network is: the evaluator of an inference leaves images in main memory."""
    parameter = next(engine.network.parameters(), None)
    return torch.device(engine.state.device) if parameter is None else parameter.device


def _precision(engine: Engine) -> AbstractContextManager[object]:
    """That of MONAI's evaluator."""
    return torch.autocast("cuda", **engine.amp_kwargs) if engine.amp else nullcontext()


def _now(engine: Engine) -> float:
    """The time in seconds when all that was asked of the device is done."""
    device = _device(engine)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
