"""OpenCLIP: one encoder for pictures and for text, from a file on this machine."""

from __future__ import annotations

import difflib
import importlib.util
import json
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.log import get_logger
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ...density.base.tensors import ordinary
from ..runtime.memory import Placement
from ..runtime.threads import threads_worth
from .encoding import Looks, check_texts, encode_pictures
from .fingerprint import clip_name, fingerprint, pattern
from .preprocessing import crops_middle, preprocess
from .prompt_tokens import Reading, unread

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # those of the original CLIP
COMMON = "ViT-L-14-quickgelu, ViT-H-14, ViT-bigG-14"
_FILTERS = {"bilinear": 2, "bicubic": 3}  # PIL's numbers
_NEEDS_DOWNLOAD = ("hf_tokenizer_name", "hf_model_name")

logger = get_logger(__name__)


class OpenClipEncoder(Looks):
    """A loaded OpenCLIP model. `space` is the space of its pictures; its texts lie in the same joint space."""

    def __init__(self, *, space, model, tokenizer, processor, placement=None):
        self.space: EmbeddingSpace = space
        self.model = model
        self.tokenizer = tokenizer
        self.processor: dict = processor
        self.crops, self.mean = crops_middle(processor), processor["image_mean"]
        self.placement = placement or Placement()

    def encode_text(self, prompts: list[str]) -> Tensor:
        """Text embeddings in the joint space of text and pictures: [n, d] float32, projected, not normalised.

        Raises
        ------
        RarityError : no prompts, or an empty one.
        """
        check_texts(prompts)
        readings = self.reads(list(prompts))
        for note in unread(readings):
            logger.warning("%s", note)
        tokens = torch.tensor([one.tokens for one in readings])
        with torch.no_grad(), threads_worth(self.model):
            return ordinary(self.model.encode_text(tokens.to(self.placement.bring(self.model))), torch.float32)

    def reads(self, texts: list[str]) -> list[Reading]:
        """What the text encoder reads of texts, without encoding them; see `Reading`."""
        rows = self.tokenizer(texts).tolist()
        lengths = [len(self.tokenizer.encode(text)) + 2 for text in texts]  # every text gets a start token and an end token
        return [Reading(text, tuple(row), length) for text, row, length in zip(texts, rows, lengths, strict=True)]

    def encode_images(
        self, images: Tensor, *, batch_size: int = 64, progress: Progress | None = None, keys: Tensor | None = None
    ) -> Embeddings:
        """Embeddings of pictures [N, H, W, 3], 0 to 1. Parameters and errors as for `Prior.encode_images`."""

        def encode(batch: Tensor) -> Tensor:
            device = self.placement.bring(self.model)
            pixels = preprocess(batch, self.processor, device).to(next(self.model.parameters()).dtype)
            with threads_worth(self.model):
                return self.model.encode_image(pixels)

        return encode_pictures(images, encode, self.space, batch_size, self.placement, progress, self, keys)


def architectures() -> list[str]:
    """The Vision Transformers among OpenCLIP's architectures whose tokenizer is in the package.

    They are read from the package's files. An import of the package would take seconds at every start of ComfyUI, which
    makes a menu of them.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None:
        return []
    configs = {path.stem: json.loads(path.read_text()) for path in Path(package.origin).parent.glob("model_configs/ViT-*.json")}
    return sorted(
        name
        for name, config in configs.items()
        if "timm_model_name" not in config["vision_cfg"] and not any(key in config["text_cfg"] for key in _NEEDS_DOWNLOAD)
    )


def load_open_clip(
    architecture: str,
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    placement: Placement | None = None,
) -> OpenClipEncoder:
    """Load a checkpoint of OpenCLIP from one safetensors file. Nothing is downloaded, and no pickle is opened.

    Parameters
    ----------
    architecture : a name of `open_clip.list_models()`, such as "ViT-H-14". The weights of OpenAI need a name that ends in
        "-quickgelu"; their file does not say so.
    path : the checkpoint, in which tensors have OpenCLIP's own names, such as open_clip_model.safetensors.
    device, dtype, placement : as in `load_kandinsky`.

    Returns
    -------
    OpenClipEncoder. Its space is named as the space of a Kandinsky: the same weights give the same space, whether
    ComfyUI, transformers or OpenCLIP loaded them.

    Raises
    ------
    RarityError : no such architecture, or one whose tokenizer would have to be downloaded; no such file, one that is
        not safetensors, or weights of another architecture (the first difference is named).

    Pictures are resized with antialiasing and cropped in the middle, at the same place as in ComfyUI. Load CLIP Vision
    with the same weights gives embeddings that differ by 0.1 to 0.6 %, because it rounds pixels to 8 bits. OpenCLIP's own
    code and transformers crop a picture that is not square up to one pixel beside that place; this makes 2 to 13 %.
    """
    import open_clip

    config = _config(open_clip, architecture)
    path = Path(path)
    shapes = _shapes(path)
    # Weights made in ComfyUI's inference mode could not carry gradients later. The random state of others is left alone.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        custom_text = config.pop("custom_text", False)
        model = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
        _check_shapes(architecture, path, {name: tuple(value.shape) for name, value in model.state_dict().items()}, shapes)
        _fill(model, path)
        model = model.float().eval().requires_grad_(False)
        size = _square(model.visual.image_size)
        with torch.no_grad():  # in float32 on the CPU, so that the name of the space does not depend on the device
            embedding = model.encode_image(pattern(size))[0]
        space = EmbeddingSpace(_name(architecture, model.visual), fingerprint(embedding), len(embedding))
        model = model.to(torch.device(device), dtype or torch.float32)
    return OpenClipEncoder(
        space=space,
        model=model,
        tokenizer=open_clip.get_tokenizer(architecture, context_length=config["text_cfg"].get("context_length", 77)),
        processor=_processor(open_clip, architecture, size),
        placement=placement,
    )


def _config(open_clip, architecture: str) -> dict:
    names = open_clip.list_models()
    if architecture not in names:
        near = ", ".join(difflib.get_close_matches(str(architecture), names, n=3)) or COMMON
        raise RarityError(
            f"OpenCLIP {open_clip.__version__} knows no architecture {architecture!r}; near it are {near}. "
            "Take the name that the checkpoint's page gives."
        )
    config = open_clip.get_model_config(architecture)
    if any(key in config["text_cfg"] for key in _NEEDS_DOWNLOAD) or "siglip" in architecture.lower():
        raise RarityError(
            f"{architecture} reads words with a tokenizer that would have to be downloaded, which is never done here. "
            f"Choose an architecture whose tokenizer comes with OpenCLIP, such as {COMMON}."
        )
    if "multimodal_cfg" in config:
        raise RarityError(f"{architecture} writes captions as well, which is not supported. Choose another, such as {COMMON}.")
    return config


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, read from its header."""
    import safetensors

    if path.suffix != ".safetensors":
        raise RarityError(
            f"{path.name} is no .safetensors file; other formats can run code and are never opened. "
            "Look for open_clip_model.safetensors beside it where you downloaded it."
        )
    if not path.is_file():
        raise RarityError(f"There is no checkpoint {path}. Download one, such as open_clip_model.safetensors.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise RarityError(f"{path.name} cannot be read as safetensors: {error}. Copy this file again.") from error


def _check_shapes(architecture: str, path: Path, expected: dict, found: dict) -> None:
    if any(name.startswith(("vision_model.", "text_model.")) for name in found):
        raise RarityError(
            f"{path.name} names its tensors as transformers does, OpenCLIP names them otherwise (visual.conv1.weight). "
            "Take the file of OpenCLIP, such as open_clip_model.safetensors; for pictures alone Load CLIP Vision reads this one."
        )
    missing = sorted(expected.keys() - found.keys())
    more = sorted(found.keys() - expected.keys())
    other = [name for name in expected if name in found and expected[name] != found[name]]
    if other:
        name = other[0]
        problem = f"{name} is {_size(found[name])}, expected {_size(expected[name])} ({len(other)} of {len(expected)} differ)"
    elif missing:
        problem = f"it lacks {len(missing)} of {len(expected)} tensors (first: {missing[0]})"
    elif more:
        problem = f"it has {len(more)} tensors more (first: {more[0]})"
    else:
        return
    raise RarityError(
        f"{path.name} is no {architecture}: {problem}. Choose the architecture that the checkpoint's page names."
    )


def _fill(model, path: Path) -> None:
    import safetensors.torch

    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise RarityError(f"{path.name} cannot be read as safetensors: {error}. Copy this file again.") from error


def _processor(open_clip, architecture: str, size: int) -> dict:
    """How pictures are prepared: as all known checkpoints of the architecture do, otherwise as the original CLIP does."""
    tags = [
        open_clip.get_pretrained_cfg(architecture, tag) for tag in open_clip.list_pretrained_tags_by_model(architecture)
    ]
    agreed = {
        key: tags[0][key]
        for key in ("mean", "std", "interpolation", "resize_mode")
        if tags and tags[0].get(key) and all(tag.get(key) == tags[0][key] for tag in tags)
    }
    squash = agreed.get("resize_mode") == "squash"
    return {
        "size": {"height": size, "width": size} if squash else size,
        "crop_size": size,
        "round_size": True,
        "resample": _FILTERS[agreed.get("interpolation", "bicubic")],
        "image_mean": list(agreed.get("mean", MEAN)),
        "image_std": list(agreed.get("std", STD)),
    }


def _name(architecture: str, visual) -> str:
    """The name for people: that of `clip_name` for a plain Vision Transformer, otherwise the architecture."""
    if not hasattr(visual, "class_embedding"):
        return f"CLIP {architecture}"
    width, _, patch, _ = visual.conv1.weight.shape
    return clip_name(width, len(visual.transformer.resblocks), patch)


def _square(size) -> int:
    return size if isinstance(size, int) else int(size[0])


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
