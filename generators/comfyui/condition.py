"""ComfyUI's CONDITIONING as one vector that can be moved: its tokens, and its pooled vector if it has one."""

from __future__ import annotations

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.tensors import ordinary

POOLED = "pooled_output"


class Condition:
    """One entry of a CONDITIONING. The given list and everything else in it (masks, hints, areas) stay as they are.

    Parameters
    ----------
    conditioning : [[tokens [1, T, D], options]], one entry.   what : its name in errors.

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
        self._tokens, self._options = tokens, options
        pooled = options.get(POOLED)
        self._pooled = pooled if isinstance(pooled, Tensor) and len(pooled) == 1 else None
        self.vector = self._flat(tokens, self._pooled)
        if not torch.isfinite(self.vector).all():
            raise RarityError(f"The {what} CONDITIONING holds values that are not finite. Load its text encoder in float32.")

    @staticmethod
    def _flat(*parts: Tensor | None) -> Tensor:
        return ordinary(torch.cat([part.flatten().float().cpu() for part in parts if part is not None]), torch.float32)

    @property
    def spread(self) -> Tensor:
        """The unit of an offset, [k]: one number for all entries of the tokens, and one for those of the pooled vector.

        They are the standard deviation of the tokens around the average token, and that of the pooled vector's numbers.
        """
        size = self._tokens.numel()
        tokens = self.vector[:size].view(self._tokens.shape[1:])
        units = [(tokens - tokens.mean(dim=0)).square().mean().sqrt().expand(size)]
        if self._pooled is not None:
            units.append(self.vector[size:].std(correction=0).expand(len(self.vector) - size))
        return torch.cat(units).clamp_min(1e-6)

    def moved(self, change: Tensor) -> list:
        """A new CONDITIONING whose vector is changed by [k]; differentiable. It shares all else with the old one."""
        vector = self.vector + change
        size = self._tokens.numel()
        options = dict(self._options)
        if self._pooled is not None:
            options[POOLED] = vector[size:].view_as(self._pooled).to(self._pooled.dtype)
        return [[vector[:size].view(self._tokens.shape).to(self._tokens.dtype), options]]

    def subspace(self, variations, most: int) -> Tensor:
        """Directions in which the text varies, as columns [k, m], m <= most. The length of each is the spread along it.

        Parameters
        ----------
        variations : a CONDITIONING with one entry for each other wording of the text. None takes the principal directions
            of the text's own tokens, each added to all tokens alike.
        most : the largest number of directions.

        Raises
        ------
        RarityError : variations of another length or width; no variation that differs from the text.
        """
        if variations:
            others = [Condition([entry], "variations") for entry in variations]
            lengths = {other._tokens.shape for other in others} - {self._tokens.shape}
            if lengths or any(len(other.vector) != len(self.vector) for other in others):
                raise RarityError(
                    f"The variations must be encoded as the positive CONDITIONING is, {tuple(self._tokens.shape)}, got "
                    f"{sorted(map(tuple, lengths)) or 'another pooled vector'}. Encode them with the same CLIP, in as many tokens."
                )
            changes = torch.stack([other.vector - self.vector for other in others])
        else:
            tokens = self.vector[: self._tokens.numel()].view(self._tokens.shape[1:])
            changes = tokens - tokens.mean(dim=0)
        _, strength, directions = torch.linalg.svd(changes, full_matrices=False)
        used = strength > 1e-4 * max(float(strength.max()), 1e-6)
        if not used.any():
            raise RarityError("The variations do not differ from the positive CONDITIONING. Give other wordings of the prompt.")
        columns = (directions[used] * strength[used, None])[:most].T / len(changes) ** 0.5
        if variations:
            return columns.contiguous()
        basis = torch.zeros(len(self.vector), columns.shape[1])
        basis[: self._tokens.numel()] = columns.repeat(len(changes), 1)  # the same for every token; columns stay orthogonal
        return basis
