"""What an evaluation leaves behind: scores for a program, pictures for a person."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from numpy.typing import NDArray

from overtile.engines.distributed import rank
from overtile.engines.pictures import result_picture
from overtile.metrics import class_dice, instance_scores

logger = logging.getLogger(__name__)


class Report:
    """Writes ``scores.json`` and a picture of every image (image, ground truth, prediction, probability).

    Attach it to an evaluator whose post-processing leaves ``pred`` (instances or class indices), ``probability``
    (soft-max) and ``label``, each (C, *spatial), beside ``image``.

    Args:
        output_dir: made if it does not exist.
        instances: whether labels are instances (F1) or classes (Dice).
        num_classes: of a class map, background included.
        iou_threshold: least intersection over union of a matched instance.
        ignore_label: value of voxels without ground truth in an instance map.
        pictures: how many pictures at most.
    """

    def __init__(
        self,
        output_dir: str,
        instances: bool = True,
        num_classes: int = 2,
        iou_threshold: float = 0.5,
        ignore_label: int | None = None,
        pictures: int = 20,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.instances = instances
        self.num_classes = num_classes
        self.iou_threshold = iou_threshold
        self.ignore_label = ignore_label
        self.pictures = pictures
        self.images: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.images = []

    def __call__(self, engine: Engine) -> None:
        """Scores and draws the images of one iteration."""
        for item in engine.state.output:
            image = item["image"]
            truth, prediction = (_array(item[key])[0] for key in ("label", "pred"))
            scores = self._scores(truth, prediction)
            name = Path(str(image.meta.get("filename_or_obj", ""))) if isinstance(image, MetaTensor) else Path()
            entry = {"image": str(name) if name.name else f"image {len(self.images)}", **scores}
            if len(self.images) < self.pictures and rank() == 0:
                entry["picture"] = self._draw(item, truth, prediction, scores, name)
            self.images.append(entry)

    def _scores(self, truth: NDArray[Any], prediction: NDArray[Any]) -> dict[str, Any]:
        if self.instances:
            ignored = None if self.ignore_label is None else truth == self.ignore_label
            scores = instance_scores(truth, prediction, self.iou_threshold, ignored)
            return {
                "f1": scores.f1,
                "precision": scores.precision,
                "recall": scores.recall,
                "instances": scores.true_positives + scores.false_negatives,
                "found": scores.true_positives + scores.false_positives,
                "panoptic_quality": scores.panoptic_quality,
            }
        return {"dice": [None if math.isnan(d) else d for d in class_dice(truth, prediction, self.num_classes)]}

    def _draw(
        self, item: dict[str, Any], truth: NDArray[Any], prediction: NDArray[Any], scores: dict[str, Any], name: Path
    ) -> str:
        if self.instances:
            caption = f"F1 {scores['f1']:.3f}"
        else:
            caption = "Dice " + " ".join("-" if d is None else f"{d:.3f}" for d in scores["dice"])
        foreground = 1 - _array(item["probability"])[0]
        picture = result_picture(_array(item["image"])[0], truth, prediction, foreground, caption)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        file = self.output_dir / f"{len(self.images):03d}_{name.name.split('.')[0] or 'image'}.png"
        picture.save(file)
        return str(file)

    def _finish(self, engine: Engine) -> None:
        if rank() > 0:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        file = self.output_dir / "scores.json"
        content = {
            "scores": {name: float(value) for name, value in engine.state.metrics.items() if np.ndim(value) == 0},
            "images": self.images,
        }
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        logger.info("scores of %d images: %s, written to %s", len(self.images), content["scores"], self.output_dir)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = torch.as_tensor(tensor).cpu().numpy()
    return array
