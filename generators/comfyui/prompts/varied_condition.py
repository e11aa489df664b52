"""A CONDITIONING that differs from seed to seed: each token is moved in the first part of the steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ....density.base.errors import RarityError
from ....density.base.tensors import plain
from ...runtime.noise import streams
from .condition import Condition
from .text_parts import TOKENS, TextPart, text_parts

START, END = "start_percent", "end_percent"  # ComfyUI's names


@plain()
def varied(conditioning: list, seeds: Sequence[int], strength: float, until: float = 0.5, variations: list | None = None) -> list:
    """A CONDITIONING whose row i is the prompt varied by seed i, for a batch with one picture for each seed.

    Each entry becomes two entries: a varied one up to `until`, and the unchanged one from there on. Their ranges are set as
    by ComfyUI's Conditioning Set Timestep Range. For a token t of width D, the strength s and standard normal numbers e of
    the seed:

        t'  =  |t| u / |u|,    u = t + s |t| / sqrt(D) e

    A token keeps its length and turns by about arctan(s), because in a wide space e is nearly orthogonal to t. With n other
    wordings of the prompt, the change d_j that the j-th of them makes to the token (see `Condition.changes`) takes the place of
    noise in all directions:

        u = t + s / sqrt(n) sum_j e_j d_j

    At s = 1 a prompt is then moved as far as the wordings lie from it: the root of the mean of their squared distances. Padding
    (tokens that the attention mask leaves out, and tokens of zeros) stays as it is, and so does everything else.

    Parameters
    ----------
    conditioning : entries [tokens [1, ..., D], options], of any model and of any lengths; they are not changed.
    seeds : of the n rows. Each seed has its own numbers, which differ from the noise of its picture.
    strength : s, at least 0; at 0 the entries stay as they are.
    until : the share of the noise schedule that is varied, above 0 and at most 1. The first steps lay out a picture; the
        later steps follow the prompt itself.
    variations : a CONDITIONING with an entry for each other wording, of the same text encoder and of any length. The prompt
        has one entry then.

    Returns
    -------
    A new CONDITIONING, tokens [n, ..., D] in the precision and on the device of the old ones.

    Raises
    ------
    RarityError : no seed, a number out of range; no entry, an entry without tokens or with the tokens of several texts;
        variations of another text encoder, or none that differs from the prompt.
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
    changes = Condition(conditioning).changes(variations) if variations else None
    if strength == 0:
        return list(conditioning)
    random = [streams(seed, 0, 1, "variation")[0] for seed in seeds]
    entries = []
    for tokens, options in conditioning:
        parts = tuple(text_parts(tokens, options))
        if changes is None:
            moved = {part.name: _moved(part, (_noise(part, strength, one) for one in random)) for part in (*parts[1:], parts[0])}
        else:
            offsets = [strength / len(changes) ** 0.5 * (torch.randn(len(changes), 1, generator=one) * changes).sum(dim=0) for one in random]
            pieces = torch.stack(offsets).split([part.rows.numel() for part in parts], dim=1)
            moved = {part.name: _moved(part, piece.view(-1, *part.rows.shape)) for part, piece in zip(parts, pieces, strict=True)}
        moved_tokens = moved.pop(TOKENS)
        start, end = options.get(START, 0.0), options.get(END, 1.0)
        if start < until:
            entries.append([moved_tokens, {**options, **moved, START: start, END: min(end, until)}])
        if end > until:
            entries.append([tokens, {**options, START: max(start, until), END: end}])
    return entries


def _noise(part: TextPart, strength: float, one: torch.Generator) -> Tensor:
    """Noise in all directions, in proportion to the length of each token, [g, T, D]."""
    length = part.rows.norm(dim=2, keepdim=True)
    return strength * length / part.rows.shape[2] ** 0.5 * torch.randn(part.rows.shape, generator=one)


def _moved(part: TextPart, offsets: Iterable[Tensor]) -> Tensor:
    """A part [1, ..., D] as rows [n, ..., D], each moved by an offset [g, T, D]. Tokens keep their lengths."""
    length = part.rows.norm(dim=2, keepdim=True)
    moves = part.spoken[:, None] & (length > 0)
    rows = []
    for offset in offsets:
        turned = part.rows + offset
        turned = turned * (length / turned.norm(dim=2, keepdim=True).clamp_min(1e-30))
        rows.append(torch.where(moves, turned, part.rows).view(part.tensor.shape[1:]))
    return torch.stack(rows).to(part.tensor)
