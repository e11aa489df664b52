"""ComfyUI's CONDITIONING as one vector that can be moved: its tokens, and what further text encoders add to them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ....density.base.errors import RarityError
from .text_parts import POOLED, TOKENS, TextPart, text_parts

LEAST = 1e-6  # a unit of an offset; smaller ones are lost in rounding


class Condition:
    """One entry of a CONDITIONING. The given list and everything else in it (masks, hints, areas) stay as they are.

    Parameters
    ----------
    conditioning : [[tokens [1, T, D], options]], one entry.   what : its name in errors.

    Attributes
    ----------
    vector : [k] float32, all tensors of the text one after another: the tokens, the pooled vector, and those of further
        text encoders.

    Raises
    ------
    RarityError : no entry or several, no tokens, several rows of them, values that are not finite.
    """

    def __init__(self, conditioning, what: str = "positive"):
        if len(conditioning) != 1:
            raise RarityError(
                f"The {what} CONDITIONING must have one entry, got {len(conditioning)}. Steer the entry that is to change by "
                "itself, and combine it with the others afterwards."
            )
        ((tokens, options),) = conditioning
        if not isinstance(tokens, Tensor) or tokens.dim() != 3 or len(tokens) != 1:
            got = f"shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise RarityError(f"The {what} CONDITIONING must hold the tokens of one text, shape [1, T, D], got {got}.")
        self._options, self._parts = options, tuple(text_parts(tokens, options))
        self.vector = torch.cat([part.rows.flatten() for part in self._parts])
        if not torch.isfinite(self.vector).all():
            raise RarityError(f"The {what} CONDITIONING holds values that are not finite. Load its text encoder in float32.")

    @property
    def spread(self) -> Tensor:
        """The unit of each number of an offset, [k]; see `_unit`."""
        return torch.cat([_unit(part).flatten() for part in self._parts])

    def moved(self, change: Tensor) -> list:
        """A new CONDITIONING whose vector is changed by [k]; differentiable. It shares all else with the old one."""
        pieces = (self.vector + change).split([part.rows.numel() for part in self._parts])
        now = {
            part.name: piece.view(part.tensor.shape).to(part.tensor.dtype)
            for part, piece in zip(self._parts, pieces, strict=True)
        }
        tokens = now.pop(TOKENS)
        return [[tokens, {**self._options, **now}]]

    def subspace(self, variations, most: int) -> Tensor:
        """Directions in which the text varies, as columns [k, m], m <= most. The length of each is the spread along it.

        Parameters
        ----------
        variations : a CONDITIONING with one entry for each other wording of the text, of any length; see `_other`. None
            takes the principal directions of the text's own tokens; see `_principal`.
        most : the largest number of directions.

        Raises
        ------
        RarityError : variations of another text encoder; no variation that differs from the text.
        """
        if not variations:
            return self._own(most)
        changes = self.changes(variations)
        _, strength, directions = torch.linalg.svd(changes, full_matrices=False)
        used = strength > 1e-4 * max(float(strength.max()), LEAST)
        return ((directions[used] * strength[used, None])[:most].T / len(changes) ** 0.5).contiguous()

    def changes(self, variations) -> Tensor:
        """The change that each other wording makes to the vector, [n, k]. variations, errors : as for `subspace`."""
        changes = torch.stack([self._change(Condition([entry], "variations")) for entry in variations])
        if not changes.norm(dim=1).max() > LEAST:
            raise RarityError("The variations do not differ from the positive CONDITIONING. Give other wordings of the prompt.")
        return changes

    def _change(self, other: Condition) -> Tensor:
        """The change [k] that another wording makes. What the wording has no tensor for stays: quoted words make one, for example."""
        theirs = {part.name: part for part in other._parts}
        changes = []
        for part in self._parts:
            its = theirs.get(part.name)
            if its is None and part.name != POOLED:
                changes.append(torch.zeros_like(part.rows))
            elif its is None or _sizes(its) != _sizes(part):
                what = "tokens" if part.name == TOKENS else part.name
                raise RarityError(
                    "The variations must be encoded with the same CLIP as the positive CONDITIONING, which holds "
                    f"{what} {tuple(part.tensor.shape)}; got {f'{what} {tuple(its.tensor.shape)}' if its else f'no {what}'}."
                )
            else:
                changes.append(_other(part, its))
        return torch.cat([change.flatten() for change in changes])

    def _own(self, most: int) -> Tensor:
        """The principal directions of all parts of several tokens: the first of each part, then the second of each."""
        found = [(rank, place, x) for place, part in enumerate(self._parts) for rank, x in enumerate(_principal(part, most))]
        chosen = sorted(found, key=lambda one: one[:2])[:most]
        if not chosen:
            raise RarityError("The prompt is of one token only, which has no directions of its own. Connect variations of it.")
        starts = [0, *itertools.accumulate(part.rows.numel() for part in self._parts)]
        basis = torch.zeros(len(self.vector), len(chosen))
        for column, (_, place, change) in enumerate(chosen):
            basis[starts[place] : starts[place + 1], column] = change.flatten()
        return basis


def _sizes(part: TextPart) -> tuple[int, int]:
    """All sizes of a part but the number of its tokens."""
    return len(part.rows), part.rows.shape[2]


def _unit(part: TextPart) -> Tensor:
    """The unit of an offset of a part, [g, T, D]. Padding has the unit 0, and is never moved.

    Of a single vector it is the standard deviation of its numbers. Of several tokens t of width D it is the spread of
    their directions, in proportion to the length of each token:

        unit_t  =  |t| / sqrt(D)  sqrt( mean_s | s/|s| - mean_r r/|r| |^2 )

    If all tokens have one length, this is their standard deviation around the average token. Language models have tokens
    that are a hundred times as long as the others; they do not change the unit of the others.
    """
    rows, spoken = part.rows, part.spoken
    if int(spoken.sum()) * len(rows) < 2:
        unit = rows[:, spoken].std(dim=2, correction=0, keepdim=True) if spoken.any() else rows[:, spoken, :1]
    else:
        length = rows[:, spoken].norm(dim=2, keepdim=True)
        unit = length / rows.shape[2] ** 0.5 * _centred(part).square().sum(dim=1).mean().sqrt()
    units = torch.zeros_like(rows)
    units[:, spoken] = unit.clamp_min(LEAST)
    return units


def _centred(part: TextPart) -> Tensor:
    """The directions of the tokens, around their average, [g n, D]."""
    directions = torch.nn.functional.normalize(part.rows[:, part.spoken], dim=2).flatten(0, 1)
    return directions - directions.mean(dim=0)


def _principal(part: TextPart, most: int) -> list[Tensor]:
    """The principal directions of the tokens, each as a change [g, T, D] of all tokens in proportion to their lengths."""
    centred = _centred(part)
    if len(centred) < 2:
        return []
    _, strength, directions = torch.linalg.svd(centred, full_matrices=False)
    used = strength > 1e-4 * max(float(strength.max()), LEAST)
    lengths = part.rows.norm(dim=2, keepdim=True) * part.spoken[:, None]
    return [lengths * one for one in (directions * strength[:, None])[used][:most] / len(centred) ** 0.5]


def _other(part: TextPart, other: TextPart) -> Tensor:
    """The change [g, T, D] from a text to another wording of any length.

    The tokens of the shorter wording stand opposite those of the longer one: its first half from the start on, its second
    half up to the end. So what encoders put before and after a prompt stands opposite itself. The tokens in the middle of a
    longer text stay as they are, and padding does.
    """
    places, theirs = part.spoken.nonzero()[:, 0], other.spoken.nonzero()[:, 0]
    shorter = min(len(places), len(theirs))
    head, tail = (shorter + 1) // 2, shorter // 2
    places, theirs = (torch.cat([x[:head], x[len(x) - tail :]]) for x in (places, theirs))
    change = torch.zeros_like(part.rows)
    change[:, places] = other.rows[:, theirs] - part.rows[:, places]
    return change
