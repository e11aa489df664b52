"""Seeds that draw different pictures: small pictures show how strongly to vary a CONDITIONING, and each seed gets its own."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.framing import partly_seen
from ...density.base.progress import Progress
from ...density.base.progress import steps as counted
from ...density.drawing.strength_curve import strength_card, strength_curve
from ...density.files.store import load_strength, save_strength
from ...density.novelty.diversity import most_varied
from ...density.novelty.measured_strength import MeasuredStrength
from ...density.novelty.strength import LOOKS, PARTS, FoundStrength, Look, find_part
from ...density.steering.guardrails import Guardrail
from ..runtime.memory import Placement, in_pieces
from .family_advice import unsuited
from .model_baseline import ModelPictures, Preview
from .names import conditioning_name, model_name
from .prompts.varied_condition import varied

MOST = 64  # pictures at each strength
SHOWN, TILE = 4, 160  # pictures of each strength that the curve shows; pixels of the longer side at which they are kept
SURE = 1e-15  # the least distance of a gate's answer from 0 and from 1; for smaller ones float64 has no digits
REMEMBERED = 8  # most measurements that are remembered

TOLD = {"weights": "model", "conditioning": "prompt", "vae": "VAE", "space": "eye"}  # what an artist calls these settings

_MEASURED: dict[tuple, MeasuredStrength] = {}  # the oldest first


@dataclass(frozen=True, eq=False)
class VaryingPictures:
    """Pictures of seeds whose prompt is varied, as an eye sees them and as guards judge them.

    Parameters
    ----------
    drawing : how pictures are drawn, with the unchanged CONDITIONING.   variations : other wordings of it; see `varied`.
    eye : encodes pictures, such as `clip_vision_eye.eye_of` gives.
    guardrails, gate : say whether a picture still is the subject. Both are optional.
    batch_size : pictures at a time; halved if they do not fit in memory.
    tick : called with the number of model steps since the last call. An exception that it raises cancels the work.
    preview : called with each batch.
    """

    drawing: ModelPictures
    eye: object
    guardrails: tuple[Guardrail, ...] = ()
    gate: object = None
    batch_size: int = 4
    placement: Placement | None = None
    tick: Callable[[int], None] = lambda steps: None
    preview: Preview | None = None
    variations: list | None = None

    def look(self, strength: float, until: float, seed: int, count: int) -> tuple[Look, Tensor, Embeddings]:
        """Draw the pictures of `count` seeds from `seed` on. strength, until : see `varied`.

        Returns
        -------
        The look that `find_strength` takes; the pictures [n, H, W, 3]; their embeddings.
        """
        pictures, rows = [], []
        size = 1 if self.drawing.one_by_one else self.batch_size
        for _, (drawn, seen) in in_pieces(
            range(count), size, lambda piece: self._see(strength, until, seed, piece), self.placement or Placement()
        ):
            pictures.append(drawn)
            rows.append(seen)
        seen, drawn = Embeddings.cat(rows), torch.cat(pictures)
        return Look(strength, seen.vectors, self._slack(seen.vectors.double(), drawn)), drawn, seen

    def _see(self, strength: float, until: float, seed: int, piece: range) -> tuple[Tensor, Embeddings]:
        drawing = replace(self.drawing, seed=seed % 2**64)
        seeds = [seed + i for i in piece]
        drawing = replace(drawing, positive=varied(drawing.positive, seeds, strength, until, self.variations))
        done = 0

        def tick(step: int) -> None:
            nonlocal done
            self.tick((step - done) * len(piece))
            done = step

        drawn = drawing.draw(piece, tick)
        if self.preview:
            self.preview(drawn)
        self.tick(0)
        return drawn, self.eye.encode_images(drawn, batch_size=len(drawn))

    def railed(self, x: Tensor) -> list[Tensor]:
        """How far inside the limits of each guardrail embeddings are, [n] each, in the unit of its reading."""
        columns = []
        for rail in self.guardrails:
            low, high = rail.allowed
            reading = rail.reading(x).double()
            columns.append(torch.minimum(reading - low, high - reading))
        return columns

    def _slack(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The same of each guard, [n, g]; of a gate in logits."""
        columns = self.railed(x)
        if self.gate is not None:
            answers = self.gate.validity(drawn, lambda *_: self.tick(0)).double().clamp(SURE, 1 - SURE)
            columns.append(torch.logit(answers) - torch.logit(torch.tensor(self.gate.threshold, dtype=torch.float64)))
        return torch.stack(columns, dim=1) if columns else torch.zeros(len(x), 0, dtype=torch.float64)


def vary_seeds(
    drawing: ModelPictures,
    eye,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    gate=None,
    variations: list | None = None,
    variety: float = 2.0,
    validity: float = 0.95,
    count: int = 4,
    keep: int = 0,
    strength: float = 0.0,
    until: float = 0.0,
    pictures: int = 8,
    batch_size: int = 4,
    placement: Placement | None = None,
    progress: Progress | None = None,
    preview: Preview | None = None,
    path: Path | None = None,
) -> tuple[list[list], list[int], float, float, str, Tensor]:
    """A CONDITIONING for each of several seeds, varied so strongly that the pictures are as varied as asked.

    The strength is measured on the seeds 0, 1, 2, ..., others at each strength, whatever seeds are varied: it depends only on the
    model, the prompt and the settings. It is remembered as long as the process runs, so that more seeds need no second measurement; and for longer in
    a file, if there is a path.

    Parameters
    ----------
    drawing : how the small pictures are drawn. Its seed is the first of the seeds that are varied.
    eye, guardrails, gate, batch_size : see `VaryingPictures`.   variations : other wordings of the prompt; see `varied`.
    variety, validity : see `find_strength`.   until : see `varied`; 0 lets `find_part` choose it.
    count : number of seeds to vary.
    keep : above 0, all seeds are drawn, and so many are kept: those that are most varied together (`most_varied`) among the
        seeds whose pictures every guard allows.
    strength : above 0, it is used as given, with `until`, and nothing is measured.
    pictures : number of pictures at each of 1 + LOOKS strengths.
    placement : is asked to make room when memory is short.   progress : called with (model steps done, all model steps).
    path : the file that the measurement is kept in. It is read where it was made for the same; otherwise it is replaced.

    Returns
    -------
    n CONDITIONINGs; their n seeds; the strength; until; a report in words; a picture [1, H, W, 3] of variety and validity
    over the strength.

    Raises
    ------
    RarityError : numbers out of range, a guardrail of another space than the eye's; as `find_strength`, `varied`, `ModelPictures`
        and `load_strength`.
    """
    _check(eye, guardrails, count, keep, strength, until, pictures, batch_size)
    total = drawing.steps * ((0 if strength else (1 + LOOKS) * pictures) + (count if keep else 0))
    varying = VaryingPictures(drawing, eye, guardrails, gate, batch_size, placement, counted(progress, max(total, 1)), preview, variations)
    seen_as = eye.view(drawing.height, drawing.width)
    if strength:
        said, curve = [f"The strength {strength:g} was given, so nothing was measured."], strength_card(strength)
    else:
        measured, kept = _measured(varying, seen_as, variety, validity, until, pictures, path)
        found, until = measured.found, measured.until
        tiles = {one: shown.float() / 255 for one, shown in measured.tiles.items()}
        strength, curve = found.strength, strength_curve(found, tiles, variety, validity)
        said = [told(found, variety, validity, until), *kept, *partly_seen(seen_as)]
    seeds = [(drawing.seed + i) % 2**64 for i in range(count)]
    if keep:
        seeds, sentence = _kept(varying, strength, until, count, keep)
        said.append(sentence)
    said += unsuited(drawing)
    return [varied(drawing.positive, [seed], strength, until, variations) for seed in seeds], seeds, strength, until, "\n".join(said), curve


def _measured(
    varying: VaryingPictures, seen_as: dict, variety: float, validity: float, until: float, pictures: int, path: Path | None
) -> tuple[MeasuredStrength, tuple[str, ...]]:
    """What was seen at several strengths, and sentences about its file. The same input is measured once."""
    drawing = replace(varying.drawing, seed=0)
    settings = {**drawing.origin, "space": varying.eye.space.to_dict(), **seen_as, "until": until, "variety": float(variety),
                "validity": float(validity), "pictures": pictures,
                "variations": conditioning_name(varying.variations) if varying.variations else None}
    parts = (drawing.vae, *varying.guardrails, *([varying.gate] if varying.gate is not None else []))
    key = (json.dumps(settings, sort_keys=True), *map(weakref.ref, parts))
    said: tuple[str, ...] = ()
    if path is not None:
        gate = varying.gate and {**varying.gate.judge.source, "threshold": varying.gate.threshold}
        settings |= {"vae": model_name(drawing.vae.patcher), "gate": gate}
        if path.exists():
            kept = load_strength(path)
            guards = len(parts) - 1
            other = [TOLD.get(name, name) for name in kept.other_than(settings, varying.railed, guards)]
            if not other:
                return kept, (f"This was read from {path.name}: it was measured before, for the same.",)
            said = (f"{path.name} was replaced: it was measured for another {', '.join(other)}.",)
    if key not in _MEASURED:
        _MEASURED[key] = _measure(varying, variety, validity, until, pictures)
        while len(_MEASURED) > REMEMBERED:
            del _MEASURED[next(iter(_MEASURED))]
    measured = replace(_MEASURED[key], source=settings)
    if path is not None:
        save_strength(measured, path)
        said = (*said, f"It is kept as {path.name}: with the same model, prompt and settings nothing is measured again.")
    return measured, said


def _measure(varying: VaryingPictures, variety: float, validity: float, until: float, pictures: int) -> MeasuredStrength:
    tiles: dict[Look, Tensor] = {}

    def look(strength: float, part: float) -> Look:
        one, drawn, _ = varying.look(strength, part, pictures * len(tiles), pictures)
        scale = min(1.0, TILE / max(drawn.shape[1:3]))
        size = [max(1, round(scale * side)) for side in drawn.shape[1:3]]
        small = interpolate(drawn[:SHOWN].movedim(-1, 1), size=size, mode="area").movedim(1, -1)
        tiles[one] = (255 * small.clamp(0, 1)).round().to(torch.uint8)
        return one

    found, until = find_part(look, variety, validity, (until,) if until else PARTS)
    return MeasuredStrength(found.looks, variety, validity, until, {one.strength: tiles[one] for one in found.looks}, {})


def _kept(varying: VaryingPictures, strength: float, until: float, count: int, keep: int) -> tuple[list[int], str]:
    """The kept seeds, in their order, among those whose pictures still are the subject; and a sentence about them."""
    first = varying.drawing.seed
    look, _, seen = varying.look(strength, until, first, count)
    inside = (look.slack >= 0).all(dim=1).nonzero()[:, 0]
    if len(inside) == 0:
        raise RarityError(
            f"Of {count} pictures none is inside what the guardrails and the gate allow, so there is none to keep. Ask for less variety, "
            "or draw more candidates."
        )
    chosen = sorted(inside[most_varied(seen.select(inside), keep)].tolist())
    fewer = "" if len(chosen) == keep else f" There were no more of them than {len(chosen)}."
    guarded = f" of which {len(inside)} are inside what is allowed" if look.slack.shape[1] else ""
    return ([(first + i) % 2**64 for i in chosen],
            f"Of {count} pictures{guarded}, the {len(chosen)} that together are most varied were kept.{fewer}")


def told(found: FoundStrength, variety: float, validity: float, until: float) -> str:
    """The result in words, and a line for each strength that was looked at."""
    n, unguarded = len(found.looks[0].x), "Nothing was asked whether pictures still are the subject: connect a gate or a guardrail for that."
    part = "in all steps" if until == 1 else f"in the first {until:.0%} of the steps"
    said = [f"At strength {found.strength:g}, {part}, the pictures of different seeds lie {found.variety:.2f} times as far apart as they are drawn "
            f"(give or take {found.error:.2f})."]
    if found.limit == "validity":
        wish = f"The {variety:g} times that were asked for are not reached: with" if variety else "With"
        sure = "too few would still be the subject" if variety else "it would not be sure enough that the pictures still are the subject"
        said.append(f"{wish} more strength, {sure}.")
    elif found.limit == "range":
        longer = "" if until == 1 else " Set until to 0 or 1 for more."
        said.append(f"More strength than that is not tried: beyond it, little is left of the prompt.{longer}")
    if found.guarded:
        said.append(f"About {found.validity:.0%} as many are still the subject as without variation; "
                    + (f"{n} pictures tell that to some points only." if variety else f"at least {validity:.0%} in nine cases of ten."))
    else:
        said.append(unguarded)
    rows = [f"{look.strength:8.3f}  {ratio:7.2f}" + (f"  {look.valid:4d} of {n}" if found.guarded else "")
            for look, ratio in zip(found.looks, found.curves.variety, strict=True)]
    heading = "strength  variety" + ("  still the subject" if found.guarded else "")
    return "\n".join([" ".join(said), heading, *rows])


def _check(eye, guardrails, count: int, keep: int, strength: float, until: float, pictures: int, batch_size: int) -> None:
    for rail in guardrails:
        if rail.space is not None:
            eye.space.require_same(rail.space, f"guardrail {rail.name}")
    if strength and not until:
        raise RarityError(
            f"A strength of {strength:g} was given without until, the part of the sampling that it is for. Set until, too, to what was found "
            "with it; or set strength to 0 to measure both."
        )
    if count < 1 or not 0 <= keep <= count or not 3 <= pictures <= MOST or batch_size < 1 or not strength >= 0:
        raise RarityError(
            f"Expected are a count of at least 1, keep from 0 to the count, 3 to {MOST} pictures, a batch of at least 1 and a strength of 0 or "
            f"more; got {count}, {keep}, {pictures}, {batch_size} and {strength}."
        )
