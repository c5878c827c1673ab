"""Every metric as any bundle uses it: named in a config, on an evaluator; and in two processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from overtile import engines, metrics

INSTANCES = torch.tensor([[[0, 1, 1, 1, 1, 0, 2, 2]], [[3, 3, 0, 0, 5, 5, 5, 5]]])  # two images (1, 8)
FOUND = torch.tensor([[[0, 1, 1, 1, 0, 0, 2, 2]], [[3, 3, 3, 0, 5, 5, 5, 5]]])  # IoU 3/4, 1; 2/3, 1
CELLS = torch.ones(2, 1, 9, 9, dtype=torch.int64)
CELLS[:, :, 4] = CELLS[0, 0, :, 4] = 0
INSIDE = torch.linspace(0.3, 0, 81).reshape(9, 9) + 0.7 * CELLS
CLASSES, PROBABILITY = CELLS[:, 0].numpy(), INSIDE[:, 0].numpy()


def mean_curve(curve):
    return np.mean([curve(*pair) for pair in zip(CLASSES, PROBABILITY, strict=True)], axis=0)


PAIRS = list(zip(INSTANCES.numpy(), FOUND.numpy(), strict=True))
SCORES = metrics.instance_scores(*PAIRS[0]) + metrics.instance_scores(*PAIRS[1])
CASES = {
    "InstanceF1": ({"iou_threshold": 0.7}, 2 * 3 / (2 * 3 + 1 + 1)),
    "PanopticQuality": ({}, SCORES.panoptic_quality),
    "AveragePrecision": ({"iou_thresholds": [0.5, 0.7, 0.8]}, np.mean([4 / 4, 3 / 5, 2 / 6])),
    "Seg": ({}, (3 / 4 + 1 + 2 / 3 + 1) / 4),
    "Det": ({}, 1.0),
    "VRand": ({}, max(mean_curve(metrics.v_rand_scores))),
    "VInfo": ({}, max(mean_curve(metrics.v_info_scores))),
    "RandError": ({}, min(mean_curve(metrics.rand_errors))),
    "WarpingError": ({}, min(mean_curve(metrics.warping_errors))),
    "PixelError": ({"thresholds": [0.1, 0.9]}, min(mean_curve(lambda *p: metrics.pixel_errors(*p, [0.1, 0.9])))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_config_names_the_metric_and_the_evaluator_has_its_score(name):
    options, expected = CASES[name]
    of_instances = name in list(CASES)[:5]
    truth, prediction = (INSTANCES, FOUND) if of_instances else (CELLS, INSIDE)
    parser = ConfigParser(
        {
            "samples": [{"image": p.float(), "label": t} for p, t in zip(prediction, truth, strict=True)],
            "loader": {"_target_": "DataLoader", "dataset": {"_target_": "Dataset", "data": "@samples"}},
            "evaluator": {
                "_target_": "SupervisedEvaluator",
                "device": "$torch.device('cpu')",
                "val_data_loader": "@loader",
                "network": {"_target_": "torch.nn.Identity"},
                "key_val_metric": {
                    "score": {
                        "_target_": f"overtile.engines.{name}",
                        **options,
                        "output_transform": {"_target_": "monai.handlers.from_engine", "keys": ["pred", "label"]},
                    }
                },
            },
            "imports": ["$import torch"],
        }
    )
    evaluator = parser.get_parsed_content("evaluator")
    evaluator.run()
    assert evaluator.state.metrics["score"] == pytest.approx(expected, rel=1e-6)
    assert len(evaluator.state.metric_details["score"]) == 2  # a row for each image


# Run by torchrun in each of two processes; a file of its own, since started processes import no test module.
PROGRAM = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
from overtile import engines

torch.distributed.init_process_group("gloo")
inputs = torch.load(sys.argv[2])
share = slice(0, 2) if dist.get_rank() == 0 else slice(2, 3)
scores = {}
for name, (prediction, truth) in inputs.items():
    metric = getattr(engines, name + "Metric")()
    metric(y_pred=prediction[share], y=truth[share])
    scores[name] = [metric.aggregate(), metric.score(metric.get_buffer()[2:])]
Path(sys.argv[1], f"{dist.get_rank()}.json").write_text(json.dumps(scores))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_with_unequal_shares_have_the_score_of_all_images(tmp_path):
    labels, cells = (
        (torch.cat([p, p[:1].flip(-1)]), torch.cat([t, t[1:]])) for p, t in ((FOUND, INSTANCES), (INSIDE, CELLS))
    )
    inputs = {name: tuple(labels if i < 5 else cells) for i, name in enumerate(CASES)}
    torch.save(inputs, tmp_path / "inputs.pt")
    (tmp_path / "program.py").write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [*launcher, str(tmp_path / "program.py"), str(tmp_path), str(tmp_path / "inputs.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = {}
    for name, (prediction, truth) in inputs.items():
        metric = getattr(engines, f"{name}Metric")()
        metric(y_pred=prediction, y=truth)
        expected[name] = [metric.aggregate(), metric.score(metric.get_buffer()[2:])]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected
