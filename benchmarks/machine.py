"""The machine and the libraries that figures were measured with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import overtile

LIBRARIES = ("torch", "monai", "numpy", "scipy")
ROOT = Path(__file__).resolve().parents[1]


def describe_machine() -> dict[str, str]:
    """What a figure depends on: processor, memory, system, libraries, and this project's commit."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()})",
        "memory": f"{_memory() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "overtile": f"overtile {overtile.__version__}, commit {_commit()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    described = {name.strip(): value.strip() for name, value in fields.items()}
    name = described.get("model name", platform.machine())
    if "cpu family" in described:
        name += f", family {described['cpu family']} model {described.get('model', '?')}"
    return name


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return f"{head} with changes" if _git("status", "--porcelain", "--", "bundle", "configs") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
