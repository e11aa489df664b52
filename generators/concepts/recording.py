"""The record of learning a concept: the learnt tensors and the readings at every checkpoint, and notes for the user."""

from __future__ import annotations

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.log import get_logger
from ...density.base.tensors import ordinary
from ...density.estimators.contract import Density
from ...density.steering.directions import Wishes
from ...density.steering.gates import Gate
from ...density.steering.guardrails import Guardrail
from ...density.steering.readings import read_all, trajectory_of, what_they_say
from .concept import Concept, concept_keys
from .lora import layout

logger = get_logger(__name__)


class Checkpoints:
    """The checkpoints so far, and the concept that they make.

    Parameters
    ----------
    density, chain, wishes : the density, guardrails and directions that are read.   bits : the rarity asked for.
    gate : the gate that is asked, or None.
    names : kind, prompt and word of the concept.   settings : how it is learnt.
    """

    def __init__(
        self,
        density: Density,
        chain: tuple[Guardrail, ...],
        wishes: Wishes | None,
        bits: float,
        names: tuple[str, str, str],
        settings: dict,
        gate: Gate | None,
    ):
        self.density, self.chain, self.wishes, self.bits = density, chain, wishes, bits
        self.names, self.settings, self.gate = names, settings, gate
        self.notes = what_they_say(*chain, *(wishes.directions if wishes else ()), gate)
        self.source = {"kind": "concept", "prompt": names[1]}
        self.steps, self.embeddings, self.readings, self.losses = [], [], [], []
        self.tokens, self.loras, self.layout = [], [], ()

    def rows(self, x: Tensor) -> Embeddings:
        """Samples [n, d] as embeddings."""
        keys = concept_keys(self.density.space, self.names, self.bits, self.settings, range(len(x)))
        return Embeddings(x, self.density.space, (), self.source, keys)

    def keep(
        self, iteration: int, x: Tensor, loss: float, token: Tensor, matrices: dict[str, Tensor], validity: Tensor | None
    ) -> None:
        """Add a checkpoint: the token [h], the LoRA's matrices by name, and the readings of the probes x [n, d]."""
        self.steps.append(iteration)
        self.embeddings.append(self.rows(x))
        said = {} if validity is None else {"validity": validity}
        self.readings.append(read_all(self.density, self.chain, self.wishes, self.embeddings[-1].vectors) | said)
        self.losses.append(loss)
        self.tokens.append(ordinary(token, torch.float32))
        flat = [ordinary(weight, torch.float32).flatten() for weight in matrices.values()]
        self.loras.append(torch.cat(flat) if flat else torch.zeros(0))
        self.layout = layout(matrices)

    def restore(self, token: Tensor, matrices: dict[str, Tensor]) -> None:
        """Set the learnt tensors back to the last checkpoint."""
        with torch.no_grad():
            if len(token):
                token.copy_(self.tokens[-1])
            sizes = [weight.numel() for weight in matrices.values()]
            for weight, flat in zip(matrices.values(), self.loras[-1].split(sizes) if sizes else (), strict=True):
                weight.copy_(flat.view_as(weight))

    def concept(self) -> Concept:
        """The concept of all checkpoints so far."""
        trajectory = trajectory_of(
            self.density, self.chain, self.gate, self.bits, self.steps, self.embeddings, self.readings
        )
        tokens, loras = torch.stack(self.tokens), torch.stack(self.loras)
        return Concept(*self.names, tokens, loras, self.layout, trajectory, self.settings, self.notes)

    def check_settings(self) -> None:
        """Add a note if the density's samples were drawn with other settings than the concept's."""
        theirs, ours = self.density.source, self.settings
        compared = ("steps", "guidance", "negative_prompt")
        names = [name for name in compared if theirs.get(name, ours[name]) != ours[name]]
        if names:
            described = [", ".join(f"{name} {given[name]!r}" for name in names) for given in (theirs, ours)]
            self.tell(
                f"The density was learnt from samples with {described[0]}, the concept with {described[1]}: rarity is off by as "
                "much as that changes. Sample the baseline with the same."
            )

    def diverged(self, iteration: int, learning_rate: float) -> None:
        """Add a note that values stopped being finite."""
        self.tell(
            f"Learning stopped at iteration {iteration}: its values were no longer finite. What is kept ends with "
            f"iteration {self.steps[-1]}. Choose a learning rate below {learning_rate:g}."
        )

    def compare(self, learning_rate: float) -> None:
        """Add a note if learning ended further from what was asked than it began."""
        if self.losses[-1] > self.losses[0]:
            best = self.steps[min(range(len(self.losses)), key=self.losses.__getitem__)]
            self.tell(
                f"Learning ended further from what was asked than it began; iteration {best} is nearest to it. "
                f"Choose a learning rate below {learning_rate:g}."
            )

    def tell(self, text: str) -> None:
        """Add a note for the user."""
        logger.warning("%s", text)
        self.notes += (text,)
