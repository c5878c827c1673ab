"""Class indices in the form that MONAI's distance and overlap handlers take."""

import math

import torch
from ignite.engine import Engine
from monai.handlers import HausdorffDistance

from overtile.engines import OneHotFromEngine


def index_map(*values):
    return torch.tensor(values)[None, None]


def test_every_class_gets_a_channel():
    output = [{"pred": index_map(0, 1, 2), "label": index_map(2, 2, 0)}]
    prediction, truth = OneHotFromEngine(num_classes=3)(output)
    assert prediction[0][:, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert truth[0][:, 0].tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]


def test_monais_hausdorff_handler_measures_index_maps_through_it():
    """A bar of three pixels that is two pixels off: the farthest point of each is two from the other."""
    item = {"pred": index_map(0, 0, 0, 1, 1, 1, 0), "label": index_map(0, 1, 1, 1, 0, 0, 0)}
    engine = Engine(lambda engine, batch: batch)
    handler = HausdorffDistance(include_background=False, output_transform=OneHotFromEngine(num_classes=2))
    handler.attach(engine, "hausdorff")
    engine.run([[item]])
    assert math.isclose(engine.state.metrics["hausdorff"], 2)
