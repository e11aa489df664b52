"""What a command prints and writes: progress bars, JSON, pictures, files that are whole."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ...density.base.progress import Progress


class Bars:
    """One progress bar for each stage. Called with the name of a stage, it gives the progress function of that stage.

    A bar appears at the first step of its stage; the bar before it ends then.
    """

    def __init__(self):
        self._bar = None

    def __call__(self, name: str) -> Progress:
        from tqdm import tqdm

        bar = None

        def progress(done: int, total: int) -> None:
            nonlocal bar
            if bar is None and done:
                self._close()
                bar = self._bar = tqdm(desc=name, bar_format="{desc:<24} {bar:30} {percentage:3.0f} %  {elapsed}")
            if bar is not None:
                bar.total = total
                bar.update(done - bar.n)

        return progress

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._close()

    def _close(self):
        if self._bar is not None:
            self._bar.close()


def print_json(value) -> None:
    """Print JSON with the letters of its texts; if the output lacks some of them, print ASCII with escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(f"{text}\n")


def write_picture(path: Path, picture: Tensor) -> None:
    """Write a picture [1, H, W, 3], values 0 to 1, as PNG."""
    from matplotlib.image import imsave

    write_whole(path, lambda unfinished: imsave(unfinished, picture[0].clamp(0, 1).numpy(), format="png"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file beside the target, and move it there when it is whole: nothing half-written keeps the name."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
