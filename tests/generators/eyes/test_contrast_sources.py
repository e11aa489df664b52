"""A contrast guardrail from words."""

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.eyes.contrast_sources import contrast_guardrail


@pytest.fixture(scope="module")
def baseline(tiny_kandinsky):
    return tiny_kandinsky[0].sample("a letter r", 40, steps=3)


def test_the_margin_is_that_of_the_texts(tiny_kandinsky, baseline):
    prior, _ = tiny_kandinsky
    rail = contrast_guardrail(prior, baseline, " r ", ["p", "", "r", "q ", "p"], quantile=0.25)
    assert len(rail.others) == 2
    r, p, q = torch.nn.functional.normalize(prior.encode_text(["r", "p", "q"]).double(), dim=1)
    x = torch.nn.functional.normalize(baseline.vectors.double(), dim=1)
    margin = x @ r - torch.maximum(x @ p, x @ q)
    torch.testing.assert_close(rail.reading(baseline.vectors), margin)
    assert int((margin < rail.threshold).sum()) == 10


@pytest.mark.parametrize("subject, alternatives", [("r", []), ("r", ["r", " "]), ("", [])])
def test_words_that_say_nothing_are_refused(tiny_kandinsky, baseline, subject, alternatives):
    with pytest.raises(RarityError):
        contrast_guardrail(tiny_kandinsky[0], baseline, subject, alternatives)


def test_centring_puts_the_baseline_where_the_subject_is(tiny_kandinsky, baseline):
    """The literal formula: texts less their mean, pictures less the centre that the gap leaves."""
    prior, _ = tiny_kandinsky
    rail = contrast_guardrail(prior, baseline, "r", ["p", "q"], centred=True)
    texts = torch.nn.functional.normalize(prior.encode_text(["r", "p", "q"]).double(), dim=1)
    texts = texts - texts.mean(dim=0)
    x = torch.nn.functional.normalize(baseline.vectors.double(), dim=1)
    x = x - (x.mean(dim=0) - texts[0])
    cosines = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(texts, dim=1).T
    torch.testing.assert_close(rail.reading(baseline.vectors), cosines[:, 0] - cosines[:, 1:].amax(dim=1))
    assert int((rail.reading(baseline.vectors) < rail.threshold).sum()) == 20
