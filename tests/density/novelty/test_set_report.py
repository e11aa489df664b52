"""The measures of a set read at once are those read one by one, and the table says each."""

import math

import pytest
import torch
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    RarityError,
    density_and_coverage,
    mean_pairwise_distance,
    rarity_score,
    vendi_score,
)
from rarity.density.base.tables import text_table
from rarity.density.novelty.set_report import measure_variety

SPACE = EmbeddingSpace("an encoder", "f", 6)


def cloud(n, seed, spread=1.0):
    return Embeddings(spread * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)), SPACE)


def test_it_is_the_measures_one_by_one():
    some, reference = cloud(20, 0), cloud(60, 1)
    variety = measure_variety(some, reference)
    assert [variety.vendi, variety.vendi_2, variety.vendi_inf] == [vendi_score(some, order) for order in (1, 2, math.inf)]
    assert variety.distance == mean_pairwise_distance(some)
    assert (variety.density, variety.coverage) == density_and_coverage(reference, some, 5)
    rarity = rarity_score(reference, some, 5)
    assert variety.outside == int(rarity.isnan().sum()) and variety.rarity == pytest.approx(float(rarity.nanmean()))
    alone = measure_variety(some)
    assert alone.vendi == variety.vendi and alone.coverage is None and alone.reference == 0


def test_the_table_names_what_is_there():
    table = measure_variety(cloud(20, 0), cloud(60, 1)).table()
    assert "20  pictures" in table and "Vendi" in table and "60 reference pictures" in table
    assert len(table.splitlines()) == 9 and len(measure_variety(cloud(20, 0)).table().splitlines()) == 5
    beyond = measure_variety(cloud(4, 0, spread=1000.0), cloud(60, 1))
    assert beyond.outside == 4 and math.isnan(beyond.rarity)
    assert "nan" not in beyond.table() and "4  lie beyond" in beyond.table()


def test_a_reference_needs_two_pictures_and_two_will_do():
    with pytest.raises(RarityError, match="at least 2 pictures, got 1"):
        measure_variety(cloud(5, 0), cloud(1, 1))
    assert measure_variety(cloud(5, 0), cloud(2, 1)).reference == 2


def test_columns_are_aligned():
    assert text_table(("a", "long head"), [("1", "2"), ("333", "4")]) == "  a  long head\n  1          2\n333          4"


def test_the_sentence_says_what_matters_most():
    alone, beside = measure_variety(cloud(20, 0)), measure_variety(cloud(20, 0), cloud(60, 1))
    assert alone.brief().startswith(f"As varied as {alone.vendi:.1f} different pictures; there are 20.") and "\n" not in alone.brief()
    assert f"{beside.coverage:.0%} of the 60 reference pictures" in beside.brief()
