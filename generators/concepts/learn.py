"""Teach a word, or the prior itself, to mean what is rare: gradients through text, prefix and every prior step."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.log import get_logger
from ...density.base.progress import Progress
from ...density.calibration.surprisal import bits_from_one_in
from ...density.estimators.contract import Density
from ...density.steering.directions import Direction, Wishes
from ...density.steering.gates import Gate, Pullback
from ...density.steering.guardrails import Guardrail
from ...density.steering.optimize import check_spaces, with_defaults
from ..eyes.prompt_tokens import unread
from ..kandinsky.prior import Prior
from ..runtime.captured import forget
from ..runtime.threads import threads_worth
from .concept import KINDS, Concept
from .gradients import Gradients
from .lora import adapted, without
from .objectives import OBJECTIVES, Objective, Places
from .recording import Checkpoints
from .sampling import Chain
from .word import check_length, find_word, meaning

MOST_RATE = 1e30  # AdamW's own arithmetic overflows above this

logger = get_logger(__name__)


def learn_concept(
    prior: Prior,
    density: Density,
    prompt: str,
    word: str = "",
    one_in: float = 1000,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    kind: str = "token",
    objective: str | Callable[[Tensor], Tensor] = "band",
    directions: tuple[Direction, ...] = (),
    iterations: int = 100,
    learning_rate: float | None = None,
    batch: int = 8,
    rank: int = 10,
    steps: int = 5,
    guidance: float = 4.0,
    negative_prompt: str = "",
    keep_every: int = 25,
    probes: int = 16,
    seed: int = 0,
    gate: Gate | None = None,
    progress: Progress | None = None,
    watch: Callable[[Concept], bool | None] | None = None,
) -> Concept:
    """Learn a token, a LoRA or both, so that the prior's samples are as rare as asked, and inside the guardrails.

    The model is changed in place while it learns. Afterwards it is the same as before, bit for bit, whether learning
    ends, is cancelled or fails. Each iteration draws a batch of samples from new noise and is a step of AdamW on

        one of the objectives (`Objective`) + 1/2 sum over wishes (mean reading - wanted)^2

    "band" is zero inside the band and points back into it (`BandLoss`). "places" keeps to the band less exactly, but
    its pictures look rare and stay varied. Both always watch the norm and the residual. "paper" is the published
    objective, which has no lowest value.
    Source: Song & Elgammal 2026 (arXiv 2601.22125), section 3. The defaults are the paper's settings, but for its batch
    of 1.

    Parameters
    ----------
    prior : the model.   density : what it usually makes for the prompt, with the same steps and guidance.
    prompt : a text that the model can read to its end.
    word : the word of the prompt that is learnt, one token: a subject ("handbag") or an adjective ("creative"). It
        starts with its present meaning. A LoRA alone needs no word.
    one_in : the rarity asked for.   guardrails, directions : chains, as for `optimize`.
    kind : "token", "lora" (of the prior) or "token + lora".
    objective : "band", "places", "paper", or a loss: a function of a batch [b, d] float64 on the CPU, that gives [b] or
        a number.
    iterations, learning_rate, batch : the number of AdamW's steps, their size (None is the model's own, 1e-4 for models
        of full size), and the samples in each. A batch that does not fit in memory is drawn in pieces; the step stays
        the same.
    rank : of the LoRA.
    steps, guidance, negative_prompt : of the prior's sampling, as `Prior.sample`.
    keep_every : iterations between checkpoints.
    probes : number of samples that are read at each checkpoint; they are the seed's first.
    seed : of all noise, and of a LoRA's start.
    progress : called with (done, total) several times an iteration, also while a gate is asked; it may raise to cancel.
    gate : asked about the probes at every checkpoint; checkpoints are then `gate.every` iterations apart. The probes
        are valid if their mean P(yes) reaches the gate's threshold. After a No the gate's `on_no` decides. "step back"
        returns to the last valid checkpoint, with a fresh AdamW at half the rate, and ends learning after three No in a
        row. "stop" ends learning at the last valid checkpoint. "go on" ignores the No.
    watch : called at every checkpoint with the concept so far, for example to save it in case learning is cancelled, or
        to show it. It may return False to end learning there.

    Returns
    -------
    Concept. Its first checkpoint is the model as it was. If values stop being finite, it ends before that, with a note.

    Raises
    ------
    RarityError : a word that is not one token or not in the prompt, a prompt that is too long, an unknown kind or
        objective, numbers out of range, a density, guardrail or direction of another space, a gate whose first answer
        is No, not enough memory for one sample.
    """
    learning_rate = prior.learning_rate if learning_rate is None else learning_rate
    counts = {"iterations": iterations, "batch": batch, "keep_every": keep_every, "probes": probes}
    _check(prior, kind, objective, counts, learning_rate, steps, guidance)
    prior.space.require_same(density.space, "density")
    check_spaces(density, Embeddings(density.frame.mean[None], density.space), guardrails, directions)
    check_length(prior, prompt)
    bits = bits_from_one_in(one_in)
    found = find_word(prior, prompt, word) if "token" in kind else None
    settings = {
        "steps": int(steps), "guidance": float(guidance), "negative_prompt": negative_prompt,
        "objective": objective if isinstance(objective, str) else "own",
        "learning_rate": float(learning_rate), "batch": int(batch), "seed": int(seed),
    }
    chain = with_defaults(density, guardrails)
    wishes = Wishes(density, tuple(directions)) if directions else None
    with ExitStack() as contexts:
        for context in (torch.inference_mode(False), torch.enable_grad(), threads_worth(prior.transformer)):
            contexts.enter_context(context)
        contexts.callback(forget, prior.transformer)  # its captured graphs hold the memory of a whole iteration
        watched = tuple(guardrails) if callable(objective) or objective == "paper" else chain
        loss_of = Objective(objective, density, one_in, watched, tuple(directions), prior, prompt)
        usual = Chain(prior, prompt, negative_prompt, steps, guidance, reread=False)  # the text before learning
        token, matrices = torch.zeros(0), {}
        if found is not None:
            prior.placement.bring(prior.text_encoder)
            token = found.embedding(prior).requires_grad_(True)
            contexts.enter_context(meaning(prior, found, token))
        if "lora" in kind:
            prior.placement.bring(prior.transformer)
            matrices = contexts.enter_context(adapted(prior.transformer, rank, seed))
        sampler = Chain(prior, prompt, negative_prompt, steps, guidance, reread=found is not None)
        kept = Checkpoints(density, chain, wishes, bits, (kind, prompt, word.strip() if found else ""), settings, gate)
        kept.check_settings()
        kept.notes += unread(prior.reads([prompt, negative_prompt]))
        learnt = [token, *matrices.values()] if found else list(matrices.values())
        optimiser, rate = torch.optim.AdamW(learnt, learning_rate), learning_rate
        pullback, keep_every = (Pullback(gate), gate.every) if gate else (None, keep_every)
        iteration = 0

        def tick(_=None) -> None:
            if progress:
                progress(iteration, iterations)

        def before(rows: range) -> Tensor:
            with without(prior.transformer):
                return usual.look(seed, rows, "concept", tick)

        places = Places(loss_of, before)
        gradients = Gradients(lambda rows: sampler.draw(seed, rows, "concept", tick), learnt, batch, prior.placement)
        for iteration in range(iterations + 1):
            if iteration % keep_every == 0 or iteration == iterations:
                x = sampler.look(seed, range(probes), tick=tick)
                if kept.steps and not torch.isfinite(x).all():
                    kept.diverged(iteration, learning_rate)
                    break
                validity = gate and gate.validity_of(kept.rows(x), lambda *_: tick())
                answer = pullback.follow(iteration, validity) if gate else "keep"
                if iteration == 0:
                    probe_places = loss_of.places(x) if loss_of.has_places else None
                if answer == "keep":
                    kept.keep(iteration, x, float(loss_of(x.double(), probe_places)), token, matrices, validity)
                    if watch and watch(kept.concept()) is False:
                        break
                if iteration == 0:  # a wish is a move from the readings before learning
                    missed = wishes.missed_from(kept.embeddings[0].vectors.double()) if wishes else lambda x: 0.0
                if answer == "stop":
                    break
                if answer == "step back":
                    kept.restore(token, matrices)
                    rate /= 2
                    optimiser = torch.optim.AdamW(learnt, rate)
            tick()
            if iteration == iterations:
                break
            rows = range(iteration * batch, (iteration + 1) * batch)
            own = places.of(rows, iterations * batch)
            loss = gradients.pull(rows, lambda x, own=own: loss_of(x, own) + missed(x))
            if not torch.isfinite(loss):
                kept.diverged(iteration, learning_rate)
                break
            optimiser.step()
        kept.compare(learning_rate)
        if gate and pullback.refused:
            kept.tell(pullback.note(kept.steps[-1]))
        return kept.concept()


def _check(prior: Prior, kind, objective, counts: dict[str, int], learning_rate, steps, guidance) -> None:
    known = {"kind": (kind, KINDS), "objective": ("band" if callable(objective) else objective, OBJECTIVES)}
    for what, (value, choices) in known.items():
        if value not in choices:
            raise RarityError(f"The {what} of a concept is one of {', '.join(choices)}; got {value!r}.")
    for name, value in counts.items():
        if value < 1:
            raise RarityError(f"The {name} must be at least 1, got {value}.")
    if not 2 <= steps <= prior.scheduler.config.num_train_timesteps:
        raise RarityError(f"The steps must be 2 to {prior.scheduler.config.num_train_timesteps}, got {steps}.")
    if not 0 < learning_rate <= MOST_RATE:
        raise RarityError(f"The learning rate must be above 0 and at most {MOST_RATE:g}, got {learning_rate}.")
    if not math.isfinite(guidance):
        raise RarityError(f"The guidance must be a finite number, got {guidance}.")
