"""Download a Kandinsky from the Hugging Face Hub if the user names a repository, but no file that could run code."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from ...density.base.errors import RarityError, quoted
from ...density.base.log import get_logger
from .layout import decoder_names, prior_names, read_json

log = get_logger(__name__)

ANSWER = 2.0  # seconds; ComfyUI does nothing else while it checks a graph

# The pipeline that a repository was made for -> the names its other half may have, derived from its own name.
_OTHER_HALF = {
    "KandinskyV22PriorPipeline": lambda name: decoder_names(name)[:1],
    "KandinskyPriorPipeline": lambda name: decoder_names(name)[1:],
    "KandinskyV22Pipeline": lambda name: prior_names(name)[:1],
    "KandinskyPipeline": lambda name: prior_names(name)[:1],
    "KandinskyV22CombinedPipeline": lambda name: [name],
    "KandinskyCombinedPipeline": lambda name: [name],
}


def download_kandinsky(repository: str) -> tuple[Path, Path]:
    """Download both halves of a Kandinsky into Hugging Face's cache, unless they are there already.

    Parameters
    ----------
    repository : such as "kandinsky-community/kandinsky-2-2-prior". Its name leads to the other half.

    Returns
    -------
    The folders of the prior and of the decoder, for `load_kandinsky(prior, decoder=decoder)`.

    Raises
    ------
    RarityError : no such repository, no connection, no Kandinsky in it, or weights that are not safetensors.
    """
    repository = repository.strip()
    check_repository(repository)
    folder = _download(repository)
    made_for = read_json(folder / "model_index.json").get("_class_name")
    owner, _, name = repository.partition("/")
    other = _OTHER_HALF[made_for](name) if made_for in _OTHER_HALF else []
    if not other:
        raise RarityError(
            f"{repository} holds {made_for}, and does not tell where the rest of a Kandinsky 2.1 or 2.2 is. Name the "
            "repository of a prior such as kandinsky-community/kandinsky-2-2-prior, or put both halves into a folder."
        )
    beside = folder if other == [name] else _download(f"{owner}/{other[0]}")
    return (folder, beside) if "Prior" in made_for else (beside, folder)


def check_repository(name: str) -> None:
    """Raise RarityError unless this could be the name of a repository."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name.strip(), flags=re.ASCII):
        raise RarityError(
            f"The repository must be a name such as kandinsky-community/kandinsky-2-2-prior (owner/name), got {quoted(name)}."
        )


def find_repository(name: str) -> None:
    """Raise RarityError if the Hub says that it has no such repository. Nothing is asked of a repository that is here already.

    Where the Hub does not answer within ANSWER seconds, nothing is known: `download_kandinsky` says so when it gets there.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import RepositoryNotFoundError

    check_repository(name)
    name = name.strip()
    if isinstance(try_to_load_from_cache(name, "model_index.json"), str):
        return
    refused = []

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=ANSWER)
        except RepositoryNotFoundError as error:
            refused.append(error)
        except Exception as error:  # no connection, or whatever else a network does
            log.info("The Hugging Face Hub was not asked for %s: %s", name, error)

    asking = threading.Thread(target=ask, daemon=True)  # a name server that does not answer knows no limit of time
    asking.start()
    asking.join(ANSWER)
    if refused:
        raise RarityError(
            f"The Hugging Face Hub has no repository {quoted(name)}, or it is a private one. Check the name in repository."
        ) from refused[0]


def _download(repository: str) -> Path:
    """Download configuration, tokenizers and safetensors of a repository; diffusers knows what a pipeline needs."""
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(repository, use_safetensors=True, trust_remote_code=False))
    except Exception as error:  # the network, the Hub and four libraries each raise errors of their own
        raise RarityError(
            f"{repository} could not be downloaded from the Hugging Face Hub: {error} Check the name and the "
            "connection; weights must be .safetensors."
        ) from error
