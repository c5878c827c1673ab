"""What a person looks at after an evaluation: pictures, curves, a page. Arrays and numbers in; no torch, no MONAI."""

from overtile.reports.curves import Curve, learning_curves
from overtile.reports.networks import (
    NetworkComparison,
    NetworkResult,
    network_figure,
    network_page,
    network_table,
    write_network_csv,
)
from overtile.reports.page import Evaluation, Experiment, applicable, comparisons, report_page
from overtile.reports.pictures import result_picture
from overtile.reports.progress_pictures import training_picture, validation_picture
from overtile.reports.rendering import Score, number
from overtile.reports.scenes import Scene
from overtile.reports.score_files import write_csv, write_json
from overtile.reports.training_panels import TrainingSample

__all__ = [
    "Curve",
    "Evaluation",
    "Experiment",
    "NetworkComparison",
    "NetworkResult",
    "Scene",
    "Score",
    "TrainingSample",
    "applicable",
    "comparisons",
    "learning_curves",
    "network_figure",
    "network_page",
    "network_table",
    "number",
    "report_page",
    "result_picture",
    "training_picture",
    "validation_picture",
    "write_csv",
    "write_json",
    "write_network_csv",
]
