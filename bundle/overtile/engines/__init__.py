"""What a training or evaluation run needs around the network: the only room that meets Ignite."""

from overtile.engines.batches import PrepareWeightedBatch, step_loss
from overtile.engines.checkpoints import TrainingCheckpoint
from overtile.engines.distributed import parallel, rank, rank_device, rank_share, start_processes
from overtile.engines.metrics import InstanceF1, InstanceF1Metric
from overtile.engines.mistakes import explain_mistakes
from overtile.engines.normalization import BatchNormEstimator
from overtile.engines.progress import ProgressBar
from overtile.engines.randomness import EpochSeed
from overtile.engines.report import Report
from overtile.engines.schedules import polynomial_decay
from overtile.engines.weights import LoadWeights
from overtile.engines.workplace import bundle_root, default_device, switch

__all__ = [
    "BatchNormEstimator",
    "EpochSeed",
    "InstanceF1",
    "InstanceF1Metric",
    "LoadWeights",
    "PrepareWeightedBatch",
    "ProgressBar",
    "Report",
    "TrainingCheckpoint",
    "bundle_root",
    "default_device",
    "explain_mistakes",
    "parallel",
    "polynomial_decay",
    "rank",
    "rank_device",
    "rank_share",
    "start_processes",
    "step_loss",
    "switch",
]
