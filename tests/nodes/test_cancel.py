"""Cancel is heard in every node that has something to do on large inputs, and in every part of what it does."""

import pytest
import torch
from comfy import model_management, utils
from rarity import nodes
from rarity.density.novelty.exposure import ExposureMemory


@pytest.fixture
def pictures():
    return torch.linspace(0, 1, 6 * 8 * 8 * 3).view(6, 8, 8, 3)


@pytest.fixture
def jobs(run, baseline, density, pictures):
    """Node and inputs, by name."""
    items, seen = baseline.select(range(6)), baseline.select(range(20, 60))
    memory = ExposureMemory(density.space).update(seen)
    scored = {"embeddings": [items], "scores": [1.0, 5.0, 4.0, 3.0, 2.0, 0.5], "keep": [3], "floor": [0.0]}
    trajectory = run(nodes.RarityMakeRare, density=density, embeddings=items, count=2, steps=2)[2]
    return {
        "novelty": (nodes.RarityScoreNovelty, {"embeddings": items, "density": density, "exposure": memory}),
        "novelty, its sheet": (nodes.RarityScoreNovelty, {"embeddings": items, "density": density, "images": pictures}),
        "rank": (nodes.RarityRankImages, {"images": [pictures], **scored}),
        "rank, a list": (nodes.RarityRankImages, {"images": list(pictures.split(2)), **scored}),
        "diversity": (nodes.RarityMeasureVariety, {"embeddings": items}),
        "diversity, a reference": (nodes.RarityMeasureVariety, {"embeddings": items, "reference": seen}),
        "originality": (nodes.RarityCheckOriginality, {"embeddings": items, "reference": seen}),
        "originality, unrelated": (
            nodes.RarityCheckOriginality, {"embeddings": items, "reference": seen, "unrelated": baseline.select(range(60, 80))}
        ),
        "optimize": (nodes.RarityMakeRare, {"density": density, "embeddings": seen, "count": 2, "steps": 2}),
        "density map": (nodes.RarityDensityMap, {"density": density, "embeddings": baseline, "trajectory": trajectory}),
        "contact sheet": (nodes.RarityContactSheet, {"rare": pictures, "usual": pictures}),
    }


# How often each asks at the least on these few rows: once in every part, and once for every picture.
POINTS = {
    "novelty": 9, "novelty, its sheet": 9, "rank": 3, "rank, a list": 6, "diversity": 2,
    "diversity, a reference": 6, "originality": 3, "originality, unrelated": 6, "contact sheet": 12, "optimize": 4, "density map": 8,
}


@pytest.mark.parametrize("name", POINTS)
def test_cancel_is_heard_in_every_part(name, run, jobs, monkeypatch):
    node, inputs = jobs[name]
    monkeypatch.setattr(utils.ProgressBar, "update_absolute", lambda *_: asked.append(0))
    asked = []
    run(node, **inputs)
    points = len(asked)
    assert points >= POINTS[name]

    def cancel(*_):
        asked.append(0)
        if len(asked) == last:
            model_management.interrupt_current_processing()  # heard when it is asked for next

    monkeypatch.setattr(utils.ProgressBar, "update_absolute", cancel)
    for last in range(points):
        asked = []
        if last == 0:
            model_management.interrupt_current_processing()
        with pytest.raises(model_management.InterruptProcessingException):
            run(node, **inputs)
        assert len(asked) == last


def test_large_pictures_are_looked_at_few_at_a_time(run, model, monkeypatch):
    sent = []
    monkeypatch.setattr(utils.ProgressBar, "update_absolute", lambda _, done, total, *__: sent.append((done, total)))
    run(nodes.RarityEncodeImages, images=torch.zeros(3, 8, 8, 3), eye=model[0])
    assert sent == [(3, 3)]
    large = torch.zeros(1, 1, 1, 3).expand(5, 2048, 4096, 3)  # 8 million pixels each, in the memory of one
    sent.clear()
    run(nodes.RarityEncodeImages, images=large, eye=model[0])
    assert sent == [(2, 5), (4, 5), (5, 5)]
