"""What few yes-or-no answers say of a curve: beside the slow sums, at its limits, and how often it is right."""

import math

import numpy as np
import pytest
from rarity.density.novelty.psychometric import BEFORE, HALF, HALVES, SLOPES, WITHIN, Psychometric


def test_the_weights_are_those_of_bayes_rule():
    answers = [(0.0, 7, 8), (0.5, 8, 8), (2.0, 5, 8)]
    curves = Psychometric.of(answers)
    expected = []
    for h in HALVES[::9]:
        for k in SLOPES:
            beforehand = math.exp(-0.5 * (math.log(h / HALF) / math.log(WITHIN)) ** 2)
            total = 0.0
            for p0 in BEFORE:
                likelihood = 1.0
                for strength, yes, of in answers:
                    p = p0 / (1 + (strength / h) ** k)
                    likelihood *= p**yes * (1 - p) ** (of - yes)
                total += beforehand * likelihood
            expected.append(total)
    found = curves.weights.reshape(len(HALVES), len(SLOPES))[::9].ravel()
    np.testing.assert_allclose(found / found.sum(), np.array(expected) / sum(expected), rtol=1e-9)
    assert curves.weights.sum() == pytest.approx(1)


def test_a_curve_begins_at_1_falls_and_is_surer_the_lower_it_is_said_to_be():
    curves = Psychometric.of([(0.0, 8, 8), (1.0, 7, 8), (2.0, 4, 8)])
    assert curves.at_least(0.0, 0.9) == 1
    said = np.array([[curves.at_least(s, sure) for s in (0.2, 0.5, 1.0, 2.0, 4.0)] for sure in (0.1, 0.5, 0.9)])
    assert (np.diff(said, axis=1) < 0).all() and (np.diff(said, axis=0) < 0).all()


def test_what_is_lost_without_variation_is_not_the_variation_s_fault():
    half = Psychometric.of([(0.0, 32, 64), (1.0, 32, 64)])
    assert half.at_least(1.0, 0.5) > 0.85 > 0.6 > Psychometric.of([(0.0, 64, 64), (1.0, 32, 64)]).at_least(1.0, 0.5)


def test_what_is_said_with_a_probability_is_true_so_often():
    """Curves and answers drawn as they are thought to be beforehand: then a probability is a frequency."""
    rng = np.random.default_rng(0)
    true = []
    for _ in range(400):
        h, k, p0 = HALF * math.exp(math.log(WITHIN) * rng.standard_normal()), rng.choice(SLOPES), rng.choice(BEFORE)
        answers = [(s, int(rng.binomial(8, p0 / (1 + (s / h) ** k))), 8) for s in (0.0, 0.5, 1.0, 2.0, 3.0)]
        true.append(1 / (1 + (1.5 / h) ** k) >= Psychometric.of(answers).at_least(1.5, 0.8))
    assert sum(true) / len(true) == pytest.approx(0.8, abs=0.05), "400 worlds tell a share to 2 points"
