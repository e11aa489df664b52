"""One baseline drawn by several servers, as the loop of docs/many_machines.md asks them, and merged by one of them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from comfyui import messages
from rarity.density.estimators.choose import fit_density
from rarity.density.files.store import load_density
from rarity.generators.kandinsky.load import load_kandinsky

PAGE = Path(__file__).parents[2] / "docs" / "many_machines.md"


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("jq") and shutil.which("curl")), reason="needs bash, jq and curl")
def test_the_loop_over_servers_draws_parts_that_merge_to_the_whole(own_server, model, tmp_path):
    """Two runs of one server stand for two servers: what decides about a sample is its number."""
    name, folder = model
    graph = {
        "1": {"class_type": "RarityLoadKandinsky", "inputs": {"model": name}},
        "2": {"class_type": "RaritySamplePrior", "inputs": {
            "prior": ["1", 0], "prompt": "a letter G", "count": 1, "seed": 3, "steps": 2, "guidance": 4.0}},
        "3": {"class_type": "RarityFitDensity", "inputs": {"embeddings": ["2", 0], "components": 0}},
        "4": {"class_type": "RaritySaveFile", "inputs": {"what": ["3", 0], "name": "here goes its name"}},
    }
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    (loop,) = (block for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL) if "/prompt" in block)
    address = own_server.url.removeprefix("http://")
    loop = re.sub(r'servers="[^"]+"', f'servers="{address} {address}"', loop)
    loop = re.sub(r"count=\d+", "count=300", loop)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", loop], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "usual/0.safetensors" in done.stdout and "usual/300.safetensors" in done.stdout

    merge = {"m": {"class_type": "RarityMergeDensities", "inputs": {"folder": "usual"}},
             "s": {"class_type": "RaritySaveFile", "inputs": {"what": ["m", 0], "name": "all of them"}}}
    entry = own_server.run(merge)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    assert entry["outputs"]["s"]["text"] == ["Saved as all of them.safetensors in models/rarity_densities"]
    merged = load_density(own_server.base / "models" / "rarity_densities" / "all of them.safetensors")
    prior, _ = load_kandinsky(folder)
    whole = fit_density(prior.sample("a letter G", 600, seed=3, steps=2))
    assert merged.statistics.keys.equal(whole.statistics.keys) and merged.count == 600
