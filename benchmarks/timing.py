"""CPU time in interleaved rounds, and memory in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

Job = Callable[[], object]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Time:
    """CPU seconds of one job: the median of the rounds and half their interquartile range."""

    median: float
    spread: float = 0.0


@dataclass(frozen=True)
class Contender:
    """One way to do a job.

    Args:
        name: as the table shows it.
        package: distribution on PyPI, whose version the table shows.
        prepare: imports what is needed and returns the job to time; ``ImportError`` says that it is not installed.
        factor: by what the time is multiplied, where the job is a part of the whole (an extrapolation).
    """

    name: str
    package: str
    prepare: Callable[[], Job]
    factor: float = 1.0

    @property
    def label(self) -> str:
        """Name and version."""
        try:
            return f"{self.name} ({self.package} {version(self.package).split('+')[0]})"
        except PackageNotFoundError:
            return f"{self.name} ({self.package})"


def interleaved(contenders: Sequence[Contender], rounds: int, warm: bool = True) -> list[Time | str]:
    """Time of each contender, or why there is none.

    The rounds are A B C, A B C, ...: what changes on the machine meanwhile meets all alike.

    Args:
        contenders: what to compare.
        rounds: how often each is timed.
        warm: run each once before, untimed.
    """
    torch.set_num_threads(1)
    jobs: dict[int, Job] = {}
    results: list[Time | str] = [""] * len(contenders)
    for place, contender in enumerate(contenders):
        try:
            jobs[place] = contender.prepare()
            if warm:
                jobs[place]()
        except ImportError as error:
            results[place] = f"not installed: {error.name or error}"
        except Exception as error:  # a peer that fails must not end the others' comparison
            logger.warning("%s failed", contender.name, exc_info=True)
            results[place] = f"failed: {type(error).__name__}: {error}"
        if results[place]:
            jobs.pop(place, None)
    times: dict[int, list[float]] = {place: [] for place in jobs}
    for _ in range(rounds):
        for place, job in jobs.items():
            times[place].append(cpu_seconds(job) * contenders[place].factor)
    for place, measured in times.items():
        results[place] = summary(measured)
    return results


def cpu_seconds(job: Job) -> float:
    """CPU time of this process, all threads, for one run of the job; the garbage of others is collected before."""
    gc.collect()
    start = time.process_time()
    job()
    return time.process_time() - start


def summary(times: Sequence[float]) -> Time:
    """Median and half the interquartile range.

    Examples:
        >>> summary([3.0, 1.0, 2.0])
        Time(median=2.0, spread=0.5)
    """
    if len(times) < 2:
        return Time(times[0])
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return Time(statistics.median(times), (high - low) / 2)


@dataclass(frozen=True)
class Usage:
    """What a job takes in a process of its own: CPU seconds, and peak resident bytes beyond those before it."""

    seconds: float
    bytes: int


def usage(job: Callable[..., object], *arguments: object, rounds: int = 1) -> Usage:
    """Time (median of ``rounds``) and memory (of the first, which finds no memory to reuse) of a job in a new process.

    Args:
        job: a function of a module. It returns the job proper, so that its input is not counted.
        arguments: of ``job``; they are pickled.
        rounds: how often to run it.
    """
    context = multiprocessing.get_context("forkserver")  # a clean process for each, one import for all
    context.set_forkserver_preload(["overtile.inferers", "overtile.transforms", "overtile.networks", __name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, job, arguments, rounds))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError as error:
        process.join()
        raise RuntimeError(f"the measuring process ended with code {process.exitcode} (out of memory?)") from error
    process.join()
    if isinstance(result, str):
        raise RuntimeError(result)
    return Usage(*result)


def _measure(sender, job, arguments, rounds):  # type: ignore[no-untyped-def]  # in the other process
    torch.set_num_threads(1)
    try:
        prepared = job(*arguments)
        gc.collect()
        before = _reset_peak()
        times = [cpu_seconds(prepared)]
        peak = _peak() - before
        times += [cpu_seconds(prepared) for _ in range(rounds - 1)]
        sender.send((statistics.median(times), peak))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def _reset_peak() -> int:
    """Resident bytes now, from which the peak counts. Linux can forget an earlier peak, others count from it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # what the preparation has freed the job would reuse uncounted
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Largest number of resident bytes so far."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
