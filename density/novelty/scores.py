"""How novel a picture is to a viewer: how rare it is for the model, and how unlike what the viewer has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.framing import partly_seen
from ..base.progress import Progress, in_parts, waiting
from ..base.tables import text_table
from ..calibration.surprisal import one_in_from_bits
from ..estimators.contract import Density
from ..estimators.own_samples import calibration_for
from .belief import Belief
from .exposure import ExposureMemory
from .information import information_gain
from .separation import Unseen

HEADS = ("picture", "how new", "90 %", "1 in", "how rare", "unseen", "learnt", "nearest seen", "ordinary")
OF_THE_SEEN = ("unseen", "nearest seen")
SHOWN = 6  # pictures that a short list names


@dataclass(frozen=True, eq=False)
class Novelty:
    """Readings of N pictures, [N] each; bits unless said otherwise.

    Attributes
    ----------
    novelty : the main reading, `global_bits` times `clearness`: an odd picture that was seen before is not new. It is a
        bound: at most one in N fresh ordinary pictures is called 1 in N. If few pictures were seen, nearly one in N is
        (`separation`).
    bits_low, bits_high : 90 % interval of `novelty`: where calibrations on other samples might put it.
    bits : calibrated surprise under the density alone; 10 bits is 1 in 1,024. The density's own samples, and embeddings
        moved from them, are compared with its own samples (`own_samples`).
    global_bits : the same about what the viewer expects (`belief`). It equals `bits` if the viewer has seen nothing, or
        only what is usual.
    clearness : 0 to 1, how clearly a picture differs from everything remembered (`separation`): 0 for a repeat, 1 for a
        picture that is at least as separate as unrelated pictures are by chance.
    information_gain : see the function of this name.
    nearest : index of the nearest remembered item, -1 for an empty memory.
    distance : Euclidean distance to that item, in units of the embedding; infinite for an empty memory.
    conformity : cosine to the density's mean; 1 is as ordinary as a direction can be.
    labels : of the pictures, N texts or none.   nearest_labels : of the nearest remembered items, N texts, "" for none.
    notes : what the user should know, in sentences.
    """

    novelty: Tensor
    bits_low: Tensor
    bits_high: Tensor
    bits: Tensor
    global_bits: Tensor
    clearness: Tensor
    information_gain: Tensor
    nearest: Tensor
    distance: Tensor
    conformity: Tensor
    labels: tuple[str, ...] = ()
    nearest_labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict]:
        """One dictionary of JSON values for each picture; an infinite value becomes None."""
        readings = {name: getattr(self, name).tolist() for name, kept in self.__dict__.items() if isinstance(kept, Tensor)}
        return [
            {
                "label": self.labels[i] if self.labels else "",
                **{name: values[i] if math.isfinite(values[i]) else None for name, values in readings.items()},
                "nearest_label": self.nearest_labels[i] if self.nearest_labels else "",
            }
            for i in range(len(self.novelty))
        ]

    def table(self) -> str:
        """The readings as text, one line a picture under a heading line, columns aligned; and the notes.

        The columns: the picture's number; novelty, its 90 % interval, and as 1 in N; global bits, clearness, information gain;
        the nearest remembered item, and conformity. If nothing was seen, the columns about that are left out.
        """
        seen = bool((self.nearest >= 0).any())
        columns = [j for j, head in enumerate(HEADS) if seen or head not in OF_THE_SEEN]
        lines = [[line[j] for j in columns] for line in (_line(i, row) for i, row in enumerate(self.rows()))]
        return "\n".join([text_table([HEADS[j] for j in columns], lines), *self.notes])

    def brief(self) -> str:
        """The newest pictures, newest first, and the notes: a short list."""
        order = self.novelty.argsort(descending=True, stable=True).tolist()
        lines = [self._words(i) for i in order[:SHOWN]]
        if len(order) > SHOWN:
            lines.append(f"and {len(order) - SHOWN:,} that are less new")
        return "\n".join([*lines, *self.notes])

    def _words(self, i: int) -> str:
        name, bits = (self.labels[i] if self.labels else "") or f"picture {i}", float(self.novelty[i])
        said = f"{name}: 1 in {one_in_from_bits(bits):,.0f}" if round(bits, 1) >= 1 else f"{name}: not new"
        seen = self.nearest_labels[i] if self.nearest_labels else ""
        return said if self.clearness[i] > 0.5 else f"{said}, much like {seen or f'the seen number {int(self.nearest[i])}'}"


def score_novelty(
    items: Embeddings,
    density: Density,
    memory: ExposureMemory,
    *,
    baseline: Embeddings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Novelty:
    """Score every picture by the density and the memory. Each is scored by itself, so their order does not matter.

        novelty = global bits x clearness

    Global bits say how rare the picture is for the model, about what the viewer expects (`Belief`). Clearness is
    min(1, t / T). t = d min(1, d / b)^64 is the separation from what was seen; d is the distance to the nearest seen
    picture, b the distance to the nearest unseen one. T is the separation that unrelated pictures have by chance
    (`Unseen`). A Gaussian cannot tell a copy of an odd picture from another odd picture, but distances can. Novelty is
    a product for two reasons. A large distance must not make a picture more novel than it is rare. A picture whose
    distance is ordinary must keep all of its rarity.

    Parameters
    ----------
    items : N pictures.   memory : what the viewer has seen; may be empty.
    baseline : unseen pictures from which b and T are learnt; without it, the samples that the density has learnt from.
        Thousands of pictures recognise copies better than hundreds.
    seed : of the choice of unseen pictures if there are more than needed.
    progress : that of `information_gain`, which takes longest if the memory is large; called with (0, 1) before that.

    Raises
    ------
    RarityError : different spaces; a baseline of fewer than 50 pictures.
    """
    density.space.require_same(items.space, "pictures to score")
    if baseline is not None:
        density.space.require_same(baseline.space, "baseline")
    tick = waiting(progress)
    calibration = calibration_for(density, items, tick)
    score = in_parts(density.score, items.vectors, tick)
    bits = calibration.bits(score)
    global_bits = Belief(density, memory, tick).bits(bits, items.vectors)
    clearness, distance = torch.ones_like(bits), torch.full_like(bits, math.inf)
    index = torch.full((len(items),), -1)
    if len(memory):
        clearness, distance, index = Unseen(density, memory, baseline=baseline, seed=seed, tick=tick).measure(items)
    # The belief shifts the whole interval by as much as it shifts the bits.
    low, high = ((edge + (global_bits - bits)).clamp_min(0) * clearness for edge in calibration.interval(score))
    return Novelty(
        novelty=global_bits * clearness,
        bits_low=low,
        bits_high=high,
        bits=bits,
        global_bits=global_bits,
        clearness=clearness,
        information_gain=information_gain(items, density, memory, progress=progress),
        nearest=index,
        distance=distance,
        conformity=conformity(items, density),
        labels=items.labels,
        nearest_labels=tuple(memory.labels[i] if i >= 0 else "" for i in index.tolist()),
        notes=partly_seen(items.source, density.source),
    )


def conformity(items: Embeddings, density: Density) -> Tensor:
    """Cosine of every picture to the density's mean, [N]."""
    density.space.require_same(items.space, "pictures to score")
    return normalize(items.vectors.double(), dim=1) @ normalize(density.frame.mean, dim=0)


def _line(i: int, row: dict) -> tuple[str, ...]:
    """The texts of one line of `Novelty.table`, one for each of HEADS."""
    one_in = one_in_from_bits(row["novelty"])
    return (
        row["label"] or str(i),
        f"{row['novelty']:.2f}",
        f"{row['bits_low']:.1f}-{row['bits_high']:.1f}",
        f"{one_in:,.0f}" if one_in < 1e9 else "over 1e9",
        f"{row['global_bits']:.2f}",
        f"{row['clearness']:.0%}",
        f"{row['information_gain']:.2f}",
        row["nearest_label"] or str(row["nearest"]),
        f"{row['conformity']:.3f}",
    )
