"""A CONDITIONING that differs from seed to seed: noise is added to each token in the first part of the steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.tensors import plain
from ..runtime.noise import streams
from .text_parts import TextPart, text_parts

START, END = "start_percent", "end_percent"  # ComfyUI's names


@plain()
def varied(conditioning: list, seeds: Sequence[int], strength: float, until: float = 0.5) -> list:
    """A CONDITIONING whose row i is the prompt varied by seed i, for a batch with one picture for each seed.

    Each entry becomes two entries: a varied one up to `until`, and the unchanged one from there on. Their ranges are set as
    by ComfyUI's Conditioning Set Timestep Range. For a token t of width D, the strength s and standard normal numbers e of
    the seed:

        t'  =  |t| u / |u|,    u = t + s |t| / sqrt(D) e

    A token keeps its length and turns by about arctan(s), because in a wide space e is nearly orthogonal to t. Padding
    (tokens that the attention mask leaves out, and tokens of zeros) stays as it is, and so does everything else.

    Parameters
    ----------
    conditioning : entries [tokens [1, ..., D], options], of any model and of any lengths; they are not changed.
    seeds : of the n rows. Each seed has its own numbers, which differ from the noise of its picture.
    strength : s, at least 0; at 0 the entries stay as they are.
    until : the share of the noise schedule that is varied, above 0 and at most 1. The first steps lay out a picture; the
        later steps follow the prompt itself.

    Returns
    -------
    A new CONDITIONING, tokens [n, ..., D] in the precision and on the device of the old ones.

    Raises
    ------
    RarityError : no seed, a number out of range; no entry, an entry without tokens or with the tokens of several texts.
    """
    if not seeds or not strength >= 0 or strength == float("inf") or not 0 < until <= 1:
        raise RarityError(
            f"Varied are the prompts of at least 1 seed, with a finite strength of 0 or more, until above 0 and at most 1; got {len(seeds)} "
            f"seeds, {strength} and {until}."
        )
    if not conditioning:
        raise RarityError("The positive CONDITIONING has no entry: there is no prompt to vary.")
    for tokens, _ in conditioning:
        if not isinstance(tokens, Tensor) or tokens.dim() < 2 or len(tokens) != 1 or not tokens.is_floating_point():
            got = f"shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise RarityError(f"Each entry of the positive CONDITIONING must hold the tokens of one text, shape [1, T, D], got {got}.")
    if strength == 0:
        return list(conditioning)
    random = [streams(seed, 0, 1, "variation")[0] for seed in seeds]
    entries = []
    for tokens, options in conditioning:
        told, *further = text_parts(tokens, options)
        moved = {part.name: _moved(part, strength, random) for part in further}
        moved_tokens = _moved(told, strength, random)
        start, end = options.get(START, 0.0), options.get(END, 1.0)
        if start < until:
            entries.append([moved_tokens, {**options, **moved, START: start, END: min(end, until)}])
        if end > until:
            entries.append([tokens, {**options, START: max(start, until), END: end}])
    return entries


def _moved(part: TextPart, strength: float, random: list[torch.Generator]) -> Tensor:
    """A part [1, ..., D] as rows [n, ..., D], each moved by its own generator."""
    length = part.rows.norm(dim=2, keepdim=True)
    moves = part.spoken[:, None] & (length > 0)
    rows = []
    for one in random:
        turned = part.rows + strength * length / part.rows.shape[2] ** 0.5 * torch.randn(part.rows.shape, generator=one)
        turned = turned * (length / turned.norm(dim=2, keepdim=True).clamp_min(1e-30))
        rows.append(torch.where(moves, turned, part.rows).view(part.tensor.shape[1:]))
    return torch.stack(rows).to(part.tensor)
