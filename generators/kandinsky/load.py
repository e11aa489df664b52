"""Load a Kandinsky 2.1 or 2.2 from a diffusers folder. The built-in models are such folders, too."""

from __future__ import annotations

from pathlib import Path

import torch

from ...density.base.errors import RarityError
from ...density.base.spaces import EmbeddingSpace
from ..eyes.prompt_tokens import read_words
from ..runtime.loading import load_model
from ..runtime.memory import Placement
from .cached_prior import check_configuration
from .decoder import Decoder, read_defaults
from .decoder_text import DecoderText
from .image_encoder import encoder_fingerprint, encoder_name, zero_picture_embedding
from .layout import find_parts, read_json, reads_text
from .prior import Prior, read_learning_rate

MINIATURE, THINGS = "miniature (built in)", "things (built in)"
# The folders of the models that ship with the pack: in each prior/ and decoder/, which are diffusers pipeline folders.
BUILT_IN = {
    MINIATURE: Path(__file__).resolve().parents[1] / "miniature",
    THINGS: Path(__file__).resolve().parents[1] / "things",
}


def miniature_folder() -> Path:
    """The folder of the built-in model that draws letters."""
    return BUILT_IN[MINIATURE]


def embedding_width(folder: str | Path) -> int | None:
    """The width of a model's embeddings, by its files. None if they do not say it; `load_kandinsky` tells why.

    Parameters
    ----------
    folder : as in `load_kandinsky`.
    """
    try:
        width = read_json(find_parts(BUILT_IN.get(str(folder), folder))["prior"] / "config.json").get("embedding_dim")
    except RarityError:
        return None
    return width if isinstance(width, int) else None


def load_kandinsky(
    folder: str | Path = MINIATURE,
    *,
    decoder: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    placement: Placement | None = None,
) -> tuple[Prior, Decoder]:
    """Load prior, encoders and decoder from local safetensors. Nothing is downloaded, and no pickle is opened.

    Parameters
    ----------
    folder : MINIATURE or THINGS; or a folder with all parts; or a folder with the folders prior/ and decoder/; or either folder
        of a pair named as on the Hub (kandinsky-2-2-prior beside kandinsky-2-2-decoder, kandinsky-2-1-prior beside
        kandinsky-2-1).
    decoder : the decoder's folder, if its name does not follow from the prior's.
    device : the device of the models.
    dtype : None is float32, whatever the files hold.
    placement : brings a model to its device each time before it runs; None leaves the models where they are.

    Returns
    -------
    The Prior and the Decoder, of one embedding space.

    Raises
    ------
    RarityError : no such folder, missing parts (the error names them), weights that are not safetensors, files that
        cannot be read.
    """
    parts = find_parts(BUILT_IN.get(str(folder), folder), decoder)
    # Weights made in ComfyUI's inference mode could never take part in learning later.
    with torch.inference_mode(False):
        return _load_parts(parts, torch.device(device), dtype or torch.float32, placement or Placement())


def _load_parts(parts: dict[str, Path], device, dtype: torch.dtype, placement: Placement) -> tuple[Prior, Decoder]:
    import diffusers
    import transformers

    # The fingerprint is made in float32 on the CPU, before the model moves, so that it does not depend on the device.
    image_encoder = load_model(transformers.CLIPVisionModelWithProjection, parts["image_encoder"]).float().eval()
    space = EmbeddingSpace(
        encoder=encoder_name(image_encoder.config),
        fingerprint=encoder_fingerprint(image_encoder),
        width=image_encoder.config.projection_dim,
        kind="raw",
    )
    zero = zero_picture_embedding(image_encoder)
    text_encoder = load_model(transformers.CLIPTextModelWithProjection, parts["text_encoder"])
    transformer = load_model(diffusers.PriorTransformer, parts["prior"], dtype=dtype)
    unet = load_model(diffusers.UNet2DConditionModel, parts["unet"], dtype=dtype)
    movq = load_model(diffusers.VQModel, parts["movq"], dtype=dtype)
    _check_width(space, transformer.config.embedding_dim, "prior")
    with_text = reads_text(unet.config)
    # encoder_hid_dim is the width of picture embeddings. If a U-Net reads text, it is that of the text's states, and
    # cross_attention_dim is that of picture embeddings.
    pictures = unet.config.cross_attention_dim if with_text else unet.config.encoder_hid_dim
    _check_width(space, pictures, "decoder's U-Net")
    tokenizer = _load_tokenizer(transformers.CLIPTokenizer, parts["tokenizer"])
    check_configuration(transformer)
    _check_tokens(transformer, tokenizer)
    prior = Prior(
        space=space,
        zero=zero,
        transformer=_place(transformer, device, dtype),
        text_encoder=_place(text_encoder, device, dtype),
        tokenizer=tokenizer,
        image_encoder=_place(image_encoder, device, dtype),
        image_processor=read_json(parts["image_processor"] / "preprocessor_config.json"),
        scheduler=_load_scheduler(diffusers, parts["prior_scheduler"], ("UnCLIPScheduler",)),
        placement=placement,
        learning_rate=read_learning_rate(parts["prior"].parent),
        words=read_words(parts["prior"].parent),
    )
    decoder = Decoder(
        space=space,
        zero=zero,
        unet=_place(unet, device, dtype),
        movq=_place(movq, device, dtype),
        scheduler=_load_scheduler(diffusers, parts["scheduler"], ("DDPMScheduler", "DDIMScheduler")),
        defaults=read_defaults(parts["unet"].parent),
        text=_load_decoder_text(parts, unet, device, dtype) if with_text else None,
        placement=placement,
    )
    return prior, decoder


def _load_decoder_text(parts: dict[str, Path], unet, device, dtype) -> DecoderText:
    import transformers
    from diffusers.pipelines.kandinsky.text_encoder import MultilingualCLIP

    text_encoder = load_model(MultilingualCLIP, parts["decoder_text_encoder"])
    made = (text_encoder.config.numDims, text_encoder.config.transformerDimensions)
    taken = (unet.config.cross_attention_dim, unet.config.encoder_hid_dim)
    if made != taken:
        raise RarityError(
            f"The decoder's text encoder makes embeddings and states of widths {made}, but its U-Net takes {taken}. "
            "Both must come from the same Kandinsky 2.1."
        )
    tokenizer = _load_tokenizer(transformers.XLMRobertaTokenizerFast, parts["decoder_tokenizer"])
    return DecoderText(text_encoder=_place(text_encoder, device, dtype), tokenizer=tokenizer)


def _place(model, device, dtype):
    model = model.to(device)
    # Cast only if needed: diffusers loaded the type already and warns about casts, transformers loads the file's type.
    return (model if model.dtype == dtype else model.to(dtype)).eval().requires_grad_(False)


def _load_tokenizer(tokenizer_class, folder: Path):
    try:
        return tokenizer_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        name = tokenizer_class.__name__
        raise RarityError(f"{folder} cannot be read as a {name}: {error}. Copy this folder again.") from error


def _load_scheduler(diffusers, folder: Path, known: tuple[str, ...]):
    config = read_json(folder / "scheduler_config.json")
    name = config.get("_class_name")
    if name not in known:
        raise RarityError(f"{folder} must hold a {' or '.join(known)}, got {name}. Is this a Kandinsky folder?")
    return getattr(diffusers, name).from_config(config)


def _check_width(space: EmbeddingSpace, width: int, part: str) -> None:
    if width != space.width:
        raise RarityError(
            f"The {part} takes embeddings of width {width}, but the image encoder {space.encoder} makes width "
            f"{space.width}. Prior and decoder must come from the same Kandinsky."
        )


def _check_tokens(transformer, tokenizer) -> None:
    expected, got = transformer.config.num_embeddings, tokenizer.model_max_length
    if got != expected:
        raise RarityError(
            f"The prior reads {expected} text tokens, but its tokenizer makes {got}. Copy the tokenizer again."
        )
