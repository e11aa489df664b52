"""The container: safetensors with one JSON key, checked before its content is used. `store` knows what it holds."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.tensors import check_json, plain

VERSION = (2, 0)
MAX_HEADER = 1 << 20  # bytes of JSON at the head of a file
DTYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}
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
            "row_keys": ("I64", 1),
            "later_keys": ("I64", 1),
            "fold_means": ("F64", 2),
            "fold_scatters": ("F64", 2),
            "fold_thirds": ("F64", 2),
            "fold_fourths": ("F64", 1),
        },
    ),
    "embeddings": (4 << 30, {"vectors": ("F32", 2), "labels": ("U8", 1), "keys": ("I64", 1)}),
    "exposure": (
        1 << 30,
        {"vectors": ("F32", 2), "weights": ("F64", 1), "keys": ("I64", 1), "labels": ("U8", 1)},
    ),
    "strength": (1 << 28, {"strengths": ("F64", 1), "x": ("F32", 3), "slack": ("F64", 3), "tiles": ("U8", 5)}),
    "concept": (
        4 << 30,
        {"tokens": ("F32", 2), "loras": ("F32", 2), "samples": ("F32", 3), "readings": ("F64", 3), "accepted": ("U8", 1)},
    ),
}
NEW = {"row_keys", "keys"}  # tensors that earlier files lack: keys are then made of the rows' bytes
# estimator -> tensors that its density has in addition to those of every density
MORE = {"mixture": {"mode_weights": ("F64", 1), "mode_means": ("F64", 2), "mode_factors": ("F64", 3)}}
# kind -> tensors of files that an earlier version saved: they are checked like the others, and not used
EARLIER = {"exposure": {"mean": ("F64", 1), "scatter": ("F64", 2)}}


def write(path: Path, kind: str, fields: dict, tensors: dict[str, Tensor]) -> None:
    """Write a file in one step: an existing file is replaced or left as it was."""
    head = {"format": "rarity", "version": list(VERSION), "kind": kind, **fields}
    check_json(head, "What is saved")
    head["content_hash"] = content_hash(head, tensors)
    text = json.dumps(head, allow_nan=False)
    if len(text) > MAX_HEADER // 2:
        raise RarityError(
            f"The source of what is saved is too long: {len(text):,} characters, at most {MAX_HEADER // 2:,}."
        )
    size, limit = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), KINDS[kind][0]
    if size > limit:
        raise RarityError(
            f"What is to be saved holds {size:,} bytes, at most {limit:,} could be loaded again. Save it in parts."
        )
    put(path, safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"rarity": text}))


def put(path: Path, data: bytes) -> None:
    """Write bytes to a temporary file and rename it in one step: an existing file is replaced or left as it was."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")  # in the same folder, so that replacing is one step
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except UnicodeEncodeError as error:
        raise RarityError(f"{path} could not be written: {plain_names()}") from error
    except OSError as error:
        raise RarityError(
            f"{path} could not be written: {error.strerror or error}. Check the folder and the free space."
        ) from error
    finally:
        with suppress(OSError, UnicodeEncodeError):  # the error that matters is the one above
            temporary.unlink(missing_ok=True)


def plain_names() -> str:
    """Why a file's name cannot be used on this system, and what to do."""
    return (
        f"Python keeps file names in {sys.getfilesystemencoding()} here, which has not all of its letters. Choose a name in plain "
        "letters, or set PYTHONUTF8=1 before starting."
    )


def read(path: Path, expected: str | None) -> tuple[str, dict, dict[str, Tensor]]:
    """Kind, fields and tensors of a file: sizes are checked before reading, everything else before it is returned.

    Raises
    ------
    RarityError : no such file; truncated, damaged, oversized, foreign, of another kind or of a newer format.
    """
    with opened(path, expected) as (file, kind, head, layout):
        tensors = {name: read_tensor(file, name, *place[:3], path) for name, place in layout.items()}
    stated = head.pop("content_hash", None)
    if stated != content_hash(head, tensors):
        raise damaged(path, "its content does not match its own digest")
    return kind, fields_of(head), tensors


def fields_of(head: dict) -> dict:
    """The fields of a description that belong to the saved object, not to the container."""
    return {key: value for key, value in head.items() if key not in ("format", "kind", "content_hash")}


@contextmanager
def opened(
    path: Path, expected: str | None, most: int | None = None
) -> Iterator[tuple[BinaryIO, str, dict, dict[str, tuple]]]:
    """An open file with its header checked: (file, kind, head, {name: (dtype, shape, first byte, end)}).

    most : bytes that the file may hold, in place of its kind's own limit.
    """
    try:
        if path.is_fifo():  # opening a pipe would wait for somebody to write to it
            raise OSError("it is a pipe, not a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, at = _read_header(file, size, path)
            kind, head, layout = _check_header(header, size - at, expected, most, path)
            places = {name: (dtype, shape, at + start, at + end) for name, (dtype, shape, start, end) in layout.items()}
            yield file, kind, head, places
    except RarityError:
        raise
    except UnicodeEncodeError as error:
        raise RarityError(f"{path} could not be opened: {plain_names()}") from error
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        raise RarityError(f"{path} could not be opened: {error}. Check the name and the folder.") from error


def read_tensor(file: BinaryIO, name: str, dtype: str, shape: list[int], start: int, path: Path) -> Tensor:
    """Read the tensor that starts at this byte of the file, and check that its values are finite."""
    with plain():
        tensor = torch.empty(shape, dtype=DTYPES[dtype])
    file.seek(start)
    data = as_bytes(tensor)
    if file.readinto(data) != len(data):
        raise damaged(path, "it ended early")
    if not torch.isfinite(tensor).all():
        raise damaged(path, f"{name} holds values that are not finite")
    return tensor


def _read_header(file, size: int, path: Path) -> tuple[dict, int]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if len(start) < 8 or length < 2 or 8 + length > size:
        raise damaged(path, "it is truncated, or no safetensors file")
    if length > MAX_HEADER:
        raise damaged(path, f"its header is {length:,} bytes, at most {MAX_HEADER:,} are expected")
    header = parse(file.read(length), "header")
    if not isinstance(header, dict):
        raise damaged(path, "its header is no dictionary")
    return header, 8 + length


def _check_header(
    header: dict, room: int, expected: str | None, most: int | None, path: Path
) -> tuple[str, dict, dict]:
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {"rarity"} or not isinstance(metadata["rarity"], str):
        raise RarityError(
            f"{path} is a safetensors file, but not one that Rarity saved. Choose a file made by a Rarity save node."
        )
    head = parse(metadata["rarity"].encode("utf-8", "surrogatepass"), "description")
    if not isinstance(head, dict) or head.get("format") != "rarity":
        raise RarityError(
            f"{path} is a safetensors file, but not one that Rarity saved. Choose a file made by a Rarity save node."
        )
    check_json(head, "The description in this file")
    version = head.get("version")
    if not isinstance(version, list) or len(version) != 2 or not all(type(v) is int and v >= 0 for v in version):
        raise damaged(path, f"its version is {version!r}")
    if version[0] > VERSION[0]:
        raise RarityError(
            f"{path} has format {version[0]}.{version[1]}; this Rarity reads up to {VERSION[0]}.x. Update Rarity."
        )
    kind = head.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise damaged(path, f"its kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if expected not in (None, kind):
        raise RarityError(
            f"{path} holds {kind}, expected {expected}. Choose another file, or the node that loads {kind}."
        )
    limit, known = KINDS[kind]
    if kind == "density" and isinstance(head.get("estimator"), str):
        known = known | MORE.get(head["estimator"], {})
    if room > (most or limit):
        raise damaged(path, f"it holds {room:,} bytes, at most {most or limit:,} are expected")
    known = {name: known[name] for name in known if name in header or name not in NEW}
    known = known | {name: form for name, form in EARLIER.get(kind, {}).items() if name in header}
    if set(header) != set(known):
        raise damaged(path, f"it holds the tensors {sorted(header)}, expected {sorted(known)}")
    layout = {name: _check_tensor(name, header[name], known[name], path) for name in known}
    # Every byte belongs to exactly one tensor.
    end = 0
    for name, (_, _, start, stop) in sorted(layout.items(), key=lambda item: item[1][2:]):
        if start != end:
            raise damaged(path, f"{name} overlaps another tensor or leaves a gap")
        end = stop
    if end != room:
        raise damaged(path, f"its tensors need {end:,} bytes, it holds {room:,}")
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
            raise damaged(path, f"{name} has no sound shape and place")
    elements = 1
    for length in shape:
        elements *= length
    if (
        set(fields) != {"dtype", "shape", "data_offsets"}
        or fields["dtype"] != dtype
        or offsets[1] - offsets[0] != elements * DTYPES[dtype].itemsize
    ):
        raise damaged(path, f"{name} is not a {dtype} tensor of {shape}")
    return dtype, shape, offsets[0], offsets[1]


def content_hash(head: dict, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the description and of every tensor's name, type, shape and bytes."""
    digest = new_digest(head)
    for name in sorted(tensors):
        feed(digest, name, tensors[name])
    return digest.hexdigest()


def new_digest(head: dict):
    """A new digest that begins with the description."""
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode())


def feed(digest, name: str, tensor: Tensor) -> None:
    """Add a tensor to a digest."""
    announce(digest, name, tensor.dtype, list(tensor.shape))
    digest.update(as_bytes(tensor.contiguous()))


def announce(digest, name: str, dtype: torch.dtype, shape: list[int]) -> None:
    """Add a tensor's name, type and shape to a digest, which come before its bytes."""
    digest.update(f"{name} {dtype} {shape}".encode())


def parse(data: bytes, what: str):
    """The JSON value that bytes of a file hold."""
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RarityError(
            f"The {what} of this file is damaged: it is not JSON. Get the file again, or save it anew."
        ) from error


def damaged(path: Path, why: str) -> RarityError:
    """The error for a file whose content cannot be trusted."""
    return RarityError(f"{path} is damaged or was not saved by Rarity: {why}. Get the file again, or save it anew.")


def as_bytes(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor, as bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
