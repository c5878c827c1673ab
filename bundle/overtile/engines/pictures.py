"""What TensorBoard shows of a training beside its curves: pictures, and the learning rate."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from ignite.engine import Engine, Events
from monai.handlers import TensorBoardHandler
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from overtile.engines.batches import StepOutput
from overtile.engines.evaluated_images import drawable, to_array, whole_items
from overtile.reports import training_picture, validation_picture

logger = logging.getLogger(__name__)


class TrainingPictures(TensorBoardHandler):
    """Shows what the latest step of a training saw: input, label, weights, and what the network made of them.

    The prediction is that of the step itself, so a picture costs no pass of the network: it is what the loss has
    seen, with dropout. MONAI's ``TensorBoardImageHandler`` shows neither weights nor colours, and no titles.

    Attach it to a trainer that has :class:`PrepareWeightedBatch`.

    Args:
        log_dir: of TensorBoard's files; made if it does not exist.
        instances: whether labels are instances or classes.
        interval: epochs between pictures.

    Raises:
        OSError: if nothing can be written to ``log_dir``.
    """

    def __init__(self, log_dir: str, instances: bool = True, interval: int = 1) -> None:
        _open(super().__init__, log_dir)
        self.instances = instances
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        """Shows the first sample of the latest batch."""
        _show(self._writer, "training sample", engine.state.epoch, lambda: self._draw(engine.state.output))

    def _draw(self, output: StepOutput) -> Image.Image:
        keys = ("image", "label", "pred")
        sample = output[0] if isinstance(output, list) else {key: output[key][0] for key in keys}
        image, (label, weight) = to_array(sample["image"]), to_array(sample["label"])
        stacked = sample["pred"].ndim > sample["label"].ndim  # deep supervision: the whole resolution stands first
        logits = sample["pred"][0] if stacked else sample["pred"]
        probabilities = to_array(logits.float().softmax(dim=0))
        return training_picture(image.mean(axis=0), label, weight, probabilities, self.instances)


class ValidationPictures(TensorBoardHandler):
    """Shows the first image of a validation, the same each time: image, ground truth, prediction and probability.

    Attach it to an evaluator as :class:`Report`, which takes the same items.

    Args:
        log_dir: of TensorBoard's files; made if it does not exist.
        instances: whether labels are instances or classes.
        ignore_label: value of voxels without ground truth.

    Raises:
        OSError: if nothing can be written to ``log_dir``.
    """

    def __init__(self, log_dir: str, instances: bool = True, ignore_label: int | None = None) -> None:
        _open(super().__init__, log_dir)
        self.instances = instances
        self.ignore_label = ignore_label

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self)

    def __call__(self, engine: Engine) -> None:
        """Shows the first image of the latest batch."""
        _show(self._writer, "validation image", engine.state.epoch, lambda: self._draw(engine))

    def _draw(self, engine: Engine) -> Image.Image:
        item = next(whole_items(engine))
        return validation_picture(*drawable(item, self.instances, self.ignore_label), self.instances)


def write_learning_rate(engine: Engine, writer: SummaryWriter) -> None:
    """Adds the learning rate of the trainer's optimizer to TensorBoard's curves, at the epoch.

    The ``epoch_event_writer`` of a ``TensorBoardStatsHandler`` that stands before the one that steps the rate.
    """
    writer.add_scalar("learning_rate", engine.optimizer.param_groups[0]["lr"], engine.state.epoch)
    writer.flush()


def _open(opens: Callable[..., None], log_dir: str) -> None:
    try:
        opens(log_dir=log_dir)
    except OSError as error:
        raise OSError(
            f"TensorBoard's files cannot be written to {log_dir} ({error.strerror or error}): "
            "choose another folder with --output_dir"
        ) from error


def _show(writer: SummaryWriter, tag: str, epoch: int, draw: Callable[[], Image.Image]) -> None:
    try:
        writer.add_image(tag, np.asarray(draw()), epoch, dataformats="HWC")
        writer.flush()
    except Exception:  # whatever it is, a picture is not worth a training
        logger.exception("no picture of the %s at epoch %d", tag, epoch)
