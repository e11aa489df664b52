"""Files that are safe to open from strangers: safetensors with one JSON key, checked before anything is believed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from .embeddings import Embeddings
from .errors import RarityError
from .exposure import ExposureMemory
from .gaussian import GaussianDensity
from .spaces import EmbeddingSpace
from .tensors import check_json, ordinary

VERSION = (1, 0)
MAX_HEADER = 1 << 20  # bytes of JSON at the head of a file
DTYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}
ITEM_BYTES = {"F64": 8, "F32": 4, "I64": 8, "U8": 1}
# kind -> most bytes of a file, and its tensors with their type and number of dimensions
KINDS = {
    "density": (
        1 << 30,
        {
            "mean": ("F64", 1),
            "basis": ("F64", 2),
            "variances": ("F64", 1),
            "spectrum": ("F64", 1),
            "residual_calibration": ("F64", 1),
            "calibration_scores": ("F64", 1),
            "calibration_tail": ("F64", 1),
            "calibration_draws": ("F64", 2),
            "rows": ("F32", 2),
            "later_keys": ("I64", 1),
            "fold_means": ("F64", 2),
            "fold_scatters": ("F64", 2),
            "fold_thirds": ("F64", 2),
            "fold_fourths": ("F64", 1),
        },
    ),
    "embeddings": (4 << 30, {"vectors": ("F32", 2), "labels": ("U8", 1)}),
    "exposure": (
        1 << 30,
        {"vectors": ("F32", 2), "weights": ("F64", 1), "mean": ("F64", 1), "scatter": ("F64", 2), "labels": ("U8", 1)},
    ),
}


def save_density(density: GaussianDensity, path: str | os.PathLike) -> None:
    """Write a density to `path`; an existing file is replaced in one step, or left as it was.

    Raises
    ------
    RarityError : the file cannot be written, or the density is of a kind that files do not hold yet.
    """
    if type(density) is not GaussianDensity:
        raise RarityError(f"Files hold Gaussian densities, got a {type(density).__name__}. Fit a GaussianDensity to save.")
    fields, tensors = density.state()
    _write(Path(path), "density", fields, tensors)


def load_density(path: str | os.PathLike) -> GaussianDensity:
    """Read a density that `save_density` wrote.

    Raises
    ------
    RarityError : no such file; truncated, damaged, oversized, foreign, of another kind or of a newer format.
    """
    return _build(*_read(Path(path), "density"))


def save_embeddings(embeddings: Embeddings, path: str | os.PathLike) -> None:
    """Write embeddings to `path`; an existing file is replaced in one step, or left as it was."""
    labels = torch.frombuffer(bytearray(json.dumps(embeddings.labels).encode()), dtype=torch.uint8)
    fields = {"space": embeddings.space.to_dict(), "count": len(embeddings), "source": embeddings.source}
    _write(Path(path), "embeddings", fields, {"vectors": embeddings.vectors, "labels": labels})


def load_embeddings(path: str | os.PathLike) -> Embeddings:
    """Read embeddings that `save_embeddings` wrote. Raises as `load_density`."""
    return _build(*_read(Path(path), "embeddings"))


def save_exposure(memory: ExposureMemory, path: str | os.PathLike) -> None:
    """Write a memory to `path`; an existing file is replaced in one step, or left as it was."""
    _write(Path(path), "exposure", *memory.state())


def load_exposure(path: str | os.PathLike) -> ExposureMemory:
    """Read a memory that `save_exposure` wrote. Raises as `load_density`."""
    return _build(*_read(Path(path), "exposure"))


def inspect_file(path: str | os.PathLike) -> dict:
    """What a file holds, after all checks of loading: kind, version, space, counts, source, tensors' shapes."""
    kind, fields, tensors = _read(Path(path), None)
    _build(kind, fields, tensors)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    return {"kind": kind, **fields, "tensors": shapes}


def safe_path(folder: str | os.PathLike, name: str, suffix: str = ".safetensors") -> Path:
    """The path of `name` inside `folder`, with `suffix`; subfolders with "/" are fine, leaving the folder is not.

    Raises
    ------
    RarityError : an empty name, one that leaves the folder, or one that not every system can keep.
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
        ):
            raise RarityError(f"The file name {name!r} cannot be used: {part!r} is not a plain name. {advice}")
    root = Path(folder).resolve()
    path = root.joinpath(*parts).resolve()
    if not path.is_relative_to(root):
        raise RarityError(f"The file name {name!r} leaves its folder. {advice}")
    return path


def _build(kind: str, fields: dict, tensors: dict[str, Tensor]) -> GaussianDensity | Embeddings | ExposureMemory:
    if kind == "density":
        return GaussianDensity.from_state(fields, tensors)
    if kind == "exposure":
        return ExposureMemory.from_state(fields, tensors)
    labels = _parse(tensors["labels"].numpy().tobytes(), "list of labels")
    if not isinstance(labels, list):
        raise RarityError("The labels in this file are damaged: expected a list of texts. Save the embeddings anew.")
    space = EmbeddingSpace.from_dict(fields.get("space"))
    return Embeddings(tensors["vectors"], space, tuple(labels), fields.get("source"))


def _write(path: Path, kind: str, fields: dict, tensors: dict[str, Tensor]) -> None:
    head = {"format": "rarity", "version": list(VERSION), "kind": kind, **fields}
    check_json(head, "What is saved")
    head["content_hash"] = _content_hash(head, tensors)
    text = json.dumps(head, allow_nan=False)
    if len(text) > MAX_HEADER // 2:
        raise RarityError(
            f"The source of what is saved is too long: {len(text):,} characters, at most {MAX_HEADER // 2:,}."
        )
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"rarity": text})
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")  # in the same folder, so that replacing is one step
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RarityError(
            f"{path} could not be written: {error.strerror or error}. Check the folder and the free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, expected: str | None) -> tuple[str, dict, dict[str, Tensor]]:
    """Kind, fields and tensors of a file: sizes are checked before reading, everything else before it is returned."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, tensors_at = _read_header(file, size, path)
            kind, head, layout = _check_header(header, size - tensors_at, expected, path)
            data = file.read(size - tensors_at)
    except RarityError:
        raise
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        raise RarityError(f"{path} could not be opened: {error}. Check the name and the folder.") from error
    if len(data) != size - tensors_at:
        raise _damaged(path, "it ended early")
    tensors = {}
    for name, (dtype, shape, start, end) in layout.items():
        flat = (
            torch.frombuffer(bytearray(data[start:end]), dtype=DTYPES[dtype])
            if end > start
            else torch.empty(0, dtype=DTYPES[dtype])
        )
        tensors[name] = ordinary(flat.reshape(shape), DTYPES[dtype])
        if not torch.isfinite(tensors[name]).all():
            raise _damaged(path, f"{name} holds values that are not finite")
    stated = head.pop("content_hash", None)
    if stated != _content_hash(head, tensors):
        raise _damaged(path, "its content does not match its own digest")
    return kind, {key: value for key, value in head.items() if key not in ("format", "kind")}, tensors


def _read_header(file, size: int, path: Path) -> tuple[dict, int]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if len(start) < 8 or length < 2 or 8 + length > size:
        raise _damaged(path, "it is truncated, or no safetensors file")
    if length > MAX_HEADER:
        raise _damaged(path, f"its header is {length:,} bytes, at most {MAX_HEADER:,} are expected")
    header = _parse(file.read(length), "header")
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no dictionary")
    return header, 8 + length


def _check_header(header: dict, room: int, expected: str | None, path: Path) -> tuple[str, dict, dict]:
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {"rarity"} or not isinstance(metadata["rarity"], str):
        raise RarityError(
            f"{path} is a safetensors file, but not one that Rarity saved. Choose a file made by a Rarity save node."
        )
    head = _parse(metadata["rarity"].encode("utf-8", "surrogatepass"), "description")
    if not isinstance(head, dict) or head.get("format") != "rarity":
        raise RarityError(
            f"{path} is a safetensors file, but not one that Rarity saved. Choose a file made by a Rarity save node."
        )
    check_json(head, "The description in this file")
    version = head.get("version")
    if not isinstance(version, list) or len(version) != 2 or not all(type(v) is int and v >= 0 for v in version):
        raise _damaged(path, f"its version is {version!r}")
    if version[0] > VERSION[0]:
        raise RarityError(
            f"{path} has format {version[0]}.{version[1]}; this Rarity reads up to {VERSION[0]}.x. Update Rarity."
        )
    kind = head.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise _damaged(path, f"its kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if expected not in (None, kind):
        raise RarityError(
            f"{path} holds {kind}, expected {expected}. Choose another file, or the node that loads {kind}."
        )
    most, known = KINDS[kind]
    if room > most:
        raise _damaged(path, f"it holds {room:,} bytes, at most {most:,} are expected")
    if set(header) != set(known):
        raise _damaged(path, f"it holds the tensors {sorted(header)}, expected {sorted(known)}")
    layout = {name: _check_tensor(name, header[name], known[name], path) for name in known}
    # Every byte belongs to exactly one tensor.
    end = 0
    for name, (_, _, start, stop) in sorted(layout.items(), key=lambda item: item[1][2:]):
        if start != end:
            raise _damaged(path, f"{name} overlaps another tensor or leaves a gap")
        end = stop
    if end != room:
        raise _damaged(path, f"its tensors need {end:,} bytes, it holds {room:,}")
    return kind, head, layout


def _check_tensor(name: str, entry, known: tuple[str, int], path: Path) -> tuple[str, list[int], int, int]:
    dtype, dims = known
    fields = entry if isinstance(entry, dict) else {}
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    for numbers, count in ((shape, dims), (offsets, 2)):
        if (
            not isinstance(numbers, list)
            or len(numbers) != count
            or not all(type(v) is int and 0 <= v < 1 << 40 for v in numbers)
        ):
            raise _damaged(path, f"{name} has no sound shape and place")
    elements = 1
    for length in shape:
        elements *= length
    if (
        set(fields) != {"dtype", "shape", "data_offsets"}
        or fields["dtype"] != dtype
        or offsets[1] - offsets[0] != elements * ITEM_BYTES[dtype]
    ):
        raise _damaged(path, f"{name} is not a {dtype} tensor of {shape}")
    return dtype, shape, offsets[0], offsets[1]


def _content_hash(head: dict, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the description, and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _parse(data: bytes, what: str):
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RarityError(
            f"The {what} of this file is damaged: it is not JSON. Get the file again, or save it anew."
        ) from error


def _damaged(path: Path, why: str) -> RarityError:
    return RarityError(f"{path} is damaged or was not saved by Rarity: {why}. Get the file again, or save it anew.")
