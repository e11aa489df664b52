"""Repeated rounds on the miniature: all of them together are more varied than as many results of one run."""

from rarity.density import Direction, Embeddings, GaussianDensity, choose_starts, optimize, vendi_score
from rarity.generators.demo import LETTERS
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.kandinsky.load import load_kandinsky


def test_three_rounds_are_more_varied_than_one():
    prior, _ = load_kandinsky()
    baseline = prior.sample("a letter R", 1500, seed=0, steps=5)
    density, rail = GaussianDensity.fit(baseline), contrast_guardrail(prior, baseline, "a letter R", LETTERS)
    starts = choose_starts(baseline, density, 36, "rarer", 0, (rail,))
    one, rounds = optimize(density, starts, 300, (rail,)).final, ()
    for first in range(0, 36, 12):
        away = (Direction.away_from(Embeddings.cat(rounds), 2.0),) if rounds else ()
        made = optimize(density, starts.select(range(first, first + 12)), 300, (rail,), directions=away)
        assert made.in_band.all() and made.accepted.all()
        rounds += (made.final,)

    def variety(rows):  # seen from the middle of what is usual, where cosines tell ways apart
        return vendi_score(Embeddings((rows.vectors.double() - density.frame.mean).float(), rows.space))

    assert variety(Embeddings.cat(rounds)) > 1.03 * variety(one)  # measured: see benchmarks/rounds.py, a ninth more
