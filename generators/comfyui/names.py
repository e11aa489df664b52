"""Names of a MODEL and of conditionings, which are the same on every device and machine and in every precision."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...density.base.keys import stir
from ..eyes.fingerprint import weights_name

WEIGHTS = 64  # weights of a model that its name is made of
BUCKETS = 64
DEEP = 3  # levels of objects inside objects whose values go into a name


def conditioning_name(conditioning) -> str:
    """A short digest of a conditioning: of coarse numbers of its tensors (`coarse`), and of its exact numbers and texts."""
    return _digest(_told(conditioning, coarse))


def model_name(model) -> str:
    """A short digest of a MODEL: of some weights as they were loaded, and of all patches.

    Of a patched function only its name counts, and not what it holds inside.
    """
    entries = model.get_key_patches()
    names = sorted(name for name, ((weight, *_), *_) in entries.items() if _plain(weight))
    some = names[:: max(1, len(names) // WEIGHTS)]
    patched = {name: patches for name, (_, *patches) in sorted(entries.items()) if patches}
    told = [patched, model.object_patches, model.model_options]
    return _digest([weights_name(entries[name][0][0] for name in some), _told(told, lambda weight: weights_name([weight]))])


def coarse(x: Tensor) -> list[int]:
    """Coarse numbers of a tensor that do not depend on the machine: its size, its length in eighths of an octave, and 64 sums.

        round(2 sqrt(64) c_j / |x|),    c_j = sum over i = j mod 64 of s_i x_i,    s_i fixed signs

    The sums are a count sketch (Charikar, Chen & Farach-Colton 2002); c_j sqrt(64) / |x| is about 1 in size. If a tensor
    changes by 5 % of its length, a number changes in 99 of 100 cases; the rounding of another machine (1e-6) changes one in
    one of 8,000 cases.
    """
    values = x.detach().to("cpu", torch.float32).double().flatten()
    size = float(values.norm())
    if not 0 < size < math.inf:
        return [*x.shape, 0]
    signs = torch.from_numpy((stir(np.arange(1, len(values) + 1, dtype=np.uint64)) & np.uint64(1)).astype(np.float64)) * 2 - 1
    padded = torch.nn.functional.pad(values * signs, (0, -len(values) % BUCKETS))
    sums = padded.view(-1, BUCKETS).sum(dim=0) * (math.sqrt(BUCKETS) / size)
    return [*x.shape, round(8 * math.log2(size)), *(2 * sums).round().int().tolist()]


def _told(value, of_tensor: Callable[[Tensor], object], deep: int = DEEP):
    """JSON values for any object: its type, and the values and tensors in it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, Tensor):
        return of_tensor(value) if _plain(value) or value.dtype in (torch.int64, torch.int32, torch.bool) else list(value.shape)
    if isinstance(value, (list, tuple)):
        return [_told(one, of_tensor, deep) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, dict):
        return {str(name): _told(one, of_tensor, deep) for name, one in value.items() if not callable(name)}
    name = getattr(value, "__qualname__", type(value).__qualname__)
    held = {} if deep == 0 else getattr(value, "__dict__", {})
    held = {**held, **(dict(value.named_buffers(recurse=False)) if isinstance(value, torch.nn.Module) else {})}
    return [name, {key: _told(one, of_tensor, deep - 1) for key, one in held.items() if not key.startswith("_")}]


def _plain(value) -> bool:
    """Whether a tensor holds ordinary numbers. Of quantised weights, and of weights not loaded yet, only the name counts."""
    return isinstance(value, Tensor) and type(value) in (Tensor, torch.nn.Parameter) and value.is_floating_point() and not value.is_meta


def _digest(told) -> str:
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()
