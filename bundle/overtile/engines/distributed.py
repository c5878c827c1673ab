"""One training in several processes (``torchrun``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Item = TypeVar("Item")


def rank() -> int:
    """Number of this process, 0 for the first or only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def start_processes() -> None:
    """Joins the processes that ``torchrun`` has started: NCCL where there are GPUs, Gloo otherwise.

    Raises:
        RuntimeError: if not started by ``torchrun``.
    """
    if dist.is_initialized():
        return
    if "RANK" not in os.environ:
        raise RuntimeError(
            "a training in several processes is started by torchrun: "
            "torchrun --nproc_per_node=2 -m monai.bundle run training --config_file \"['configs/train.json', "
            "'configs/multi_gpu_train.yaml']\""
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(rank_device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def parallel(network: nn.Module, device: torch.device | str) -> nn.Module:
    """The network on its device, its gradients averaged over all processes."""
    on = torch.device(device)
    return DistributedDataParallel(network.to(on), device_ids=[on] if on.type == "cuda" else None)


def leave_processes(network: nn.Module) -> None:
    """Ends what :func:`start_processes` began, for all processes together; does nothing in a process that is alone.

    The wrapper of :func:`parallel` is of no use afterwards: it keeps the group's threads alive, and Gloo's can abort a
    process whose Python shuts down around them, after all its work is done.

    Args:
        network: the wrapped network.
    """
    if not dist.is_initialized():
        return
    dist.barrier()
    for name in ("reducer", "logger", "process_group"):
        vars(network).pop(name, None)
    dist.destroy_process_group()


def rank_share(items: Sequence[Item]) -> list[Item]:
    """Every n-th item for each of n processes; all of them where there are fewer items than processes.

    Args:
        items: the same list in every process.
    """
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    share = list(items[rank() :: processes])
    return share if len(items) >= processes else list(items)
