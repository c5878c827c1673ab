"""Channels of a loaded image: what the network takes, and what a label may have."""

from __future__ import annotations

from typing import cast

from monai.data import MetaTensor


def fit_channels(image: MetaTensor, channels: int | None, file: str) -> MetaTensor:
    """The image ``(C, *spatial)`` with as many channels as the network takes, without inventing or losing anything.

    Args:
        image: with ``"mode"`` in its metadata where its channels are colours, in Pillow's words.
        channels: what the network takes; where None the image is returned as it is.
        file: its name, for the message.

    Raises:
        ValueError: the image has other channels, and they are not copies of one.
    """
    if channels is None or image.shape[0] == channels:
        return image
    colours = without_alpha(image)
    count = colours.shape[0]
    if count == channels:
        return colours
    if channels == 1 and count == 3 and _all_equal(colours):
        return cast(MetaTensor, colours[:1])
    if count == 1 and channels == 3:
        return cast(MetaTensor, colours.repeat(3, *[1] * (colours.ndim - 1)))
    raise ValueError(
        f"{file} has {count} channels, but this network takes {channels}; "
        f"train a network for them (--in_channels {count}), or save the channels to use as images of their own"
    )


def label_channel(label: MetaTensor, file: str) -> MetaTensor:
    """The label as ``(1, *spatial)``; of a colour image whose channels are all equal, one of them.

    Raises:
        ValueError: the channels differ, so that they are no number of a class or object.
    """
    channels = without_alpha(label)
    if channels.shape[0] == 1 or _all_equal(channels):
        return cast(MetaTensor, channels[:1])
    raise ValueError(
        f"{file} is a label of {channels.shape[0]} different channels, but a label is one channel of class or object "
        "numbers; save it as a gray or palette image, every colour as a number"
    )


def without_alpha(image: MetaTensor) -> MetaTensor:
    """The image without its transparency, where its metadata says that it has one.

    Examples:
        >>> import torch
        >>> without_alpha(MetaTensor(torch.zeros(4, 5, 5), meta={"mode": "RGBA"})).shape[0]
        3
    """
    has_alpha = image.meta.get("mode") in ("RGBA", "LA", "PA") and image.shape[0] in (2, 4)
    return cast(MetaTensor, image[:-1]) if has_alpha else image


def _all_equal(image: MetaTensor) -> bool:
    return bool((image == image[:1]).all())
