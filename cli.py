"""The command `rarity`."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from pathlib import Path

# Before torch is imported: OpenMP's threads shall sleep while they wait. By default they spin, and on a machine that is
# busy with something else as well that makes small models more than ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .density.base.errors import RarityError
from .density.estimators.choose import CHOICES
from .generators.runtime.terminal import Bars, print_json, write_picture, write_whole


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 an error that the user can put right, 130 stopped)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console or a file that has no letter for a name shows its number
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (RarityError, OSError) as error:
        sys.stderr.write(f"rarity: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("rarity: stopped, nothing was written.\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rarity", description="Make image models creative on purpose.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "demo",
        help="draw something rare with a built-in model",
        description="The whole path on a built-in model: learn what it usually draws for a prompt, make pictures it "
        "would draw only once in N times, and set them beside usual ones. Writes contact_sheet.png, density_map.png and "
        "report.json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--out", type=Path, default=Path("rarity_demo"), metavar="DIR", help="folder to write to")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of every random draw")
    command.add_argument("--model", choices=("things", "letters"), default="things", help="what the model draws")
    example = "such as 'an outline drawing of a house', or 'a bold italic serif letter R'; without it a car, or the letter G"
    command.add_argument("--prompt", default=argparse.SUPPRESS, metavar="TEXT", help=example)
    command.add_argument("--one-in", type=int, default=1000, metavar="N", help="how rare: 1 in N")
    command.set_defaults(run=_demo)

    command = commands.add_parser(
        "score",
        help="how rare and how new pictures are",
        description="Reads pictures under a saved density, and under what a viewer has seen if an exposure memory is "
        "given: one line a picture, or JSON.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture files")
    command.add_argument("--density", type=Path, required=True, metavar="FILE", help="what is usual")
    command.add_argument("--exposure", type=Path, metavar="FILE", help="what the viewer has seen; nothing if left out")
    encoder = "the Kandinsky folder that the density was learnt with; the built-in miniature if left out"
    command.add_argument("--encoder", metavar="FOLDER", help=encoder)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=_score)

    command = commands.add_parser(
        "fit",
        help="learn a density from pictures, or from files of embeddings",
        description="Learns what is usual from your pictures, or from one or more files of embeddings, read piece by "
        "piece: they may be larger than the memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="picture files, folders of them, or embeddings saved by Rarity")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the density to write")
    encoder = "a Kandinsky folder whose eye sees the pictures; the built-in miniature if left out"
    command.add_argument("--encoder", metavar="FOLDER", help=encoder)
    _add_estimator(command)
    _add_cluster(command)
    command.set_defaults(run=_fit)

    command = commands.add_parser(
        "baseline",
        help="learn a density from samples of a prompt, any number of them, on many processes or machines",
        description="Draws samples of a prompt with a Kandinsky and learns what is usual. Finished pieces are kept beside the "
        "density, in a folder .shards: started again, it goes on where it was. Ctrl+C learns from what is finished.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--model", metavar="FOLDER", help="a Kandinsky folder; the built-in miniature if left out")
    command.add_argument("--prompt", required=True, metavar="TEXT", help="what to draw")
    command.add_argument("--count", type=int, default=20_000, metavar="N", help="how many samples")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the density to write")
    command.add_argument("--first", type=int, default=0, metavar="I", help="number of the first sample")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of all samples")
    command.add_argument("--steps", type=int, default=25, metavar="K", help="denoising steps")
    command.add_argument("--guidance", type=float, default=4.0, metavar="G", help="how strictly the prompt is followed")
    command.add_argument("--negative-prompt", default="", metavar="TEXT", help="what to stay away from")
    _add_estimator(command)
    _add_cluster(command)
    command.set_defaults(run=_baseline)

    command = commands.add_parser(
        "merge",
        help="make one density of several",
        description="The density of all samples that several were learnt from, as if learnt from at once. Each must have "
        "been made with the same estimator, from samples of another seed, or of other numbers of one seed.",
    )
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="densities that Rarity saved")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the density to write")
    command.set_defaults(run=_merge)

    command = commands.add_parser(
        "inspect",
        help="say what a saved file holds",
        description="What a saved density, concept, memory or file of embeddings holds, as JSON. Nothing in the file is run.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file that Rarity wrote")
    command.set_defaults(run=_inspect)
    return parser


def _add_estimator(command: argparse.ArgumentParser) -> None:
    command.add_argument("--estimator", default="ppca", metavar="NAME", help=f"one of {', '.join(CHOICES)}")
    components = "directions with a variance of their own; 0 chooses by held-out samples"
    command.add_argument("--components", type=int, default=0, metavar="K", help=components)


def _add_cluster(command: argparse.ArgumentParser) -> None:
    where = command.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that runs, as tcp://host:8786")
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine, each with a model of its own")


def _demo(options: argparse.Namespace) -> None:
    from .generators.demo import EXAMPLES, demo
    from .generators.kandinsky.load import MINIATURE, THINGS

    model = THINGS if options.model == "things" else MINIATURE
    prompt = getattr(options, "prompt", EXAMPLES[model])
    with Bars() as bars:
        result = demo(prompt, seed=options.seed, one_in=options.one_in, folder=model, stage=bars)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    write_picture(out / "contact_sheet.png", result.contact_sheet)
    write_picture(out / "density_map.png", result.density_map)
    write_whole(out / "report.json", lambda path: path.write_text(json.dumps(result.report, indent=2) + "\n", encoding="utf-8"))
    sys.stdout.write(f"{result.trajectory.report()}\n{result.report['seconds']:.0f} s. Look at {out / 'contact_sheet.png'}\n")


def _score(options: argparse.Namespace) -> None:
    from .density.files.store import load_density, load_exposure
    from .density.novelty.exposure import ExposureMemory
    from .density.novelty.scores import score_novelty
    from .generators.eyes.picture_files import encode_picture_files
    from .generators.kandinsky.load import MINIATURE, load_kandinsky

    density = load_density(options.density)
    memory = load_exposure(options.exposure) if options.exposure else ExposureMemory(density.space)
    _require_same(density.space, options.density, memory.space, options.exposure, "Give a memory of the same encoder.")
    prior, _ = load_kandinsky(options.encoder or MINIATURE)
    advice = "Name the model that the density was learnt with: --encoder FOLDER."
    _require_same(density.space, options.density, prior.space, options.encoder or MINIATURE, advice)
    with Bars() as bars:
        pictures = encode_picture_files(prior, options.images, progress=bars("reading the pictures"))
    novelty = score_novelty(pictures, density, memory)
    if options.json:
        print_json(novelty.rows())
    else:
        sys.stdout.write(f"{novelty.table()}\n")


def _baseline(options: argparse.Namespace) -> int:
    def draw(cluster, client, progress) -> str:
        return cluster.draw_baseline(
            options.model or MINIATURE, options.prompt, options.count, options.out, client=client, first=options.first,
            seed=options.seed, steps=options.steps, guidance=options.guidance, negative_prompt=options.negative_prompt,
            estimator=options.estimator, components=options.components, progress=progress,
        )

    from .generators.kandinsky.load import MINIATURE

    return _on_cluster(options, "drawing samples", draw)


def _fit_on_cluster(options: argparse.Namespace) -> int:
    def fit(cluster, client, progress) -> str:
        return cluster.fit_pictures(
            options.files, options.out, client=client, encoder=options.encoder or MINIATURE, estimator=options.estimator,
            components=options.components, progress=progress,
        )

    from .generators.kandinsky.load import MINIATURE

    if any(file.suffix.lower() == ".safetensors" for file in options.files):
        raise RarityError("--scheduler and --workers are for pictures. Files of embeddings are read here: leave the two out.")
    return _on_cluster(options, "reading the pictures", fit)


def _on_cluster(options: argparse.Namespace, stage: str, work) -> int:
    """Run work(cluster, client, progress), which returns the density in words; returns the exit status."""
    try:
        from .generators import cluster
    except ImportError as error:  # ComfyUI's registry has the pack without what opens connections
        raise RarityError('This needs the package from PyPI: pip install "rarity-nodes[cluster]"') from error
    with cluster.connect(options.scheduler, workers=1 if options.workers is None else options.workers) as client, Bars() as bars:
        sys.stderr.write(f"Dask's dashboard: {client.dashboard_link}\n")
        try:
            report, status = work(cluster, client, bars(stage)), 0
        except KeyboardInterrupt as stopped:  # its text is the density of what was finished
            report, status = "\n".join(map(str, stopped.args)), 130
    if not report:
        sys.stderr.write(f"rarity: stopped. What was finished is kept in {cluster.shard_folder(options.out)}.\n")
    else:
        sys.stdout.write(f"{report}\nWritten to {options.out}\n")
    return status


def _fit(options: argparse.Namespace) -> int | None:
    from .density.estimators.choose import fit_density
    from .density.files.store import save_density, stream_embeddings
    from .generators.eyes.picture_files import encode_picture_files, picture_files
    from .generators.kandinsky.load import MINIATURE, load_kandinsky

    _keep_inputs(options)
    options.files = [file for given in options.files for file in picture_files(given)]
    if options.scheduler or options.workers is not None:
        return _fit_on_cluster(options)
    pictures = [file for file in options.files if file.suffix.lower() != ".safetensors"]
    streams = [(file, *stream_embeddings(file)) for file in options.files if file not in pictures]
    with Bars() as bars:
        if pictures:
            prior, _ = load_kandinsky(options.encoder or MINIATURE)
            seen = encode_picture_files(prior, pictures, progress=bars("reading the pictures"))
            streams.append((pictures[0], seen.space, seen.source, len(seen), [seen]))
        for file, space, *_ in streams:
            _require_same(streams[0][1], streams[0][0], space, file, "Learn from files of one encoder at a time.")
        total = sum(count for *_, count, _ in streams)
        reading, learning = bars("reading the embeddings"), bars("learning what is usual")

        def batches():
            done = 0
            for *_, parts in streams:
                for part in parts:
                    yield part
                    done += len(part)
                    reading(done, total)

        density = fit_density(batches(), options.estimator, components=options.components, progress=learning)
    save_density(density, options.out)
    sys.stdout.write(f"{density.describe()}\nWritten to {options.out}\n")


def _merge(options: argparse.Namespace) -> None:
    from .density.estimators.merge import merge_densities
    from .density.files.store import load_densities, save_density

    _keep_inputs(options)
    density = merge_densities(load_densities(options.files))
    save_density(density, options.out)
    sys.stdout.write(f"{density.describe()}\nWritten to {options.out}\n")


def _inspect(options: argparse.Namespace) -> None:
    from .density.files.store import inspect_file
    from .generators.concepts import concept_files  # noqa: F401  tells `inspect_file` of concepts

    print_json(inspect_file(options.file))


def _require_same(space, source, other_space, other_source, advice: str) -> None:
    if other_space != space:
        raise RarityError(
            f"{other_source} and {source} belong to different embedding spaces. Expected {space}, got {other_space}. "
            + advice
        )


def _keep_inputs(options: argparse.Namespace) -> None:
    if options.out.resolve() in [file.resolve() for file in options.files]:
        raise RarityError(f"{options.out} is one of the files to read, and would be lost. Give another name to --out.")
