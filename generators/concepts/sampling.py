"""New samples of a model that has learnt a concept: from any checkpoint, with any seed and prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.progress import Progress
from ..kandinsky.prior import Prior
from ..kandinsky.prior_chain import PriorChain
from ..runtime.captured import Captured
from ..runtime.memory import in_pieces
from ..runtime.noise import normals, streams
from .concept import Concept, concept_keys
from .lora import adapted, layout
from .word import check_length, find_word, meaning


class Chain:
    """Samples of a prompt with gradients, which flow through text, prefix and every denoising step.

    Parameters
    ----------
    prior, prompt, negative_prompt, steps, guidance : as `Prior.sample`.
    reread : whether the texts are read anew at every draw, because a word changes; otherwise once, without gradients.
    """

    def __init__(self, prior: Prior, prompt: str, negative_prompt: str, steps: int, guidance: float, reread: bool):
        self._prior, self._rounds = prior, steps + 1
        self._texts = [prompt, negative_prompt] if guidance > 1 else [prompt]
        mask = prior.tokenize(self._texts).attention_mask.bool()
        self._chain = PriorChain(prior.transformer, prior.scheduler, mask, steps, guidance)
        self._read = None
        if not reread:
            with torch.no_grad():
                self._read = prior.read(self._texts)

    def look(
        self, seed: int, rows: range, purpose: str = "prior", tick: Callable[[int], None] | None = None
    ) -> Tensor:
        """As `draw`, without gradients, and with as many samples at a time as fit in memory."""
        with torch.no_grad():
            pieces = in_pieces(rows, len(rows), lambda some: self.draw(seed, some, purpose, tick), self._prior.placement)
            return torch.cat([x for _, x in pieces])

    def draw(
        self, seed: int, rows: range, purpose: str = "prior", tick: Callable[[int], None] | None = None
    ) -> Tensor:
        """The samples `rows` of a seed, [n, d] float32 on the CPU, raw.

        purpose : names a stream of noise; with "prior" the samples are those of `Prior.sample`.
        tick : called after every denoising step, and again when gradients pass it; it may raise to cancel.
        """
        prior = self._prior
        read = self._read or prior.read(self._texts)
        device = prior.placement.bring(prior.transformer)
        read = (read.embedding.to(device), read.hidden.to(device))
        chain = self._chain.to(device)
        noise = normals(streams(seed, rows.start, len(rows), purpose), prior.space.width)
        # Every iteration of learning changes these weights, and with them all keys and values of the prefix.
        learnt = [weight for weight in prior.transformer.parameters() if weight.requires_grad]
        wanted = torch.is_grad_enabled() and (learnt or any(part.requires_grad for part in read))
        if wanted and (captured := Captured(prior.transformer, "Learning")).replays:
            noise = torch.stack([next(noise) for _ in range(self._rounds)]).to(device)
            x = captured.with_gradients(
                lambda noise, *read: chain.draw(chain.read(*read), iter(noise)), learnt, (noise, *read), noise[0]
            )
            if tick:
                tick(self._rounds - 1)
                if x.requires_grad:
                    x.register_hook(lambda _: tick(self._rounds - 1))
        else:
            x = chain.draw(chain.read(*read), noise, tick)
        return x.float().cpu()


@contextmanager
def applied(prior: Prior, concept: Concept, prompt: str = "", checkpoint: int = -1) -> Iterator[None]:
    """Inside this context the prior knows the concept. Afterwards it is the same as before, bit for bit.

    Parameters
    ----------
    prompt : the prompt in which the word has its learnt meaning; empty is the concept's own.
    checkpoint : see `Concept`.

    Raises
    ------
    RarityError : a concept of another model, a prompt that lacks the word or is too long, no such checkpoint.
    """
    prompt = prompt or concept.prompt
    prior.space.require_same(concept.space, "concept")
    check_length(prior, prompt)
    token, lora = concept.token(checkpoint), concept.lora(checkpoint)
    with ExitStack() as stack:
        if token is not None:
            width = prior.text_encoder.get_input_embeddings().embedding_dim
            if len(token) != width:
                raise _foreign(f"its token is {len(token)} wide, this text encoder's are {width}")
            stack.enter_context(meaning(prior, find_word(prior, prompt, concept.word), token))
        if lora:
            matrices = stack.enter_context(adapted(prior.transformer, concept.layout[0][1]))
            if layout(matrices) != concept.layout:
                raise _foreign(f"its LoRA has {len(lora)} matrices of other names or sizes than this prior's {len(matrices)}")
            for name, weight in matrices.items():
                weight.data.copy_(lora[name])
        yield


def sample_concept(
    prior: Prior,
    concept: Concept,
    count: int,
    *,
    prompt: str = "",
    checkpoint: int = -1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    batch_size: int = 0,
    progress: Progress | None = None,
) -> Embeddings:
    """Embeddings of the pictures that the model makes for a prompt while it knows the concept.

    Parameters
    ----------
    prompt : empty is the prompt of the concept. Another prompt must hold the concept's word, unless it is a LoRA alone.
    checkpoint : number of the checkpoint; 0 is the model as it was, -1 the last.
    count, seed, steps, guidance, negative_prompt, batch_size, progress : as `Prior.sample`; None is the concept's own.

    Raises
    ------
    RarityError : as `applied` and `Prior.sample`.
    """
    asked = {"steps": steps, "guidance": guidance, "negative_prompt": negative_prompt}
    settings = {name: concept.settings[name] if value is None else value for name, value in asked.items()}
    prompt = prompt or concept.prompt
    with applied(prior, concept, prompt, checkpoint):
        rows = prior.sample(prompt, count, seed=seed, batch_size=batch_size, progress=progress, **settings)
    learnt = {"kind": "concept", "concept": concept.kind, "word": concept.word, "iteration": concept.steps[checkpoint]}
    names, bits = (concept.kind, concept.prompt, concept.word), concept.trajectory.target_bits
    sampled = {"prompt": prompt, "seed": seed, **settings, "guidance": float(settings["guidance"])}
    keys = concept_keys(rows.space, names, bits, concept.settings, range(count), **sampled)
    return Embeddings(rows.vectors, rows.space, source={**rows.source, **learnt}, keys=keys)


def _foreign(why: str) -> RarityError:
    return RarityError(f"This concept was learnt with another model: {why}. Load the model it was learnt with, or learn it anew.")
