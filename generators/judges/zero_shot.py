"""Judges: is this still the subject? One interface for whoever answers."""

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

SCALE = 100.0  # CLIP's own: where the weight of its cosines ends in training


class Judge(Protocol):
    """Whoever says of pictures whether they are still the subject."""

    subject: str
    def probability(self, pictures: Tensor, *, progress: Progress | None = None) -> Tensor:
        """P(yes) of pictures [N, H, W, 3], [N] float64. What `progress` raises cancels."""
        ...


class Eye(Reader, Protocol):
    """Whatever sees pictures and reads words in one space: a Prior, or an encoder of OpenCLIP."""

    def encode_images(self, images: Tensor, *, progress: Progress | None = None) -> Embeddings: ...


class ContrastJudge:
    """Zero-shot: of the subject and its alternatives, does an encoder see the subject?

        P(yes) = softmax over all texts of (SCALE cos(picture, text)), that of the subject

    It looks at the finished picture. A guardrail looks at the embedding that the picture is drawn from, and a decoder may
    make something else of it.
    Source: Radford et al. 2021 (arXiv 2103.00020), section 3.1.

    Parameters
    ----------
    encoder : sees and reads. It reads here and now: what it learns about the subject's words later is not believed.
    subject : such as "a letter R".   alternatives : what it might be instead; see `subject_first`, whose sentences `notes`
        keeps.

    Raises
    ------
    RarityError : no subject, or no alternative.
    """

    def __init__(self, encoder: Eye, subject: str, alternatives: Iterable[str]):
        names, self.notes = subject_first(encoder, subject, alternatives)
        self.subject, self._encoder = names[0], encoder
        self._texts = normalize(ordinary(encoder.encode_text(names)), dim=1)

    def probability(self, pictures: Tensor, *, progress: Progress | None = None) -> Tensor:
        with torch.no_grad():
            rows = self._encoder.encode_images(pictures, progress=progress).vectors
            return torch.softmax(SCALE * normalize(rows.double(), dim=1) @ self._texts.T, dim=1)[:, 0]
