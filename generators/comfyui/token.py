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
from .gradients.gradients_pass import gradients_pass_words
from .gradients.recomputed import frozen, own, recomputed
from .model_baseline import ModelPictures
from .prompts.condition import Condition
from .prompts.text_parts import POOLED, TOKENS, text_parts
from .steer_condition import steer_condition

OF_CLIP = ("l", "g", "h")  # ComfyUI's keys of the tokens of CLIP's own text encoders
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
    clip : a CLIP socket whose text encoders all read `embedding:NAME` from a file: CLIP's own, T5 of Flux, Stable Diffusion 3
        and PixArt, Qwen 3 of Z-Image and Klein, Qwen 3 VL of Krea 2, Mistral of Flux.2. It is not changed.
    prompt : holds the placeholder, with a space before it.   placeholder : a word or sign that stands for the new word.
    start_word : the new word starts from the mean of the tokens of this word. `embedding:NAME` starts from a file.

    Attributes
    ----------
    vector : [k], the start; the vectors of several text encoders one after another.
    positive : the CONDITIONING of the prompt at the start.

    Raises
    ------
    RarityError : a text encoder that takes `embedding:NAME` for text; no placeholder in the prompt; no start word; an embedding that is not
        finite, or lacks a text encoder.
    """

    def __init__(self, clip, prompt: str, placeholder: str, start_word: str):
        self.clip, self.placeholder = clip, placeholder.strip()
        self._readers = _readers(clip, sorted(clip.tokenize(start_word)))
        with torch.inference_mode():
            clip.load_model()
            self._tables = {key: self._table(key) for key in self._readers}
            self.vector = ordinary(torch.cat([self._mean(key, start_word) for key in self._tables]), torch.float32)
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
        `spread`. Text encoders that have the same words move together; of others each has directions of its own.
        """
        with plain():
            unit, found = self.spread, []
            sizes, places = [len(table) for table in self._tables.values()], self._split(torch.arange(len(unit)))
            for size in sorted(set(sizes)):
                alike = [key for key, n in zip(self._tables, sizes, strict=True) if n == size]
                rows = torch.cat([places[key] for key in alike])
                words, start = torch.cat([self._tables[key] for key in alike], dim=1) / unit[rows], (self.vector / unit)[rows]
                nearest = torch.nn.functional.cosine_similarity(words, start[None]).topk(min(NEIGHBOURS, len(words))).indices
                _, strength, directions = torch.linalg.svd(words[nearest] - start, full_matrices=False)
                columns = torch.zeros(len(unit), len(strength))
                columns[rows] = (directions * strength[:, None] * len(nearest) ** -0.5 * unit[rows]).T
                found.append((strength, columns))
            strengths, columns = torch.cat([one for one, _ in found]), torch.cat([one for _, one in found], dim=1)
            return columns[:, strengths.argsort(descending=True, stable=True)[:most]].contiguous()

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
        return {self._readers[key].embedding_key: row[None] for key, row in self._split(self.vector + change).items()}

    def check_name(self, name: str, path: Path) -> None:
        """Raise a RarityError unless `embedding:NAME` in a prompt loads the file at this path, and no other file."""
        if name.split() != [name] or set(name) & set("()[]{}<>,"):
            raise RarityError(f"The name is written in prompts: one word without brackets and commas, such as rare-chair; got {name!r}.")
        check_ours(path)
        folders = next(iter(self._readers.values())).embedding_directory
        if folders and not path.exists() and load_embed(name, folders, 0) is not None:
            raise RarityError(f'"embedding:{name}" already loads another file than {path}. Choose another name.')

    def _differentiable(self, vector: Tensor) -> list:
        ((tokens, options),) = self.positive
        parts = {part.name: part.tensor for part in text_parts(tokens, options)}
        model = self.clip.cond_stage_model
        encode = frozen(model, model.encode_token_weights, self.clip.load_model)

        def flat(x: Tensor) -> Tensor:
            model.reset_clip_options()
            if self.clip.layer_idx is not None:
                model.set_clip_options({"layer": self.clip.layer_idx})
            model.set_clip_options({"execution_device": self.clip.patcher.load_device})  # weights may lie elsewhere
            encoded, pooled, *more = encode(self._tokens(x))
            held = {TOKENS: encoded, POOLED: pooled, **(more[0] if more else {})}
            return torch.cat([held[name].flatten() for name in parts])

        made = recomputed(flat, vector, within=gradients_pass_words).split([x.numel() for x in parts.values()])
        made = {name: x.view_as(parts[name]) for name, x in zip(parts, made, strict=True)}
        return [[made.pop(TOKENS), options | made]]

    def _split(self, vector: Tensor) -> dict[str, Tensor]:
        """The part of each text encoder."""
        widths = [table.shape[1] for table in self._tables.values()]
        return dict(zip(self._tables, vector.split(widths), strict=True))

    def _tokens(self, vector: Tensor) -> dict:
        """The prompt's tokens, with the word's vectors in its places."""
        rows = self._split(vector)
        return {key: [[(rows[key] if one is PLACE else one, weight) for one, weight in part] for part in parts]
                for key, parts in self._template.items()}

    def _table(self, key: str) -> Tensor:
        """The vectors of all words of a text encoder, [n, d] float32."""
        model = self.clip.cond_stage_model
        return ordinary(getattr(model, _name(model, key)).transformer.get_input_embeddings().weight, torch.float32)

    def _mean(self, key: str, start_word: str) -> Tensor:
        parts = self._readers[key].tokenize_with_weights(start_word, return_word_ids=True)  # without a template around the word
        found = [one for part in parts for one, _, word in part if word]
        if not found:
            raise RarityError("The start word is empty, or an embedding that is not there. Give a word such as chair.")
        return torch.stack([self._checked(key, one) if isinstance(one, Tensor) else self._tables[key][one] for one in found]).mean(dim=0)

    def _checked(self, key: str, embedding: Tensor) -> Tensor:
        width = self._tables[key].shape[1]
        if embedding.shape != (width,):
            raise RarityError(
                f"An embedding lacks vectors for {self._readers[key].embedding_key}: they are {embedding.shape[-1]} wide, expected {width}. "
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
            marks = {self._readers[key].embedding_key: torch.full((1, table.shape[1]), MARK) for key, table in self._tables.items()}
            safetensors.torch.save_file(marks, Path(folder) / f"{name}.safetensors")
            tokens = self._reader(folder).tokenize(text)
        for key in self._tables:
            parts = tokens[key]
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
            one = copy.copy(self._readers[key])
            known = [one.embedding_directory] if isinstance(one.embedding_directory, str) else one.embedding_directory or ()
            one.embedding_directory = [folder, *known]
            setattr(reader.tokenizer, _name(reader.tokenizer, key), one)
        return reader


def _name(of, key: str) -> str:
    """Under which name a tokenizer, or a network, holds its part for a key of tokens."""
    return f"clip_{key}" if hasattr(of, f"clip_{key}") else key


def _readers(clip, keys: list[str]) -> dict:
    """The tokenizer of each text encoder that is loaded. All of them must read a word's vectors from a file."""
    readers, model = {}, clip.cond_stage_model
    for key in keys:
        reader = getattr(clip.tokenizer, _name(clip.tokenizer, key))
        if hasattr(model, _name(model, key)) and getattr(model, _name(model, key)) is None:
            continue  # of several text encoders, such as those of Stable Diffusion 3, some may be left out
        if not hasattr(model, _name(model, key)) or (key not in OF_CLIP and reader.embedding_directory is None):
            raise RarityError(
                f"ComfyUI's text encoder {reader.embedding_key} takes no vectors: it reads embedding:NAME as text, or counts words only. So "
                "a saved word would do nothing. Use Make Rare: Conditioning for this model."
            )
        readers[key] = reader
    return readers


def _entries(tokens: dict) -> list[tuple]:
    """All pairs of a token and its weight."""
    return [pair for parts in tokens.values() for part in parts for pair in part]
