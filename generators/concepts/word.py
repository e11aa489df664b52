"""Give one word of a prompt another meaning for a while, by replacing its token's embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...density.base.errors import RarityError, quoted
from ..kandinsky.prior import Prior


@dataclass(frozen=True, eq=False)
class FoundWord:
    """Where a word stands in a prompt: the prompt's tokens [t], the word's places among them [t] bool, its token."""

    prompt_tokens: Tensor
    places: Tensor
    token: int

    def embedding(self, prior: Prior) -> Tensor:
        """A copy of the text encoder's embedding of the word, [h] float32."""
        return prior.text_encoder.get_input_embeddings().weight[self.token].detach().float().clone()


def find_word(prior: Prior, prompt: str, word: str) -> FoundWord:
    """Find a word that is one token in a prompt.

    Parameters
    ----------
    prompt : a text that the model can read to its end.
    word : one of the prompt's words, such as "letter". It is found wherever it stands alone, not as a part of another
        word.

    Returns
    -------
    FoundWord.

    Raises
    ------
    RarityError : an empty word; a word that is several tokens (the error names them) or that the model does not know; a
        prompt that lacks the word or is too long.
    """
    tokenizer = prior.tokenizer
    word = word.strip()
    check_length(prior, prompt)
    ids = tokenizer(word, add_special_tokens=False).input_ids if word else []
    names = [name.removesuffix("</w>") for name in tokenizer.convert_ids_to_tokens(ids)]
    if len(ids) != 1 or ids[0] in tokenizer.all_special_ids:
        parts = " + ".join(map(repr, names)) or "nothing"
        raise RarityError(
            f"The word to learn must be one token of this model; {word!r} is {parts}. Choose a word that is one token: "
            "usually a short, common one."
        )
    tokens = prior.tokenize([prompt]).input_ids[0]
    begins = [True, *(name.endswith("</w>") for name in tokenizer.convert_ids_to_tokens(tokens.tolist())[:-1])]
    begins[1] = True  # after the start of the text
    places = (tokens == ids[0]) & torch.tensor(begins)
    if not places.any():
        raise RarityError(
            f"The word {word!r} is not in the prompt {quoted(prompt)}. The prompt must hold the word that is learnt."
        )
    return FoundWord(tokens, places, ids[0])


@contextmanager
def meaning(prior: Prior, found: FoundWord, embedding: Tensor) -> Iterator[None]:
    """Inside this context the prompt is read with another embedding [h] of the word. Other texts are read as before.

    A hook replaces the output of the embedding table; the table itself is never changed. Gradients flow to the
    embedding.
    """

    def replace(module, inputs: tuple[Tensor], rows: Tensor) -> Tensor:
        ids = inputs[0]
        tokens, places = found.prompt_tokens.to(ids.device), found.places.to(ids.device)
        here = (ids == tokens).all(dim=-1, keepdim=True) & places
        return torch.where(here[..., None], embedding.to(rows), rows)

    hook = prior.text_encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def check_length(prior: Prior, prompt: str) -> None:
    """Raise a RarityError for a prompt that the model cannot read to its end."""
    used, most = len(prior.tokenizer(prompt).input_ids), prior.tokenizer.model_max_length
    if used > most:
        raise RarityError(f"The prompt has {used} tokens, this model reads at most {most}: {quoted(prompt)}. Shorten it.")
