"""The interface of all judges, and the judge that is an encoder of pictures and words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...density.base.embeddings import Embeddings
from ...density.base.progress import Progress
from ...density.base.tensors import ordinary
from ..eyes.contrast_sources import subject_first
from ..eyes.encoding import Reader

SCALE = 100.0  # the factor of the cosines in CLIP, as its training leaves it


class Judge(Protocol):
    """Says how probably a picture still is the subject."""

    subject: str
    def probability(self, pictures: Tensor, *, progress: Progress | None = None) -> Tensor:
        """P(yes) of pictures [N, H, W, 3], [N] float64. An exception that `progress` raises cancels the work."""
        ...


class Eye(Reader, Protocol):
    """Sees pictures and reads words in one space: a Prior, or an encoder of OpenCLIP."""

    def encode_images(self, images: Tensor, *, progress: Progress | None = None) -> Embeddings: ...


class ContrastJudge:
    """A zero-shot judge: does an encoder see the subject in a picture, or one of its alternatives?

        P(yes) = the subject's entry of softmax(SCALE cos(picture, text)) over all texts

    It looks at the finished picture. A guardrail looks at the embedding that the picture is drawn from, and the decoder
    may draw something else.
    Source: Radford et al. 2021 (arXiv 2103.00020), section 3.1.

    Parameters
    ----------
    encoder : sees pictures and reads words. It reads the words once, now, so that later learning cannot change them.
    subject : such as "a letter R".   alternatives : what a picture might show instead. `subject_first` checks both, and
        `notes` keeps its sentences.

    Attributes
    ----------
    source : all that its answers depend on, as JSON values.

    Raises
    ------
    RarityError : no subject, or no alternative.
    """

    def __init__(self, encoder: Eye, subject: str, alternatives: Iterable[str]):
        names, self.notes = subject_first(encoder, subject, alternatives)
        self.subject, self._encoder = names[0], encoder
        self.source = {"kind": "contrast", "texts": list(names), "space": encoder.space.to_dict()}
        self._texts = normalize(ordinary(encoder.encode_text(names)), dim=1)

    def probability(self, pictures: Tensor, *, progress: Progress | None = None) -> Tensor:
        with torch.no_grad():
            rows = self._encoder.encode_images(pictures, progress=progress).vectors
            return torch.softmax(SCALE * normalize(rows.double(), dim=1) @ self._texts.T, dim=1)[:, 0]
