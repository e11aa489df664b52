"""Every node in a running ComfyUI: those that no shipped workflow has, in one graph of their own."""

import json

import pytest
from comfyui import ROOT, messages
from graph import nodes_in

SECONDS = 900  # for one run; twenty on a quiet machine, the rest is room for a busy one


def graph():
    """What an artist might build: two shards merged, chained guardrails and directions, a picture varied, sources named."""

    def node(class_type, **inputs):
        return {"class_type": class_type, "inputs": inputs}

    def sample(seed):
        return node("RaritySamplePrior", prior=["model", 0], prompt="a letter G", count=300, seed=seed, steps=5, guidance=4.0)

    def decode(source, output=0):
        return node("RarityDecodeKandinsky", decoder=["model", 1], embeddings=[source, output], seed=0, steps=4, guidance=0.0)

    def optimize(**more):
        return node("RarityMakeRare", density=["merged", 0], embeddings=["usual", 0], one_in=["dial", 0], count=4, start_from="usual",
                    steps=30, seed=0, guardrail=["contrast", 0], **more)

    return {
        "model": node("RarityLoadKandinsky", model="miniature (built in)"),
        "usual": sample(0),
        "more": sample(1),
        "density": node("RarityFitDensity", embeddings=["usual", 0], components=0),
        "other": node("RarityFitDensity", embeddings=["more", 0], components=0),
        "merged": node("RarityMergeDensities", density_1=["density", 0], density_2=["other", 0]),
        "words": node("RarityDescribeDensity", density=["merged", 0], one_in=100),
        "habit": node("RarityUsualInWords", embeddings=["usual", 0], phrases="a bold letter G\na light letter G", seed=0,
                      eye=["model", 0], rare=["rare", 0]),
        "anchor": node("RarityAnchorGuardrail", embeddings=["usual", 0], quantile=0.01),
        "residual": node("RarityResidualGuardrail", density=["merged", 0], max_percentile=99.0, guardrail=["anchor", 0]),
        "contrast": node("RarityContrastGuardrail", eye=["model", 0], embeddings=["usual", 0], subject="a letter G",
                         alternatives="a letter C\na letter O", quantile=0.2, guardrail=["residual", 0]),
        "bolder": node("RaritySteerTowards", strength=1.0, eye=["model", 0], towards="a bold letter G", away_from="a light letter G"),
        "away": node("RaritySteerTowards", strength=1.0, embeddings_away=["few", 0], direction=["bolder", 0]),
        "few": node("RaritySelectEmbeddings", embeddings=["usual", 0], indices="0, 3-5"),
        "dial": node("RarityDial", stop="100"),
        "rare": optimize(direction=["away", 0]),
        "rare pictures": decode("rare"),
        "all": node("RarityPickStep", trajectory=["rare", 2], mode="all", number=0, sample=1),
        "checkpoints": decode("all"),
        "curve": node("RarityInterestCurve", trajectory=["rare", 2], images=["checkpoints", 0], sample=1),
        "map": node("RarityDensityMap", density=["merged", 0], embeddings=["usual", 0], trajectory=["rare", 2]),
        "back": node("RarityPickStep", trajectory=["rare", 2], mode="by number", number=1, sample=-1),
        "seen": node("RarityEncodeImages", images=["rare pictures", 0], eye=["model", 0]),
        "varied": optimize(picture=["seen", 0], how_far=0.3),
        "varied pictures": decode("varied"),
        "reference": node("RaritySelectEmbeddings", embeddings=["usual", 0], indices="0-39"),
        "sources": decode("reference"),
        "original": node("RarityCheckOriginality", embeddings=["rare", 0], reference=["reference", 0], images=["rare pictures", 0],
                         reference_images=["sources", 0]),
        "table": node("PreviewAny", source=["original", 1]),
        "steps": node("PreviewAny", source=["back", 1]),
        "kept": node("RaritySaveFile", what=["varied", 0], name="every node"),
        "latents": node("RarityToClipVisionOutput", embeddings=["few", 0], eye=["model", 0]),
        "embedded": node("RarityFromClipVisionOutput", prior_latent=["latents", 1], eye=["model", 0]),
        "joined": node("RarityJoinEmbeddings", embeddings=["embedded", 0]),
        "kept too": node("RaritySaveFile", what=["joined", 0], name="every node again"),
        "learnt": node("RarityMakeRareConcept", prior=["model", 0], density=["density", 0], prompt="a letter G", word="G", kind="token",
                       one_in=100, objective="band", iterations=1, learning_rate=0.0, batch=2, rank=10, steps=5, guidance=4.0,
                       keep_every=25, seed=0, seeds=1),
        "kept concept": node("RaritySaveFile", what=["learnt", 0], name="every node"),
        "exported": node("RarityExportConcept", concept=["learnt", 0], name="every-node", checkpoint=-1),
        "kept density": node("RaritySaveFile", what=["merged", 0], name="every node"),
        **{f"save {name}": node("SaveImage", images=[name, output], filename_prefix=name.replace(" ", "_"))
           for name, output in (("curve", 0), ("map", 0), ("varied pictures", 0), ("original", 2))},
    }


def run(server, prompt):
    entry = server.run(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def test_one_graph_with_all_that_the_workflows_have_not(own_server):
    server, prompt = own_server, graph()
    entry = run(server, prompt)
    for name in ("curve", "map", "original"):
        (picture,) = server.pictures(entry, f"save {name}")
        assert picture.shape[1] >= 400 and picture.std() > 10, name
    assert len(server.pictures(entry, "save varied pictures")) == 4
    assert "none of these" in entry["outputs"]["habit"]["text"][0]
    assert "Learnt from 600 samples" in entry["outputs"]["words"]["text"][0]
    assert len(entry["outputs"]["table"]["text"][0].splitlines()) > 4 and entry["outputs"]["steps"]["text"][0]

    loaded = {
        "usual": {"class_type": "RarityLoadEmbeddings", "inputs": {"name": "every node.safetensors"}},
        "density": {"class_type": "RarityLoadDensity", "inputs": {"name": "every node.safetensors"}},
        "scores": {"class_type": "RarityScoreNovelty", "inputs": {"embeddings": ["usual", 0], "density": ["density", 0]}},
        "concept": {"class_type": "RarityLoadConcept", "inputs": {"name": "every node.safetensors"}},
        "learnt": {"class_type": "PreviewAny", "inputs": {"source": ["concept", 2]}},
        "bars": {"class_type": "SaveImage", "inputs": {"images": ["scores", 2], "filename_prefix": "bars"}},
    }
    (bars,) = server.pictures(run(server, loaded), "bars")
    assert bars.std() > 5

    ours = {name for name in server.nodes if name.startswith("Rarity")}
    used = {node["class_type"] for some in (prompt, loaded) for node in some.values()}
    for path in (ROOT / "workflows").glob("*.json"):
        used |= {node["type"] for node in nodes_in(json.loads(path.read_text(encoding="utf-8")))}
    # These need files of their own: test_gate.py, test_model_baseline.py, test_token.py.
    used |= {"RarityLoadJudge", "RarityLoadOpenCLIP", "RarityMakeRareWord"}
    assert ours <= used, ours - used


# What people type who want pictures they have not seen before, and do not know this pack.
TYPED = ["creative", "creativity", "different", "random", "similar", "seed", "explore", "variation", "surprise", "unusual", "unique",
         "weird", "rare"]


@pytest.mark.parametrize("word", TYPED)
def test_the_search_knows_the_words_that_artists_type(server, word):
    """The search of nodes reads names and these words, not descriptions; ComfyUI before 0.11 reads names alone."""
    ours = [info for name, info in server.nodes.items() if name.startswith("Rarity")]
    if not any("search_aliases" in info for info in ours):
        pytest.skip("This ComfyUI has no words to find nodes by.")
    assert any(word in info["search_aliases"] for info in ours)
