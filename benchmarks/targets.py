"""What benchmarks share: where they run, and how they end, what was asked for beside what was reached."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

VERDICTS = {True: "reached", False: "MISSED", None: "-"}


def add_devices(parser: argparse.ArgumentParser) -> None:
    """The option --devices: all there are, or those of them that are named."""
    here = ["cpu", *["cuda"] * torch.cuda.is_available()]
    parser.add_argument("--devices", nargs="+", choices=here, default=here, help=f"of {' and '.join(here)}, all")


def show_targets(targets: list[dict]) -> None:
    """A line for each {"name", "value", "reach", "ok"}: the value a number or why there is none, the reach a number or (low, high)."""
    for target in targets:
        value = target["value"] if isinstance(target["value"], str) else f"{target['value']:.4g}"
        reach = target["reach"] if isinstance(target["reach"], (list, tuple)) else [target["reach"]]
        print(f"{VERDICTS[target['ok']]:8} {value} (asked: {' to '.join(f'{one:g}' for one in reach)})  {target['name']}")


def write_json(path: Path | None, **content) -> None:
    """What was measured, where a file is wanted."""
    if path:
        path.write_text(json.dumps(content, indent=2) + "\n")
