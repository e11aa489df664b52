"""The command `rarity`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

# Before torch is imported: OpenMP's threads shall sleep while they wait. By default they spin, and on a machine that is
# busy with something else as well that makes small models more than ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .density.errors import RarityError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 an error that the user can put right, 130 stopped)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (RarityError, OSError) as error:
        sys.stderr.write(f"rarity: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("rarity: stopped, nothing was written.\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rarity", description="Make image models creative on purpose.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "demo",
        help="draw rare letters with the built-in miniature",
        description="The whole path on the built-in miniature: learn what it usually draws for a prompt, make letters it "
        "would draw only once in N times, and set them beside usual ones. Writes contact_sheet.png, density_map.png and "
        "report.json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--out", type=Path, default=Path("rarity_demo"), metavar="DIR", help="folder to write to")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of every random draw")
    command.add_argument("--prompt", default="a letter G", metavar="TEXT", help="such as 'a bold italic serif letter R'")
    command.add_argument("--one-in", type=int, default=1000, metavar="N", help="how rare: 1 in N")
    command.set_defaults(run=_demo)

    command = commands.add_parser(
        "inspect",
        help="say what a saved file holds",
        description="What a saved density or a file of embeddings holds, as JSON. Nothing in the file is run.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file that Rarity wrote")
    command.set_defaults(run=_inspect)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from .generators.demo import demo

    with _Bars() as bars:
        result = demo(options.prompt, seed=options.seed, one_in=options.one_in, stage=bars)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    _write_picture(out / "contact_sheet.png", result.contact_sheet)
    _write_picture(out / "density_map.png", result.density_map)
    _replace(out / "report.json", lambda path: path.write_text(json.dumps(result.report, indent=2) + "\n", encoding="utf-8"))
    sys.stdout.write(f"{result.trajectory.report()}\n{result.report['seconds']:.0f} s. Look at {out / 'contact_sheet.png'}\n")


def _inspect(options: argparse.Namespace) -> None:
    from .density.files import inspect_file

    sys.stdout.write(json.dumps(inspect_file(options.file), indent=2, ensure_ascii=False) + "\n")


class _Bars:
    """One progress bar for each stage. Called with a stage's name, gives the progress function of that stage."""

    def __init__(self):
        self._bar = None

    def __call__(self, name: str):
        from tqdm import tqdm

        self._close()
        bar = self._bar = tqdm(desc=name, bar_format="{desc:<24} {bar:30} {percentage:3.0f} %  {elapsed}")

        def progress(done: int, total: int) -> None:
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


def _write_picture(path: Path, picture) -> None:
    """Write [1, H, W, 3], values 0 to 1, as PNG."""
    from matplotlib.image import imsave

    _replace(path, lambda unfinished: imsave(unfinished, picture[0].clamp(0, 1).numpy(), format="png"))


def _replace(path: Path, write) -> None:
    """Write beside the target and move it there when it is whole, so that nothing half-written is left under its name."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
