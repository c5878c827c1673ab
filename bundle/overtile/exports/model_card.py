"""What people should know of a network that they did not train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingData:
    """The images that a network has learnt from.

    Attributes:
        name: of the data set, as BBBC039.
        source: address of the page that describes it.
        citation: whom to cite, as "Ljosa et al. 2012, doi:10.1038/nmeth.2083"; several with semicolons between.
        licence: as an SPDX identifier; None where the provider has terms of their own.
    """

    name: str
    source: str
    citation: str
    licence: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """What people should know of a network that they did not train.

    Attributes:
        name: letters, digits, spaces and ``_+-()``, 5 to 128 of them.
        description: one or two sentences.
        version: of the model, as 1.2.0.
        authors: their names.
        licence: of the weights, as an SPDX identifier.
        papers: (text, DOI) of each paper to cite.
        classes: names of the output channels, the background first.
        tags: words to be found by.
        text: the model card, in Markdown.
        training_data: None where it is unknown.
    """

    name: str
    description: str
    version: str
    authors: Sequence[str]
    licence: str
    papers: Sequence[tuple[str, str]]
    classes: Sequence[str]
    tags: Sequence[str]
    text: str
    training_data: TrainingData | None = None
