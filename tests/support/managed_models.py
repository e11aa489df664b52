"""Print as JSON which models ComfyUI holds while the nodes run on a tiny Kandinsky.

    python tests/support/managed_models.py                       on the stand-in
    python tests/support/managed_models.py --comfyui FOLDER      on a ComfyUI checkout
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from node_schemas import load_nodes
from tiny_kandinsky import build_tiny_kandinsky


def main():
    parser = argparse.ArgumentParser(description="Models that ComfyUI manages.")
    parser.add_argument("--comfyui", type=Path)
    load_nodes(parser.parse_args().comfyui)
    import folder_paths
    from comfy import model_management
    from rarity import nodes
    from rarity.generators.kandinsky.load import load_kandinsky

    def held():
        names = []
        for entry in model_management.current_loaded_models:
            while type(entry).__name__ in ("LoadedModel", "ModelPatcher", "_Plain"):
                entry = entry.model
            names.append(type(entry).__name__)
        return names

    with tempfile.TemporaryDirectory() as place:
        build_tiny_kandinsky(Path(place) / "tiny")
        folder_paths.folder_names_and_paths["diffusers"] = ([place], ["folder"])
        plain_prior, plain_decoder = load_kandinsky(Path(place) / "tiny")
        expected = plain_prior.sample("a", 3, steps=2)
        pictures = plain_decoder.decode(expected, steps=2)
        found = {}
        with torch.inference_mode():
            prior, decoder = nodes.RarityLoadKandinsky.execute(model="tiny").args
            found["loaded"] = held()
            first = nodes.RaritySamplePrior.execute(prior=prior, prompt="a", count=3, seed=0, steps=2, guidance=4.0).args[0]
            found["sampled"] = held()
            drawn = nodes.RarityDecodeKandinsky.execute(decoder=decoder, embeddings=first, seed=0, steps=2, guidance=4.0).args[0]
            found["drawn"] = held()
            model_management.unload_all_models()
            found["pushed out"] = held()
            again = nodes.RaritySamplePrior.execute(prior=prior, prompt="a", count=3, seed=0, steps=2, guidance=4.0).args[0]
            found["sampled again"] = held()
        found["the same numbers"] = [
            torch.equal(first.vectors, expected.vectors), torch.equal(drawn, pictures), torch.equal(again.vectors, first.vectors),
        ]
        models = (prior.transformer, prior.text_encoder, decoder.unet, decoder.movq)
        found["weights of inference mode"] = sum(p.is_inference() for model in models for p in model.parameters())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
