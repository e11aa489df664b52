"""A vision-language model as judge. It gets a question; the answer is read from the probabilities of its next word."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.picture_checks import as_pictures
from ...density.base.progress import Progress
from ..runtime.loading import load_model
from ..runtime.memory import Placement, in_pieces
from ..runtime.model_folder import missing_files, read_json
from ..runtime.threads import threads_worth

QUESTION = "Is this still {subject}? Yes or No."
ARTICLES = ("a", "an", "the", "some")
# The marks with which tokenizers write a word at the start of a text or after a space.
STARTS = ("", "▁", "Ġ", " ")
# If yes and no together have less than this probability, the model gives neither answer.
LEAST = 0.05


class Vlm:
    """An image-text-to-text model of transformers, loaded from a local folder. Judges ask it about their subjects.

    Parameters
    ----------
    folder : holds config.json, safetensors, tokenizer and processor, as `hf download` saves them.
    dtype : of the weights; None is float32.   device : where the model is loaded.
    batch_size : pictures at a time; it is halved if they do not fit in memory.
    placement : brings the model to its device before each use. None leaves the model where it was loaded.

    Raises
    ------
    RarityError : the folder holds no image-text-to-text model or lacks files; the tokenizer has no single token for yes or no.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        batch_size: int = 8,
        placement: Placement | None = None,
    ):
        self.name = Path(folder).name
        self._batch_size, self._placement = batch_size, placement or Placement()
        with torch.inference_mode(False):
            self._processor, self._model = _load(Path(folder), dtype or torch.float32)
            self._model.to(device).eval().requires_grad_(False)
        self._tokenizer = getattr(self._processor, "tokenizer", self._processor)
        self.yes, self.no = (_ways_to_write(self._tokenizer, word, self.name) for word in ("yes", "no"))

    def prompt(self, question: str) -> str:
        """The question about one picture, as the model's own chat template puts it."""
        return _prompt(self._processor, self._tokenizer, question)

    def next_word(self, prompt: str, pictures: Tensor, progress: Progress | None = None) -> Tensor:
        """The probability of every token as the first token of an answer, for pictures [N, H, W, 3]. [N, tokens] float64."""
        said = []
        with torch.no_grad(), threads_worth(self._model):
            for piece, found in in_pieces(range(len(pictures)), self._batch_size,
                                          lambda piece: self._answers(prompt, pictures[piece.start:piece.stop]), self._placement):
                said.append(found)
                if progress:
                    progress(piece.stop, len(pictures))
        return torch.cat(said)

    def _answers(self, prompt: str, pictures: Tensor) -> Tensor:
        """The probability of every token as the first token of the answer to a prompt, [n, tokens] float64."""
        from PIL import Image

        pixels = pictures.mul(255).round().byte().cpu().numpy()
        # One picture at a time, because processors differ in how they take several. All pictures have one size, so the
        # results have one size, too, and need no padding.
        read = [
            self._processor(text=[prompt], images=[Image.fromarray(picture)], return_tensors="pt") for picture in pixels
        ]
        device, words = self._placement.bring(self._model), self._tokenizer
        told = {}
        for name in read[0]:
            if isinstance(read[0][name], Tensor) and name != "labels" and _takes(self._model, name):
                rows = torch.cat([one[name] for one in read])
                told[name] = rows.to(device, self._model.dtype if rows.is_floating_point() else None)
        made = self._model.generate(
            **told, max_new_tokens=1, num_beams=1, do_sample=False, return_dict_in_generate=True, output_logits=True,
            pad_token_id=words.eos_token_id if words.pad_token_id is None else words.pad_token_id,
        )
        return torch.softmax(made.logits[0].cpu().double(), dim=1)

    def something_else(self, words: Tensor, share: float) -> str:
        """The sentence of an error that says what the model would answer instead of yes or no."""
        top = words.mean(dim=0).topk(3)
        rather = ", ".join(
            f"{self._tokenizer.decode([token])!r} ({chance:.1%})"
            for token, chance in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        )
        return (
            f"The model {self.name} answers neither yes nor no: together they have {share:.2g} of its probability, and it "
            f"would rather say {rather}. Take a model that follows instructions and can be asked about pictures."
        )


class VlmJudge:
    """A judge that asks a model whether a picture still is the subject, and reads P(yes).

        P(yes) = sum of p(token) over the ways to write yes / the same over yes and no,

    where p is the model's probability of the next token after the question. No text is generated or parsed.
    Source: the question is that of Song & Elgammal 2026 (arXiv 2601.22125), section 3.

    Parameters
    ----------
    model : the model that is asked; several judges may share it.
    subject : such as "a letter R".   question : a text with {subject} in it.

    Attributes
    ----------
    source : all that its answers depend on, as JSON values.

    Raises
    ------
    RarityError : the subject is empty.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, model: Vlm, subject: str, question: str = QUESTION):
        if not subject.strip():
            raise RarityError("A judge needs a subject to ask about, such as 'a letter R'; got none.")
        self.subject, self._model = subject.strip(), model
        self._prompt = model.prompt(question.format(subject=_with_article(self.subject)))
        self.source = {"kind": "vlm", "model": model.name, "prompt": self._prompt}

    def probability(self, pictures: Tensor, *, progress: Progress | None = None) -> Tensor:
        """P(yes) for pictures [N, H, W, 3], 0 to 1. The result is [N] float64.

        Raises
        ------
        RarityError : the pictures have another shape or range; the model answers neither yes nor no; too little memory.
        """
        words = self._model.next_word(self._prompt, as_pictures(pictures), progress)
        yes, no = words[:, self._model.yes].sum(dim=1), words[:, self._model.no].sum(dim=1)
        if float((yes + no).mean()) < LEAST:
            raise RarityError(self._model.something_else(words, float((yes + no).mean())))
        return yes / (yes + no).clamp_min(1e-300)


def _load(folder: Path, dtype: torch.dtype):
    """The processor and the model of a folder. Only files of this folder are read."""
    import transformers

    problems = missing_files(folder, "config.json", has_weights=True)
    if problems:
        raise RarityError(
            f"{folder} is not a whole vision-language model. Missing: {'; '.join(problems)}. "
            "Download it again, with its safetensors."
        )
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    known = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if kind not in known:
        raise RarityError(
            f"{folder} holds a model of the type {kind!r}, which transformers {transformers.__version__} does not know as one "
            "that reads pictures and text and answers in text (code that comes with a model is never run). Choose another, "
            "such as a SmolVLM, Qwen2-VL, LLaVA or PaliGemma, or a newer transformers."
        )
    if "quantization_config" in config:
        raise RarityError(
            f"{folder} holds weights of fewer bits, which need a library and a device of their own. Choose the same model's usual "
            "weights, in 16 or 32 bits."
        )
    try:
        processor = transformers.AutoProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # A damaged file may make the library raise anything; the user sees one clear error.
        raise RarityError(
            f"The processor in {folder} cannot be read: {error} Download this model again, with its tokenizer."
        ) from error
    # From version 5 on, transformers loads a model in the type of its files. Older versions would take the memory of float32.
    wanted = None if int(transformers.__version__.split(".")[0]) >= 5 else dtype
    model = load_model(transformers.AutoModelForImageTextToText, folder, wanted, trust_remote_code=False)
    return processor, model.to(dtype)


def _prompt(processor, tokenizer, question: str) -> str:
    """The question about one picture, in the model's own chat template. Without a template it follows the picture's token."""
    picture = getattr(processor, "image_token", None)
    written = f"{picture if isinstance(picture, str) else ''}{question}"
    if getattr(processor, "chat_template", None):
        message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        prompt = processor.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    elif getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": written}]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    else:
        return written
    # Some templates begin with the token that the tokenizer adds at the front anyway.
    twice = [tokenizer.bos_token_id] * 2
    if tokenizer.bos_token and tokenizer(prompt).input_ids[:2] == twice:
        prompt = prompt.removeprefix(tokenizer.bos_token)
    return prompt


def _takes(model, name: str) -> bool:
    """Whether the model takes an input of this name. A tokenizer may make more inputs than the model takes."""
    parameters = inspect.signature(model.forward).parameters
    return name in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _ways_to_write(tokenizer, word: str, name: str) -> list[int]:
    """The tokens that are this word, in upper or lower case, with and without a space in front."""
    words = tokenizer.get_vocab()
    found = {words.get(start + way) for start in STARTS for way in (word, word.capitalize(), word.upper())} - {None}
    if not found:
        raise RarityError(
            f"The tokenizer of {name} has no single token for {word!r}, so its answer cannot be read. Choose another model."
        )
    return sorted(found)


def _with_article(subject: str) -> str:
    """"a vehicle" for "vehicle". A subject that has an article stays as it is."""
    first = subject.split()[0].lower()
    return subject if first in ARTICLES else f"{'an' if first[0] in 'aeiou' else 'a'} {subject}"
