"""Save and load densities, embeddings and memories, inspect any file, and check file names that a user gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError, quoted
from ..base.spaces import EmbeddingSpace
from ..estimators.contract import Density
from ..estimators.gaussian import GaussianDensity
from ..estimators.mixture import MixtureDensity
from ..estimators.neighbour_density import NeighbourDensity
from ..novelty.exposure import ExposureMemory
from ..novelty.measured_strength import MeasuredStrength
from . import container

# kind -> the function that makes an object of a file's content. Rooms that this one must not import add their own.
BUILDERS: dict[str, Callable[[dict, dict[str, Tensor]], object]] = {}
DENSITIES = {"mixture": MixtureDensity, "neighbours": NeighbourDensity}  # all other estimators are GaussianDensity
MAX_STREAM = 1 << 40  # most bytes of a file that is read batch by batch
MAX_AT_ONCE = 1 << 28  # most bytes of its labels, or of its keys: these are read at once
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}  # of Windows


def save_density(density: Density, path: str | os.PathLike) -> None:
    """Write a density to `path`; an existing file is replaced in one step, or left as it was.

    Raises
    ------
    RarityError : the file cannot be written, or this is not a density.
    """
    if not isinstance(density, Density):
        raise RarityError(f"Expected a density to save, got {type(density).__name__}. Learn one with fit_density.")
    container.write(Path(path), "density", *density.state())


def load_density(path: str | os.PathLike) -> Density:
    """Read a density that `save_density` wrote.

    Raises
    ------
    RarityError : no such file; truncated, damaged, oversized, foreign, of another kind or of a newer format.
    """
    return _build(*container.read(Path(path), "density"))


def load_densities(paths: Iterable[str | os.PathLike]) -> Iterator[tuple[Path, Density]]:
    """Each path with its density, loaded one at a time, as `merge_densities` takes them. Raises as `load_density`."""
    return ((Path(path), load_density(path)) for path in paths)


def save_embeddings(embeddings: Embeddings, path: str | os.PathLike) -> None:
    """Write embeddings to `path`; an existing file is replaced in one step, or left as it was."""
    labels = torch.frombuffer(bytearray(json.dumps(embeddings.labels).encode()), dtype=torch.uint8)
    fields = {"space": embeddings.space.to_dict(), "count": len(embeddings), "source": embeddings.source}
    container.write(Path(path), "embeddings", fields, {"vectors": embeddings.vectors, "labels": labels, "keys": embeddings.keys})


def load_embeddings(path: str | os.PathLike) -> Embeddings:
    """Read embeddings that `save_embeddings` wrote. Raises as `load_density`."""
    return _build(*container.read(Path(path), "embeddings"))


def stream_embeddings(
    path: str | os.PathLike, rows: int = 4096
) -> tuple[EmbeddingSpace, dict, int, Iterator[Embeddings]]:
    """Read embeddings batch by batch, from a file that may be larger than the memory.

    Parameters
    ----------
    path : a file that `save_embeddings` wrote.   rows : most rows of a batch.

    Returns
    -------
    space, source, number of embeddings, and an iterator of Embeddings that reads as it goes.

    Raises
    ------
    RarityError : as `load_embeddings`. Errors of the content are raised while iterating, a wrong digest at the end.
    """
    path = Path(path)
    with container.opened(path, "embeddings", MAX_STREAM) as (_, _, head, layout):
        count, width = layout["vectors"][1]
        space, source = EmbeddingSpace.from_dict(head.get("space")), head.get("source")
        at_once = max(layout["labels"][1][0], 8 * count * ("keys" in layout))
        if count == 0 or width != space.width or at_once > MAX_AT_ONCE or not isinstance(source, dict):
            raise container.damaged(path, f"it holds {count:,} embeddings {width} wide in the space {space}")
    return space, source, count, _batches(path, head, max(1, int(rows)))


def save_exposure(memory: ExposureMemory, path: str | os.PathLike) -> None:
    """Write a memory to `path`; an existing file is replaced in one step, or left as it was."""
    container.write(Path(path), "exposure", *memory.state())


def load_exposure(path: str | os.PathLike) -> ExposureMemory:
    """Read a memory that `save_exposure` wrote. Raises as `load_density`."""
    return _build(*container.read(Path(path), "exposure"))


def save_strength(measured: MeasuredStrength, path: str | os.PathLike) -> None:
    """Write a measured strength to `path`; an existing file is replaced in one step, or left as it was."""
    container.write(Path(path), "strength", *measured.state())


def load_strength(path: str | os.PathLike) -> MeasuredStrength:
    """Read a measured strength that `save_strength` wrote. Raises as `load_density`."""
    return _build(*container.read(Path(path), "strength"))


def inspect_file(path: str | os.PathLike) -> dict:
    """What a file holds, after all checks of loading: kind, version, space, counts, source, shapes of its tensors.

    An object with a method `summary` gives a short form of what is too long to show.
    """
    kind, fields, tensors = container.read(Path(path), None)
    thing = _build(kind, fields, tensors)
    fields = {**fields, **(thing.summary() if hasattr(thing, "summary") else {})}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    return {"kind": kind, **fields, "tensors": shapes}


def safe_path(folder: str | os.PathLike, name: str, suffix: str = ".safetensors") -> Path:
    """The path of `name` inside `folder`, with `suffix`. Subfolders with "/" are allowed; leaving the folder is not.

    Raises
    ------
    RarityError : an empty name, a name that leaves the folder, or a name that some systems cannot store.
    """
    advice = f'Give a plain name such as "my density"; it is kept in the folder {Path(folder).name}.'
    if not isinstance(name, str) or not name.strip():
        raise RarityError(f"A file name is missing. {advice}")
    name = name.strip()
    parts = (name if name.endswith(suffix) else name + suffix).split("/")
    for part in parts:
        odd = [c for c in part if c in '\\:*?"<>|' or not c.isprintable()]
        if (
            not part
            or odd
            or part.startswith(".")
            or part.strip() != part
            or part.rstrip(".") != part
            or len(part.encode("utf-8", "replace")) > 200
            or part.split(".")[0].upper() in DEVICES
        ):
            what = f"{quoted(part)} is not a plain name" if part else "it has a slash without a name on both sides"
            raise RarityError(f"The file name {quoted(name)} cannot be used: {what}. {advice}")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise RarityError(f"The file name {quoted(name)} cannot be used: {container.plain_names()}") from error
    if len(parts) > 8:
        raise RarityError(f"The file name {quoted(name)} has {len(parts)} parts; at most 8 are expected. {advice}")
    root = Path(folder).resolve()
    try:
        path = root.joinpath(*parts).resolve()
    except (OSError, RuntimeError) as error:  # a link to itself raises one or the other
        raise RarityError(f"The file name {quoted(name)} leads nowhere: {error}. {advice}") from error
    if not path.is_relative_to(root):
        raise RarityError(f"The file name {quoted(name)} leaves its folder. {advice}")
    return path


def numbered(path: str | os.PathLike, number: int, count: int) -> Path:
    """The path of one of `count` objects saved under one name: name.safetensors alone, else name_1.safetensors, ..."""
    path = Path(path)
    return path.with_name(f"{path.stem}_{number}{path.suffix}") if count > 1 else path


def build_density(fields: dict, tensors: dict[str, Tensor]) -> Density:
    """The density of a file's fields and tensors, of the estimator that they name."""
    estimator = fields.get("estimator")
    made = DENSITIES.get(estimator, GaussianDensity) if isinstance(estimator, str) else GaussianDensity
    return made.from_state(fields, tensors)


def build_embeddings(fields: dict, tensors: dict[str, Tensor]) -> Embeddings:
    """The embeddings of a file's fields and tensors."""
    space = EmbeddingSpace.from_dict(fields.get("space"))
    vectors, labels, keys = tensors["vectors"], _labels(tensors["labels"]), tensors.get("keys")
    return Embeddings(vectors, space, labels, fields.get("source"), keys)


BUILDERS |= {"density": build_density, "embeddings": build_embeddings, "exposure": ExposureMemory.from_state,
             "strength": MeasuredStrength.from_state}


def _build(kind: str, fields: dict, tensors: dict[str, Tensor]):
    if kind not in BUILDERS:
        raise RarityError(f"This file holds a {kind}, which only the part of Rarity that makes it can read. Import that part first.")
    return BUILDERS[kind](fields, tensors)


def _labels(tensor: Tensor) -> tuple[str, ...]:
    labels = container.parse(tensor.numpy().tobytes(), "list of labels")
    if not isinstance(labels, list):
        raise RarityError("The labels in this file are damaged: expected a list of texts. Save the embeddings anew.")
    return tuple(labels)


def _batches(path: Path, head: dict, rows: int) -> Iterator[Embeddings]:
    """The batches of a file with the header `head`. The digest is compared after the last batch."""
    with container.opened(path, "embeddings", MAX_STREAM) as (file, _, now, layout):
        if now != head:
            raise container.damaged(path, "it was replaced while it was read")
        space, source = EmbeddingSpace.from_dict(head.get("space")), head.get("source")
        labels = container.read_tensor(file, "labels", *layout["labels"][:3], path)
        texts = _labels(labels)
        dtype, (count, width), start, _ = layout["vectors"]
        if texts and len(texts) != count:
            raise container.damaged(path, f"it holds {len(texts):,} labels for {count:,} embeddings")
        digest = container.new_digest({key: value for key, value in head.items() if key != "content_hash"})
        keys = container.read_tensor(file, "keys", *layout["keys"][:3], path) if "keys" in layout else None
        if keys is not None:
            if len(keys) != count:
                raise container.damaged(path, f"it holds {len(keys):,} keys for {count:,} embeddings")
            container.feed(digest, "keys", keys)
        container.feed(digest, "labels", labels)
        container.announce(digest, "vectors", torch.float32, [count, width])
        for first in range(0, count, rows):
            shape = [min(rows, count - first), width]
            vectors = container.read_tensor(file, "vectors", dtype, shape, start + 4 * first * width, path)
            digest.update(container.as_bytes(vectors))
            its = None if keys is None else keys[first : first + rows]
            yield Embeddings(vectors, space, texts[first : first + rows], source, its)
        if digest.hexdigest() != head.get("content_hash"):
            raise container.damaged(path, "its content does not match its own digest")
