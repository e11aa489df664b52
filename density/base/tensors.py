"""Small functions that every module here needs: ordinary tensors, seeded generators, JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .errors import RarityError


@contextmanager
def plain() -> Iterator[None]:
    """Inside this context results are ordinary tensors without gradients, even if a host runs inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def ordinary(tensor: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """A contiguous CPU copy that takes part in autograd, whatever mode the original was made in.

    A host may run everything under `torch.inference_mode()`. Tensors made there cannot be saved for a backward pass
    later, so every tensor that is kept is copied once, outside that mode.
    """
    with plain():
        copy = torch.empty(tensor.shape, dtype=dtype)
        return copy.copy_(tensor.detach().cpu())  # not every device can hold float64


def here(x: Tensor | float) -> Tensor:
    """x on the CPU in float64, where densities and guardrails compute; gradients flow back to the original x."""
    return x.cpu().double() if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64)


def all_finite(rows: Tensor) -> bool:
    """Whether all values of [n, d] are finite, in one pass that makes no tensor as large as the rows."""
    # A finite sum has finite values. An infinite sum may come of huge values, so only then is every value looked at.
    return bool(torch.isfinite(rows.sum(dim=1)).all()) or bool(torch.isfinite(rows).all())


def generator(seed: int) -> torch.Generator:
    """A local CPU generator, so that the global random state is neither read nor changed."""
    return torch.Generator("cpu").manual_seed(int(seed) % 2**64)


def normal_rows(count: int, width: int, seed: int) -> Tensor:
    """Standard normal rows [count, width] float64; row i of a seed is the same however many are drawn."""
    random = generator(seed)  # row by row: in one draw the last numbers would depend on how many there are
    return torch.stack([torch.randn(width, generator=random, dtype=torch.float64) for _ in range(count)])


def check_json(value, what: str, depth: int = 8) -> None:
    """Raise RarityError unless `value` is made of JSON values only (finite numbers, string keys, limited nesting)."""
    if depth == 0:
        raise RarityError(f"{what} is nested too deeply: expected at most 8 levels of lists and dictionaries.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RarityError(f"{what} has the key {key!r}: expected text keys only, as JSON has.")
            check_json(item, f"{what}[{key!r}]", depth - 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_json(item, what, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RarityError(f"{what} holds {value}: expected finite numbers only.")
    elif not (value is None or isinstance(value, (str, bool, int, float))):
        raise RarityError(f"{what} holds a {type(value).__name__}: expected JSON values (text, numbers, lists, None).")
