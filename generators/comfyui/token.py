"""A new word for ComfyUI's own text encoders: steered to rarity, and saved as a file that `embedding:NAME` loads."""

from __future__ import annotations

import copy
import re
import tempfile
import uuid
from pathlib import Path

import safetensors.torch
import torch
from comfy.sd1_clip import load_embed
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.tensors import ordinary, plain
from ...density.estimators.contract import Density
from ...density.steering.guardrails import Guardrail
from ...density.steering.trajectory import Trajectory
from ..runtime.exported import check_ours, put_ours
from .condition import Condition
from .gradients.gradients_pass import gradients_pass
from .gradients.recomputed import frozen, own, recomputed
from .model_baseline import ModelPictures
from .steer_condition import steer_condition
from .text_parts import POOLED

ENCODERS = {"l": "clip_l", "g": "clip_g", "h": "clip_h"}  # ComfyUI's key of tokens -> its key in an embedding file
STEP_SIZES = {"gradient": 0.05, "evolution": 0.5}
NEIGHBOURS = 64  # words nearest to the start word; they show the directions in which words vary
MARK = 12345.0  # a value that no table of embeddings holds
PLACE = object()


def optimize_token(
    word: Word,
    drawing: ModelPictures,
    eye,
    density: Density,
    one_in: float = 1000,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    path: Path,
    name: str,
    engine: str = "gradient",
    dimensions: int = 8,
    step_size: float = 0.0,
    **settings,
) -> tuple[list, Trajectory, str, Tensor]:
    """Find a word whose pictures, with any seed, are as rare as asked, and write it for stock ComfyUI.

    Parameters
    ----------
    word : the prompt, and the vector that the word starts from.   drawing : how pictures are drawn, with `word.positive`.
    eye : encodes pictures.   density : what is usual for this drawing and this eye.
    one_in, guardrails, engine : see `steer`.
    path : of the file. An existing file is replaced only if this pack wrote it, and only after success.
    name : the name by which a prompt loads the file.
    dimensions : the number of directions that evolution may use.   step_size : 0 is the engine's own; see STEP_SIZES.
    settings : those of `steer_condition`.

    Returns
    -------
    The CONDITIONING of the prompt with the new word; the trajectory; a report in words; the pictures [n, H, W, 3] under it.

    Raises
    ------
    RarityError : as `steer_condition`; a name that a prompt cannot hold, or that finds another file.
    """
    word.check_name(name, path)
    basis = word.spread if engine == "gradient" else word.subspace(dimensions)
    change, trajectory, report, pictures = steer_condition(
        word, basis, drawing, eye, density, one_in, guardrails, engine=engine,
        step_size=step_size or STEP_SIZES.get(engine, 1.0), **settings,
    )
    put_ours(path, word.file(change))
    report += f' Saved as {path.name}: write "embedding:{name}" where "{word.placeholder}" stands.'
    with plain():
        return word.moved(change), trajectory, report, pictures


class Word:
    """A prompt in which one word is a vector for each text encoder. It is read exactly as ComfyUI reads `embedding:NAME`.

    Parameters
    ----------
    clip : a CLIP socket with text encoders of CLIP: Stable Diffusion 1.5, 2, XL, Stable Cascade. It is not changed.
    prompt : holds the placeholder, with a space before it.   placeholder : a word or sign that stands for the new word.
    start_word : the new word starts from the mean of the tokens of this word. `embedding:NAME` starts from a file.

    Attributes
    ----------
    vector : [k], the start; the vectors of several text encoders one after another.
    positive : the CONDITIONING of the prompt at the start.

    Raises
    ------
    RarityError : another kind of text encoder; no placeholder in the prompt; no start word; an embedding that is not
        finite, or lacks a text encoder.
    """

    def __init__(self, clip, prompt: str, placeholder: str, start_word: str):
        self.clip, self.placeholder = clip, placeholder.strip()
        start = clip.tokenize(start_word, return_word_ids=True)
        if not set(start) <= set(ENCODERS):
            raise RarityError(
                f"A word is learnt for the text encoders of CLIP (Stable Diffusion 1.5, 2 and XL), got {', '.join(start)}. "
                "Use Make Rare: Conditioning for this model."
            )
        with torch.inference_mode():
            clip.load_model()
            self._tables = {key: self._table(key) for key in sorted(start)}
            self.vector = ordinary(torch.cat([self._mean(key, start[key]) for key in self._tables]), torch.float32)
        if not torch.isfinite(self.vector).all():
            raise RarityError(f"The start word {start_word!r} has an embedding that is not finite. Choose another one.")
        self._template = self._read(prompt)
        self.positive = self.moved(torch.zeros_like(self.vector))
        Condition(self.positive, "prompt's")

    @property
    def spread(self) -> Tensor:
        """The unit of an offset, [k]: for each text encoder one number, the spread of all its words around their average."""
        with plain():
            tables = self._tables.values()
            return torch.cat([(x - x.mean(dim=0)).square().mean().sqrt().expand(x.shape[1]) for x in tables])

    def subspace(self, most: int) -> Tensor:
        """Directions in which words like the start word vary, as columns [k, m], m <= most. Each is as long as the spread.

        They are the principal directions of the offsets from the start to the nearest words, by cosine in the unit of
        `spread`.
        """
        with plain():
            unit = self.spread
            start = self.vector / unit
            words = torch.cat(list(self._tables.values()), dim=1) / unit
            nearest = torch.nn.functional.cosine_similarity(words, start[None]).topk(min(NEIGHBOURS, len(words))).indices
            _, strength, directions = torch.linalg.svd(words[nearest] - start, full_matrices=False)
            return (directions * strength[:, None] * len(nearest) ** -0.5 * unit)[:most].T.contiguous()

    def moved(self, change: Tensor) -> list:
        """The CONDITIONING of the prompt if the word's vector is changed by [k]; differentiable."""
        vector = self.vector + change
        if vector.requires_grad:
            return self._differentiable(vector)
        with torch.inference_mode():
            made = self.clip.encode_from_tokens_scheduled(self._tokens(vector))
        return own(made)

    def file(self, change: Tensor) -> dict[str, Tensor]:
        """The tensors of an embedding file for ComfyUI: name of a text encoder -> vector [1, d]."""
        return {ENCODERS[key]: row[None] for key, row in self._rows(self.vector + change).items()}

    def check_name(self, name: str, path: Path) -> None:
        """Raise a RarityError unless `embedding:NAME` in a prompt loads the file at this path, and no other file."""
        if name.split() != [name] or set(name) & set("()[]{}<>,"):
            raise RarityError(f"The name is written in prompts: one word without brackets and commas, such as rare-chair; got {name!r}.")
        check_ours(path)
        folders = getattr(self.clip.tokenizer, ENCODERS[next(iter(self._tables))]).embedding_directory
        if folders and not path.exists() and load_embed(name, folders, 0) is not None:
            raise RarityError(f'"embedding:{name}" already loads another file than {path}. Choose another name.')

    def _differentiable(self, vector: Tensor) -> list:
        ((tokens, options),) = self.positive
        model = self.clip.cond_stage_model
        encode = frozen(model, model.encode_token_weights, self.clip.load_model)

        def flat(x: Tensor) -> Tensor:
            model.reset_clip_options()
            if self.clip.layer_idx is not None:
                model.set_clip_options({"layer": self.clip.layer_idx})
            model.set_clip_options({"execution_device": self.clip.patcher.load_device})  # weights may lie elsewhere
            return torch.cat([part.flatten() for part in encode(self._tokens(x))[:2]])

        made = recomputed(flat, vector, within=gradients_pass)
        size = tokens.numel()
        return [[made[:size].view_as(tokens), options | {POOLED: made[size:].view_as(options[POOLED])}]]

    def _rows(self, vector: Tensor) -> dict[str, Tensor]:
        widths = [table.shape[1] for table in self._tables.values()]
        return dict(zip(self._tables, vector.split(widths), strict=True))

    def _tokens(self, vector: Tensor) -> dict:
        """The prompt's tokens, with the word's vectors in its places."""
        rows = self._rows(vector)
        return {key: [[(rows[key] if one is PLACE else one, weight) for one, weight in part] for part in parts]
                for key, parts in self._template.items()}

    def _table(self, key: str) -> Tensor:
        """The vectors of all words of a text encoder, [n, d] float32."""
        return ordinary(getattr(self.clip.cond_stage_model, ENCODERS[key]).transformer.get_input_embeddings().weight, torch.float32)

    def _mean(self, key: str, parts: list) -> Tensor:
        found = [one for part in parts for one, _, word in part if word]
        if not found:
            raise RarityError("The start word is empty, or an embedding that is not there. Give a word such as chair.")
        return torch.stack([self._checked(key, one) if isinstance(one, Tensor) else self._tables[key][one] for one in found]).mean(dim=0)

    def _checked(self, key: str, embedding: Tensor) -> Tensor:
        width = self._tables[key].shape[1]
        if embedding.shape != (width,):
            raise RarityError(
                f"An embedding lacks vectors for {ENCODERS[key]}: they are {embedding.shape[-1]} wide, expected {width}. "
                "Its file was made for another model, or holds only one of its text encoders; make it anew."
            )
        return embedding.float().cpu()

    def _read(self, prompt: str) -> dict:
        """The prompt's tokens as ComfyUI reads them with an embedding for the placeholder; PLACE stands for its vectors."""
        name = f"rarity-{uuid.uuid4().hex}"
        bounded = rf"(?<!\w){re.escape(self.placeholder)}(?!\w)"
        text, places = re.subn(bounded, f"embedding:{name}", prompt) if self.placeholder else (prompt, 0)
        if not places:
            raise RarityError(
                f"The prompt {prompt!r} does not hold the placeholder {self.placeholder!r}. Write it where the new word is to "
                'stand, such as "a photo of a *".'
            )
        with tempfile.TemporaryDirectory() as folder:
            marks = {ENCODERS[key]: torch.full((1, table.shape[1]), MARK) for key, table in self._tables.items()}
            safetensors.torch.save_file(marks, Path(folder) / f"{name}.safetensors")
            tokens = self._reader(folder).tokenize(text)
        for key, parts in tokens.items():
            for part in parts:
                part[:] = [(self._place(key, one), weight) for one, weight in part]
            if sum(one is PLACE for one, _ in _entries({key: parts})) != places:
                raise RarityError(
                    f"The placeholder {self.placeholder!r} must be a word of its own in {prompt!r}: with a space before it, and a space, a "
                    "comma or a bracket behind it."
                )
        return tokens

    def _place(self, key: str, one):
        if not isinstance(one, Tensor):
            return one
        vector = self._checked(key, one)
        return PLACE if bool((vector == MARK).all()) else vector

    def _reader(self, folder: str):
        """A clone of the CLIP that also looks for embeddings in this folder."""
        reader = self.clip.clone()
        reader.tokenizer = copy.copy(self.clip.tokenizer)
        for key in self._tables:
            one = copy.copy(getattr(reader.tokenizer, ENCODERS[key]))
            known = [one.embedding_directory] if isinstance(one.embedding_directory, str) else one.embedding_directory or ()
            one.embedding_directory = [folder, *known]
            setattr(reader.tokenizer, ENCODERS[key], one)
        return reader


def _entries(tokens: dict) -> list[tuple]:
    """All pairs of a token and its weight."""
    return [pair for parts in tokens.values() for part in parts for pair in part]
