"""The baseline of a prompt: samples of Kandinsky's prior, as many as are needed, kept on disk while they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...density.base.embeddings import Embeddings
from ...density.base.errors import quoted
from ...density.base.progress import Progress
from ..eyes.prompt_tokens import unread
from ..runtime.kept_baselines import Drawn, check_range, gather, keep
from .prior import Prior, sampling_source


def draw_baseline(
    prior: Prior,
    prompt: str,
    count: int,
    *,
    first: int = 0,
    stop_when_enough: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    **settings,
) -> tuple[Embeddings, str]:
    """The samples of a prompt in memory, and a report in words.

    Parameters
    ----------
    prior, prompt, count, progress : as in `Prior.sample`; `settings` are its seed, steps, guidance, negative_prompt and
        batch_size.
    first : the number of the first sample, so that several machines can each draw a part of one baseline. Sample i of a
        seed is the same wherever it is drawn.
    stop_when_enough : end before `count` when `Convergence` has seen enough.
    folder : where to keep the samples, as `keep` does; None keeps nothing.

    Returns
    -------
    At most `count` embeddings, from sample `first` on; a report of how many there are, whether they are known to be enough,
    and what of the prompts was not read.

    Raises
    ------
    RarityError : as `Prior.sample` and `keep`.
    """
    drawn = _by_prior(prior, prompt, count, first, progress=progress, **settings)
    what = f"samples of {quoted(prompt)}" + (f", from number {first:,} on" if first else "")
    embeddings, report = gather(drawn, count, what, stop_when_enough=stop_when_enough, folder=folder)
    return embeddings, "\n".join([report, *unread(prior.reads([prompt, settings.get("negative_prompt", "")]))])


def keep_samples(
    prior: Prior,
    folder: str | Path,
    prompt: str,
    count: int,
    *,
    progress: Progress | None = None,
    **settings,
) -> Iterator[Embeddings]:
    """The samples 0 ... count - 1 of a prompt, batch by batch, kept by `keep`. Parameters as for `draw_baseline`.

    It is for scripts in which `fit_density` learns from the batches: at most one shard of the samples is in memory.
    """
    return keep(_by_prior(prior, prompt, count, 0, progress=progress, **settings), folder, count)


def _by_prior(
    prior: Prior, prompt: str, count: int, first: int, *, batch_size: int = 0, progress=None, **settings
) -> Drawn:
    check_range(count, first, "samples")

    def after(number: int) -> Iterator[Embeddings]:
        return prior.sample_batches(
            prompt, first + count, first=number, batch_size=batch_size, progress=progress, **settings
        )

    return Drawn(prior.space, sampling_source(prompt, **settings), after, first=first)
