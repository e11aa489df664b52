"""Run every node that writes a file, with names that an ASCII file system cannot keep; print their answers as JSON.

    LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 python tests/support/ascii_names.py KANDINSKY FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from standin import use_standin_if_needed

use_standin_if_needed()

NAME = "gr\u00f6\u00dfe"


def main():
    models, folder = map(Path, sys.argv[1:])
    import folder_paths
    from rarity import nodes
    from rarity.density.files.container import put
    from rarity.generators.kandinsky.load import load_kandinsky

    for kind in ("rarity_densities", "rarity_embeddings", "rarity_exposures", "rarity_concepts", "rarity_strengths", "embeddings", "loras"):
        folder_paths.folder_names_and_paths[kind] = ([str(folder / kind)], {".safetensors"})
    prior, decoder = load_kandinsky(models)

    def run(node, **inputs):
        usual = {item.id: item.default for item in node.define_schema().inputs if getattr(item, "default", None) is not None}
        with torch.inference_mode():
            return node.execute(**usual | inputs).args

    (baseline,) = run(nodes.RaritySamplePrior, prior=prior, prompt="a r", count=60, steps=2)[:1]
    (density,) = run(nodes.RarityFitDensity, embeddings=baseline, components=4)[:1]
    (exposure,) = run(nodes.RarityExposureUpdate, embeddings=baseline)[:1]
    learning = {"prior": prior, "density": density, "prompt": "a r", "word": "r", "iterations": 1, "steps": 2}
    concept = run(nodes.RarityMakeRareConcept, **learning)[0]
    calls = {
        "Save a density": lambda name: run(nodes.RaritySaveFile, what=[density], name=[name]),
        "Load Density": lambda name: run(nodes.RarityLoadDensity, name=name),
        "Save embeddings": lambda name: run(nodes.RaritySaveFile, what=[baseline], name=[name]),
        "Save an exposure": lambda name: run(nodes.RaritySaveFile, what=[exposure], name=[name]),
        "Load Exposure": lambda name: run(nodes.RarityLoadExposure, name=name, embeddings=baseline),
        "Save a concept": lambda name: run(nodes.RaritySaveFile, what=concept, name=[name]),
        "Export Concept": lambda name: run(nodes.RarityExportConcept, concept=concept, name=[name], checkpoint=[-1]),
        "Sample Prior": lambda name: run(nodes.RaritySamplePrior, prior=prior, prompt="a r", count=2, steps=2, keep_as=name),
        "Make Rare: Concept": lambda name: run(nodes.RarityMakeRareConcept, keep_as=name, **learning),
        "its fingerprint": lambda name: nodes.RaritySaveFile.fingerprint_inputs(name=[name]),
        "a script": lambda name: put(folder / f"{name}.safetensors", b""),
        "a script's folder": lambda name: put(folder / name / "a.safetensors", b""),
    }
    said = {"encoding": sys.getfilesystemencoding()}
    for what, call in calls.items():
        try:
            call(NAME)
            said[what] = "nothing"
        except Exception as error:
            said[what] = f"{type(error).__name__}: {error}"
    said["files"] = [str(path) for path in folder.rglob("*") if path.is_file()]
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
