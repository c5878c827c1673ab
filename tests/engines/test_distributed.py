import json
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from overtile.engines import (
    distributed,
    leave_processes,
    parallel,
    rank,
    rank_device,
    rank_share,
    start_processes,
)
from overtile.networks import unwrapped

# Run by torchrun in each of two processes; a file of its own, since started processes import no test module.
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from overtile.engines import InstanceF1Metric, leave_processes, parallel, rank, rank_device, rank_share, start_processes

start_processes()
start_processes()  # a second time changes nothing
torch.manual_seed(rank())
network = parallel(torch.nn.Linear(1, 1), rank_device())
weight = float(network.module.weight.detach())
network(torch.full((1, 1), 1.0 + rank())).sum().backward()  # the gradient of process r alone is 1 + r
metric = InstanceF1Metric()
truth = torch.tensor([[1, 1, 0, 2, 2]])
metric(y_pred=[truth if rank() == 0 else 0 * truth], y=[truth])
found = {
    "shares": {count: rank_share(range(count)) for count in (1, 2, 5, 6)},
    "weight": weight,
    "gradient": float(network.module.weight.grad),
    "f1": metric.aggregate(),
    "backend": dist.get_backend(),
}
file = Path(sys.argv[1], f"{rank()}.json")
leave_processes(network)
threads = Path("/proc/self/task").glob("*/comm")  # none where there is no /proc
found["left over"] = [name for name in (thread.read_text() for thread in threads) if "gloo" in name]
file.write_text(json.dumps(found))
"""


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def processes(monkeypatch):
    """Pretends to be process ``number`` of ``count``."""

    def pretend(number, count):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: number)
        monkeypatch.setattr(dist, "get_world_size", lambda: count)

    return pretend


def test_alone_a_process_is_the_first_and_has_all_items():
    assert rank() == 0
    assert rank_share("abcde") == list("abcde")
    assert rank_share([]) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("items", [5, 6, 11])
def test_shares_are_disjoint_complete_and_of_nearly_one_size(processes, count, items):
    shares = []
    for number in range(count):
        processes(number, count)
        shares.append(rank_share(range(items)))
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_where_there_are_fewer_items_than_processes_each_has_them_all(processes):
    for number in range(3):
        processes(number, 3)
        assert rank_share("ab") == ["a", "b"]


def test_a_process_that_is_alone_has_nothing_to_leave():
    leave_processes(nn.Linear(1, 1))


def test_without_torchrun_the_error_shows_how_to_start(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError, match=r"torchrun --nproc_per_node=2 -m monai\.bundle run training"):
        start_processes()


@pytest.mark.parametrize(("local_rank", "index"), [("0", 0), ("3", 3), (None, 0)])
def test_every_process_has_the_gpu_of_its_number_on_its_machine(monkeypatch, local_rank, index):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("RANK", "11")
    monkeypatch.setenv("LOCAL_RANK", local_rank) if local_rank else monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert rank_device() == torch.device("cuda", index)


def test_without_a_gpu_every_process_has_the_cpu(no_gpu, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert rank_device() == torch.device("cpu")


def test_the_network_in_a_parallel_wrapper_is_found():
    network = nn.Linear(1, 1)
    assert unwrapped(nn.DataParallel(network)) is network
    assert unwrapped(network) is network


def test_the_wrapped_network_is_told_its_gpu_and_only_that(monkeypatch):
    seen = []
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda network, device_ids: seen.append(device_ids))
    network = nn.Identity()
    monkeypatch.setattr(network, "to", lambda device: network)
    for device in ("cpu", "cuda:1", torch.device("cpu"), torch.device("cuda:1")):  # a client may give a word
        parallel(network, device)
    assert seen == [None, [torch.device("cuda:1")]] * 2


@pytest.mark.slow
def test_two_processes_share_items_gradients_and_scores(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [*launcher, str(tmp_path / "program.py"), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in (0, 1))
    assert first["shares"] == {"1": [0], "2": [0], "5": [0, 2, 4], "6": [0, 2, 4]}
    assert second["shares"] == {"1": [0], "2": [1], "5": [1, 3], "6": [1, 3, 5]}
    assert first["weight"] == second["weight"]  # whatever each drew: the first process's weights are used
    assert first["gradient"] == second["gradient"] == 1.5
    assert first["f1"] == second["f1"] == 2 * 2 / (2 * 2 + 2)  # the first found both, the second missed both
    assert first["backend"] == "gloo"
    assert first["left over"] == second["left over"] == []  # such a thread can abort a process that is done
