"""Nodes on the stand-in (or the real ComfyUI, where it is importable), with a tiny random Kandinsky to run."""

import inspect

import pytest
import torch
from standin import use_standin_if_needed

use_standin_if_needed()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """A `diffusers` models folder that holds one tiny Kandinsky."""
    from tiny_kandinsky import build_tiny_kandinsky

    root = tmp_path_factory.mktemp("diffusers")
    build_tiny_kandinsky(root / "tiny")
    return root


@pytest.fixture
def folders(tiny_root, tmp_path, monkeypatch):
    """ComfyUI's model folders, pointed at the tiny model and at empty places that do not exist yet; returns the densities'."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tiny_root)], ["folder"]))
    for kind in ("rarity_densities", "rarity_embeddings", "rarity_exposures", "rarity_concepts", "rarity_strengths", "embeddings", "loras"):
        paths = ([str(tmp_path / kind)], {".safetensors"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, paths)
    return tmp_path / "rarity_densities"


@pytest.fixture
def run(folders):
    """Run a node as ComfyUI does: under inference mode, keywords only, with the schema's defaults where nothing is given."""

    def run_node(node, **inputs):
        given = {
            item.id: item.default
            for item in node.define_schema().inputs
            if getattr(item, "default", None) is not None and not item.optional
        } | inputs
        assert given.keys() <= inspect.signature(node.execute).parameters.keys()
        with torch.inference_mode():
            return node.execute(**given).args

    return run_node


@pytest.fixture
def model(run):
    from rarity import nodes

    return run(nodes.RarityLoadKandinsky, model="tiny")


@pytest.fixture
def baseline(run, model):
    from rarity import nodes

    return run(nodes.RaritySamplePrior, prior=model[0], count=80, steps=3)[0]


@pytest.fixture
def density(run, baseline):
    from rarity import nodes

    return run(nodes.RarityFitDensity, embeddings=baseline, components=4)[0]


@pytest.fixture
def rare(run, density, baseline):
    """What RarityMakeRare returns: rare, usual, trajectory, report."""
    from rarity import nodes

    return run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=10)
