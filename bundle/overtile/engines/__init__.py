"""What a training or evaluation run needs around the network: the only room that meets Ignite."""

from overtile.engines.batches import PrepareWeightedBatch, step_loss
from overtile.engines.checkpoints import TrainingCheckpoint
from overtile.engines.costs import Costs
from overtile.engines.distributed import leave_processes, parallel, rank, rank_device, rank_share, start_processes
from overtile.engines.em_metrics import (
    PixelError,
    PixelErrorMetric,
    RandError,
    RandErrorMetric,
    VInfo,
    VInfoMetric,
    VRand,
    VRandMetric,
    WarpingError,
    WarpingErrorMetric,
)
from overtile.engines.gradients import GradientClipping
from overtile.engines.metrics import (
    AveragePrecision,
    AveragePrecisionMetric,
    InstanceF1,
    InstanceF1Metric,
    PanopticQuality,
    PanopticQualityMetric,
    PooledMetric,
    PooledMetricHandler,
)
from overtile.engines.mistakes import explain_mistakes
from overtile.engines.network_definition import network_definition
from overtile.engines.normalization import BatchNormEstimator
from overtile.engines.one_hot import OneHotFromEngine
from overtile.engines.pictures import TrainingPictures, ValidationPictures, write_learning_rate
from overtile.engines.progress import ProgressBar
from overtile.engines.randomness import EpochSeed
from overtile.engines.report import Report
from overtile.engines.schedules import polynomial_decay
from overtile.engines.tracking_metrics import Det, DetMetric, Seg, SegMetric
from overtile.engines.weights import LoadWeights
from overtile.engines.workplace import bundle_root, default_device, switch, zoom_mode

__all__ = [
    "AveragePrecision",
    "AveragePrecisionMetric",
    "BatchNormEstimator",
    "Costs",
    "Det",
    "DetMetric",
    "EpochSeed",
    "GradientClipping",
    "InstanceF1",
    "InstanceF1Metric",
    "LoadWeights",
    "OneHotFromEngine",
    "PanopticQuality",
    "PanopticQualityMetric",
    "PixelError",
    "PixelErrorMetric",
    "PooledMetric",
    "PooledMetricHandler",
    "PrepareWeightedBatch",
    "ProgressBar",
    "RandError",
    "RandErrorMetric",
    "Report",
    "Seg",
    "SegMetric",
    "TrainingCheckpoint",
    "TrainingPictures",
    "VInfo",
    "VInfoMetric",
    "VRand",
    "VRandMetric",
    "ValidationPictures",
    "WarpingError",
    "WarpingErrorMetric",
    "bundle_root",
    "default_device",
    "explain_mistakes",
    "leave_processes",
    "network_definition",
    "parallel",
    "polynomial_decay",
    "rank",
    "rank_device",
    "rank_share",
    "start_processes",
    "step_loss",
    "switch",
    "write_learning_rate",
    "zoom_mode",
]
