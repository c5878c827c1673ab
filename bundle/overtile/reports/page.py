"""One self-contained page that tells a person how an evaluation went."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, TypedDict, cast

from overtile.reports.charts import BINS
from overtile.reports.curves import Curve
from overtile.reports.pictures import class_colours, scene_panels
from overtile.reports.rendering import Score, number, rendered
from overtile.reports.scenes import Scene
from overtile.reports.training_panels import GRADIENT, TrainingSample, training_panels

_ABOUT_THE_METRIC = {"metric", "metric_name", "higher_is_better", "published"}


class Published(TypedDict, total=False):
    """A row of the literature: what reached which score, and where that is written.

    The score is by ``metric``, one of the evaluation's; by the experiment's own where that is not given.
    """

    name: str
    score: float
    source: str
    metric: str


class Experiment(TypedDict, total=False):
    """What an experiment's config tells about itself, all of it optional.

    ``metric`` is the headline's name among the metrics, ``metric_name`` what people call it, ``published`` what others
    reached by it; ``split`` says on which images this evaluation was measured, ``spacing`` the size of a voxel.
    """

    name: str
    source: str
    citation: str
    licence: str
    classes: str
    spacing: str
    preprocessing: str
    split: str
    metric: str
    metric_name: str
    higher_is_better: bool
    published: Sequence[Published]
    remarks: str


def applicable(experiment: Experiment, measured: Collection[str]) -> Experiment:
    """The experiment, without what is said of its metric where another was measured: no score stands for another.

    Args:
        experiment: with or without a ``metric``.
        measured: names of metrics.
    """
    if experiment.get("metric") in (None, *measured):
        return experiment
    return cast(Experiment, {key: value for key, value in experiment.items() if key not in _ABOUT_THE_METRIC})


@dataclass(frozen=True)
class Evaluation:
    """All that the page shows; what is empty or None is left out, or its absence explained.

    Args:
        title: of the page.
        facts: names and values: data, network, weights, ...
        scores: of all images together, by metric.
        headline: the name of the metric to show first, one of ``scores``; empty for none.
        higher_is_better: by metric, where it is known.
        images: ``"image"``, a file or a name, and scores of every image, the same columns in each.
        examples: what to say of an image ("best"), its place in ``images``, its scene.
        instances: whether labels are instances or classes.
        curves: of the training.
        training: one sample of it.
        experiment: what the config tells about it.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    scores: Mapping[str, Score]
    headline: str = ""
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    images: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[tuple[str, int, Scene]] = ()
    instances: bool = True
    curves: Sequence[Curve] = ()
    training: TrainingSample | None = None
    experiment: Experiment = field(default_factory=Experiment)

    @property
    def headline_name(self) -> str:
        """What people call the headline's metric."""
        return self.experiment.get("metric_name", self.headline)


def report_page(evaluation: Evaluation) -> str:
    """The page as HTML: no other file is needed to show it, and no network.

    Args:
        evaluation: what to show.
    """
    experiment: dict[str, Any] = {**dict.fromkeys(Experiment.__annotations__), **evaluation.experiment}
    headline, training = evaluation.headline, evaluation.training
    higher = evaluation.higher_is_better.get(headline, True)
    names = short_names([row["image"] for row in evaluation.images])
    images = [{**row, "image": name} for row, name in zip(evaluation.images, names, strict=True)]
    return rendered(
        "report.html",
        e=evaluation,
        experiment=experiment,
        images=images,
        higher=higher,
        published=comparisons(evaluation),
        columns=[name for name in (images[0] if images else ()) if name != "image"],
        scenes=[
            (verdict, images[index], scene_panels(scene, evaluation.instances)[1:])
            for verdict, index, scene in evaluation.examples
        ],
        training_panels=None if training is None else training_panels(training),
        weight_ticks=None if training is None else _scale(*training.weight_range()),
        gradient=GRADIENT,
        class_colours=_class_legend(evaluation),
        bins=BINS,
    )


@dataclass(frozen=True)
class Comparison:
    """Published scores by one metric and ours.

    Args:
        metric: what people call it.
        higher_is_better: whether the largest is the best.
        rows: see :func:`comparison`.
    """

    metric: str
    higher_is_better: bool
    rows: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        """The rows as lines of a terminal, ours marked."""
        width = max(len(row["name"]) for row in self.rows)
        lines = (
            f"{'>' if row['ours'] else ' '} {row['name']:{width}}  {number(row['score']):>8}  {row['source']}".rstrip()
            for row in self.rows
        )
        better = "higher" if self.higher_is_better else "lower"
        return "\n".join([f"{self.metric}, {better} is better", *lines])


def comparisons(evaluation: Evaluation) -> list[Comparison]:
    """Our scores beside the published ones, a comparison for each metric that has some, the headline's first.

    Args:
        evaluation: with an ``experiment``.
    """
    published: Sequence[Published] = evaluation.experiment.get("published") or ()
    found = []
    for metric in sorted(evaluation.scores, key=lambda name: name != evaluation.headline):
        rows = [row for row in published if row.get("metric", evaluation.headline) == metric]
        higher = evaluation.higher_is_better.get(metric, True)
        if rows:
            name = evaluation.headline_name if metric == evaluation.headline else metric
            found.append(Comparison(name, higher, comparison(evaluation.scores[metric], rows, higher)))
    return found


def comparison(ours: Score, published: Sequence[Published], higher_is_better: bool = True) -> list[dict[str, Any]]:
    """Published rows and ours (``"ours": True``), best first, each with its place on a common axis.

    Args:
        ours: our score; None for none.
        published: rows of the literature.
        higher_is_better: whether the largest is the best.

    Returns:
        ``name``, ``score``, ``source``, ``ours`` and ``place``, 0 to 100 from the lowest score to the highest.
    """
    rows: list[dict[str, Any]] = [{"source": "", **row, "ours": False} for row in published]
    if ours is not None:
        rows.append({"name": "this evaluation, on its own split", "score": ours, "source": "", "ours": True})
    scores = [row["score"] for row in rows]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    for row in rows:
        row["place"] = 100 * (row["score"] - low) / (high - low) if high > low else 50
    return sorted(rows, key=lambda row: row["score"], reverse=higher_is_better)


def short_names(paths: Sequence[str]) -> list[str]:
    """The paths without the folders that all of them are in.

    Examples:
        >>> short_names(["/data/01/t039.tif", "/data/02/t039.tif"]), short_names(["/data/01/t039.tif"])
        (['01/t039.tif', '02/t039.tif'], ['t039.tif'])
    """
    folders = zip(*(Path(path).parent.parts for path in paths), strict=False)
    common = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, folders))
    return ["/".join(Path(path).parts[common:]) for path in paths]


def _class_legend(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Every class that is to be seen, and its colour in the style sheet's words."""
    labels = [array for *_, scene in evaluation.examples for array in (scene.truth, scene.prediction)]
    colours = (
        {} if evaluation.instances else {k: v for a in labels if a is not None for k, v in class_colours(a).items()}
    )
    return [(number, "rgb({} {} {})".format(*colours[number])) for number in sorted(colours)]


def _scale(low: float, high: float) -> list[str]:
    """Five numbers along a logarithmic scale."""
    return [f"{low * (high / low) ** (place / 4):.3g}" for place in range(5)]
