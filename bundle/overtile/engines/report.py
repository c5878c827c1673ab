"""What an evaluation leaves behind: scores for a program and a table, pictures and a page for a person."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import string_list_all_gather

from overtile import __version__
from overtile.engines.distributed import rank
from overtile.engines.evaluated_images import drawable, whole_items
from overtile.engines.image_scores import best_median_worst, class_means, finite, higher_is_better, image_scores
from overtile.engines.training_sample import Items, training_sample
from overtile.geometry import Geometry
from overtile.networks import unwrapped
from overtile.reports import (
    Evaluation,
    Experiment,
    Scene,
    applicable,
    comparisons,
    learning_curves,
    number,
    report_page,
    result_picture,
    write_csv,
    write_json,
)

logger = logging.getLogger(__name__)


class Report:
    """Writes ``scores.json``, ``scores.csv``, pictures and ``report.html``, a page that needs no other file.

    Attach it to an evaluator whose post-processing leaves ``pred`` (instances or class indices), ``probability``
    (soft-max) and ``label``, each (C, *spatial), beside ``image``, and with classes and an ``ignore_label`` the
    ``weight``, 0 where there is no ground truth. The page shows the best, the median and the worst
    image, and the curves of the training where ``output_dir`` has them.

    Args:
        output_dir: made if it does not exist.
        instances: whether labels are instances or classes.
        ignore_label: value of voxels without ground truth.
        pictures: how many picture files at most.
        metrics: the evaluator's by name, Ignite handlers of MONAI metrics: what they have kept of every image is its
            score.
        experiment: what the data are, and what others reached on them; see :class:`overtile.reports.Experiment`.
        training_data: image and label files of the training, or what lists them, to show one of them.
        training_transforms: what makes a training sample of them.
        dataset: where the data are, to be named on the page.
        weights: where the weights are, to be named on the page.
    """

    def __init__(
        self,
        output_dir: str,
        instances: bool = True,
        ignore_label: int | None = None,
        pictures: int = 20,
        metrics: Mapping[str, Any] | None = None,
        experiment: Experiment | None = None,
        training_data: Items | Callable[[], Items] = (),
        training_transforms: Compose | None = None,
        dataset: str = "",
        weights: str = "",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.instances = instances
        self.ignore_label = ignore_label
        self.pictures = pictures
        self.metrics = metrics or {}
        self.experiment = experiment or Experiment()
        self.training_data = training_data
        self.training_transforms = training_transforms
        self.dataset = dataset
        self.weights = weights
        self.names: list[str] = []
        self.scenes: list[bytes] = []

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.names, self.scenes = [], []

    def __call__(self, engine: Engine) -> None:
        """Remembers the images of one iteration: their scores are known at the end."""
        for item in whole_items(engine):
            image = item["image"]
            name = str(image.meta.get("filename_or_obj", "")) if isinstance(image, MetaTensor) else ""
            self.names.append(name or f"image {len(self.names)}")
            if rank() == 0:
                self.scenes.append(Scene.of(*drawable(item, self.instances, self.ignore_label)).packed())

    def _finish(self, engine: Engine) -> None:
        names, rows = string_list_all_gather(self.names), image_scores(self.metrics)  # of all processes, in one order
        if rank() > 0:
            return
        rows = rows or [{} for _ in names]
        scores = {name: finite(value) for name, value in engine.state.metrics.items() if np.ndim(value) == 0}
        scores |= {name: mean for name, mean in class_means(rows).items() if name not in scores}
        experiment = applicable(self.experiment, scores)
        wanted = (experiment.get("metric"), getattr(engine.state, "key_metric_name", None), *scores)
        headline = next((name for name in wanted if name in scores), "")
        higher = higher_is_better(self.metrics)
        if headline and "higher_is_better" in experiment:
            higher[headline] = experiment["higher_is_better"]
        drawn = [row.get(headline) for row in rows[: len(self.scenes)]]  # the first process's share
        examples = best_median_worst(drawn, higher.get(headline, True))
        evaluation = Evaluation(
            title=experiment.get("name") or f"Evaluation of {Path(self.dataset).name or 'a network'}",
            facts=list(self._facts(getattr(engine, "network", None))),
            scores=scores,
            headline=headline,
            higher_is_better=higher,
            images=[{"image": name, **row} for name, row in zip(names, rows, strict=True)],
            examples=[(verdict, at, Scene.unpacked(self.scenes[at])) for verdict, at in examples],
            instances=self.instances,
            curves=learning_curves(self.output_dir / "tensorboard"),
            experiment=experiment,
        )
        self._write(evaluation)

    def _write(self, evaluation: Evaluation) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        scores, images, page = evaluation.scores, evaluation.images, self.output_dir / "report.html"
        pictures = [
            {"picture": self._draw(index, packed, evaluation)}
            for index, packed in enumerate(self.scenes[: self.pictures])
        ]
        pictures += [{} for _ in images[len(pictures) :]]
        write_csv(self.output_dir / "scores.csv", scores, images)
        with_pictures = [{**image, **picture} for image, picture in zip(images, pictures, strict=True)]
        write_json(self.output_dir / "scores.json", scores, with_pictures, _headline(evaluation))
        if self.training_transforms is not None:
            sample = training_sample(self.training_data, self.training_transforms)
            evaluation = replace(evaluation, training=sample)
        page.write_text(report_page(evaluation), encoding="utf-8")
        logger.info("scores of %d images: %s, report in %s", len(images), scores, page)
        for table in comparisons(evaluation):
            logger.info("%s", table)

    def _draw(self, index: int, packed: bytes, evaluation: Evaluation) -> str:
        image = evaluation.images[index]
        score = image.get(evaluation.headline)
        caption = "" if score is None else f"{evaluation.headline_name} {number(score)}"
        file = self.output_dir / f"{index:03d}_{Path(image['image']).name.split('.')[0].replace(' ', '_')}.png"
        result_picture(Scene.unpacked(packed), self.instances, caption).save(file)
        return str(file)

    def _facts(self, network: torch.nn.Module | None) -> Iterator[tuple[str, str]]:
        if self.dataset:
            yield "data", self.dataset
        if self.weights:
            yield "weights", self.weights
        if network is not None:
            yield "network", _summary(unwrapped(network))
        yield "written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        yield "by", f"overtile {__version__}, MONAI {monai.__version__}, PyTorch {torch.__version__}"


def _headline(evaluation: Evaluation) -> dict[str, Any] | None:
    """The score that comes first, for programs that compare evaluations."""
    metric = evaluation.headline
    better = evaluation.higher_is_better.get(metric, True)
    return {"metric": metric, "name": evaluation.headline_name, "higher_is_better": better} if metric else None


def _summary(network: torch.nn.Module) -> str:
    """Kind, depth and size of a network."""
    parts = [type(network).__name__]
    geometry = getattr(network, "geometry", None)
    if isinstance(geometry, Geometry) and geometry.tile is not None:
        parts.append(f"tiles of {geometry.tile} voxels")
    elif isinstance(geometry, Geometry):
        parts += [f"{geometry.levels} levels", f"{geometry.padding} convolutions"]
    return ", ".join([*parts, f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters"])
