"""A learned concept: what was learnt at every checkpoint, for which prompt and model, and what was read there."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.base.identity import sample_keys
from ...density.base.spaces import EmbeddingSpace
from ...density.base.tensors import ordinary
from ...density.steering.trajectory import Trajectory

KINDS = ("token", "lora", "token + lora")
MOST_BITS = 64  # of a target: far beyond what any dial offers
_SETTINGS = {"steps": int, "guidance": float, "negative_prompt": str}


@dataclass(frozen=True, eq=False)
class Concept:
    """What was learnt, checkpoint by checkpoint. The first of the S checkpoints is the model as it was before.

    Attributes
    ----------
    kind : "token", "lora" or "token + lora".
    prompt : the prompt it was learnt for.
    word : the word of the prompt whose token was learnt; empty for a LoRA alone.
    tokens : [S, h] float32, the word's embedding; h is 0 for a LoRA alone.
    loras : [S, P] float32, all matrices of the LoRA one after the other; P is 0 for a token alone.
    layout : (name, rows, columns) of each of these matrices, named as PEFT does.
    trajectory : readings of the same few samples at every checkpoint; its space is the model's.
    settings : steps, guidance and negative_prompt of the samples it was learnt from, and how it was learnt.
    notes : what the user should know, in sentences.
    """

    kind: str
    prompt: str
    word: str
    tokens: Tensor
    loras: Tensor
    layout: tuple[tuple[str, int, int], ...]
    trajectory: Trajectory
    settings: dict
    notes: tuple[str, ...] = field(default=())

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the model it was learnt with."""
        return self.trajectory.final.space

    @property
    def steps(self) -> tuple[int, ...]:
        """The iteration of each checkpoint."""
        return self.trajectory.steps

    def index(self, checkpoint: int) -> int:
        """The number from 0 of a checkpoint that is counted from 0, or backwards from -1.

        Raises
        ------
        RarityError : there is no such checkpoint.
        """
        count = len(self.steps)
        if not -count <= checkpoint < count:
            raise RarityError(
                f"The concept has {count} checkpoints: choose one of 0 to {count - 1}, or -1 for the last, got {checkpoint}."
            )
        return checkpoint % count

    def token(self, checkpoint: int = -1) -> Tensor | None:
        """The word's embedding at a checkpoint, [h]; None for a LoRA alone."""
        return self.tokens[self.index(checkpoint)] if self.word else None

    def lora(self, checkpoint: int = -1) -> dict[str, Tensor]:
        """The matrices of the LoRA at a checkpoint, by name; empty for a token alone."""
        sizes = [rows * columns for _, rows, columns in self.layout]
        parts = self.loras[self.index(checkpoint)].split(sizes) if sizes else ()
        return {name: part.view(r, c) for (name, r, c), part in zip(self.layout, parts, strict=True)}

    def summary(self) -> dict:
        """What `inspect_file` shows of a concept: its report, and only the number of its LoRA's many matrices."""
        return {"layout": f"{len(self.layout)} matrices", "report": self.report().splitlines()}

    def report(self) -> str:
        """What was learnt, the result, a line for each checkpoint, and the notes."""
        way = self.trajectory
        what = f"the token {self.word!r}" if self.word else ""
        what = " and ".join(filter(None, (what, "a LoRA of the prior" if self.layout else "")))
        low, high = way.band
        bits, n = way.readings["bits"], len(way.final)
        lines = [
            f"Learnt {what} for {quoted(self.prompt)} in {self.steps[-1]} iterations; read on the same {n} samples at every checkpoint.",
            way.report(),
            "checkpoint  iteration  median bits  in band",
        ]
        for k, (step, row) in enumerate(zip(self.steps, bits, strict=True)):
            inside = int(((low <= row) & (row <= high)).sum())
            lines.append(f"{k:10}  {step:9}  {float(row.median()):11.1f}  {inside:3} of {n}")
        return "\n".join([*lines, *self.notes])

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors from which `from_state` makes the same concept."""
        way = self.trajectory
        fields = {
            "space": self.space.to_dict(),
            "concept": self.kind,
            "prompt": self.prompt,
            "word": self.word,
            "layout": [list(matrix) for matrix in self.layout],
            "steps": list(way.steps),
            "readings": list(way.readings),
            "target_bits": way.target_bits,
            "half_width": way.half_width,
            "extrapolated": way.extrapolated,
            "allowed": {name: [_finite(edge) for edge in edges] for name, edges in way.allowed.items()},
            "settings": self.settings,
            "notes": list(self.notes),
        }
        return fields, {
            "tokens": self.tokens,
            "loras": self.loras,
            "samples": torch.stack([rows.vectors for rows in way.embeddings]),
            "readings": torch.stack(list(way.readings.values()), dim=1).double(),
            "accepted": way.accepted.to(torch.uint8),
        }

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> Concept:
        """The inverse of `state`. Everything is checked, because a file may hold anything.

        Raises
        ------
        RarityError : texts, shapes or numbers that no learning produces.
        """
        space = EmbeddingSpace.from_dict(fields.get("space"))
        # In order: a check may rely on those before it.
        wrong = next((name for name, good in _checks(fields, tensors, space).items() if not good()), None)
        if wrong:
            raise RarityError(f"The concept in this file is damaged: {wrong}. Learn it again and save it.")
        layout = tuple((name, rows, columns) for name, rows, columns in fields["layout"])
        source = {"kind": "concept", "prompt": fields["prompt"]}
        names = fields["concept"], fields["prompt"], fields["word"]
        keys = concept_keys(space, names, fields["target_bits"], fields["settings"], range(tensors["samples"].shape[1]))
        trajectory = Trajectory(
            steps=tuple(fields["steps"]),
            embeddings=tuple(Embeddings(rows, space, (), source, keys) for rows in tensors["samples"]),
            readings=dict(zip(fields["readings"], tensors["readings"].unbind(dim=1), strict=True)),
            target_bits=fields["target_bits"],
            accepted=tensors["accepted"].bool(),
            extrapolated=fields["extrapolated"],
            half_width=fields["half_width"],
            allowed={name: _edges(*edges) for name, edges in fields["allowed"].items()},
        )
        return cls(
            kind=fields["concept"],
            prompt=fields["prompt"],
            word=fields["word"],
            tokens=ordinary(tensors["tokens"], torch.float32),
            loras=ordinary(tensors["loras"], torch.float32),
            layout=layout,
            trajectory=trajectory,
            settings=fields["settings"],
            notes=tuple(fields["notes"]),
        )


def concept_keys(
    space: EmbeddingSpace, names: tuple[str, str, str], bits: float, settings: dict, numbers: range, **asked
) -> Tensor:
    """Keys of a concept's samples, [n] int64.

    They are the same at every checkpoint: the decoder then draws from the same noise, and pictures show what learning
    did.

    Parameters
    ----------
    space : of the model.   names : kind, prompt and word of the concept.   bits : the rarity it was learnt for.
    settings : how it was learnt.   numbers : of the samples.
    asked : prompt, seed, steps, guidance and negative_prompt of the samples, if they differ from the concept's own.
    """
    own = {name: settings.get(name, 0) for name in ("seed", "steps", "guidance", "negative_prompt")}
    learnt = {"names": list(names), "bits": float(bits), "settings": settings}
    sampled = {"prompt": names[1], **own, **asked}
    return sample_keys({"kind": "concept", "space": space.to_dict(), "concept": learnt, "sampled": sampled}, numbers)


def _checks(fields: dict, tensors: dict[str, Tensor], space: EmbeddingSpace) -> dict:
    """Checks of a file's content, by the name of what is wrong if a check fails."""
    kind, layout, steps, names = (fields.get(name) for name in ("concept", "layout", "steps", "readings"))
    settings, notes, allowed = fields.get("settings"), fields.get("notes"), fields.get("allowed")
    samples, readings = tensors["samples"], tensors["readings"]
    s, n = samples.shape[:2]
    return {
        "its kind": lambda: kind in KINDS,
        "its prompt or word": lambda: all(type(fields.get(name)) is str for name in ("prompt", "word"))
        and bool(fields["word"]) == ("token" in kind),
        "the layout of its LoRA": lambda: _sound_layout(layout) and bool(layout) == ("lora" in kind),
        "its checkpoints": lambda: _numbers(steps) and len(steps) == s > 0 and steps == sorted(set(steps)),
        "its token": lambda: len(tensors["tokens"]) == s and (tensors["tokens"].shape[1] > 0) == ("token" in kind),
        "its LoRA": lambda: tuple(tensors["loras"].shape) == (s, sum(rows * columns for _, rows, columns in layout)),
        "its samples": lambda: n > 0 and samples.shape[2] == space.width,
        "its readings": lambda: isinstance(names, list)
        and all(type(name) is str for name in names)
        and {"bits", "residual", "anchor_cosine"} <= set(names)
        and len(set(names)) == len(names)
        and tuple(readings.shape) == (s, len(names), n)
        and tuple(tensors["accepted"].shape) == (n,),
        "its target": lambda: all(type(fields.get(k)) is float and 0 < fields[k] <= MOST_BITS for k in ("target_bits", "half_width"))
        and type(fields.get("extrapolated")) is bool,
        "its guardrails' limits": lambda: isinstance(allowed, dict)
        and all(isinstance(e, list) and len(e) == 2 and all(v is None or type(v) is float for v in e) for e in allowed.values()),
        "its settings": lambda: isinstance(settings, dict)
        and all(type(settings.get(name)) is expected for name, expected in _SETTINGS.items()),
        "its notes": lambda: isinstance(notes, list) and all(type(note) is str for note in notes),
    }


def _numbers(values) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _sound_layout(layout) -> bool:
    return isinstance(layout, list) and all(
        isinstance(m, list) and len(m) == 3 and type(m[0]) is str and _numbers(m[1:]) and min(m[1:]) > 0 for m in layout
    )


def _finite(edge: float) -> float | None:
    return edge if math.isfinite(edge) else None


def _edges(low: float | None, high: float | None) -> tuple[float, float]:
    return -math.inf if low is None else low, math.inf if high is None else high
