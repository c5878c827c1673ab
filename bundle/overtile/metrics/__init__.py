"""Metrics on label images: arrays in, numbers out."""

from overtile.metrics.cell_tracking import DetectionCounts, det, detection_counts, seg, seg_scores
from overtile.metrics.dice import class_dice
from overtile.metrics.instances import (
    IOU_THRESHOLDS,
    InstanceScores,
    average_precision,
    instance_scores,
    instance_scores_by_threshold,
)
from overtile.metrics.overlap import OverlapTable, overlap_table
from overtile.metrics.pixel import pixel_error, pixel_errors
from overtile.metrics.rand import rand_error, rand_errors, v_info, v_info_scores, v_rand, v_rand_scores
from overtile.metrics.warping import warping_error, warping_errors

__all__ = [
    "IOU_THRESHOLDS",
    "DetectionCounts",
    "InstanceScores",
    "OverlapTable",
    "average_precision",
    "class_dice",
    "det",
    "detection_counts",
    "instance_scores",
    "instance_scores_by_threshold",
    "overlap_table",
    "pixel_error",
    "pixel_errors",
    "rand_error",
    "rand_errors",
    "seg",
    "seg_scores",
    "v_info",
    "v_info_scores",
    "v_rand",
    "v_rand_scores",
    "warping_error",
    "warping_errors",
]
