"""The score machines against their formulas written out pixel by pixel, and in the limits where the answer is known."""

import math

import pytest
import torch
from rarity.generators.local_score import score_machines
from rarity.generators.local_score.noise_levels import ddim_step, signal_share, times
from rarity.generators.local_score.score_machines import boundary_broken, equivariant, ideal, local

SIGNALS = [0.02, 0.97]
# Float64 sums in another order: a few units in the last place of exponents that are at most some hundreds.
EXACT = {"rtol": 1e-6, "atol": 1e-12}


def pictures(count, channels=2, height=6, width=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=g, dtype=torch.float64) * 2 - 1


def noisy(sources, count, signal, seed=1):
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *sources.shape[1:], generator=g, dtype=torch.float64)
    return math.sqrt(signal) * sources[torch.arange(count) % len(sources)] + math.sqrt(1 - signal) * noise


def softmax_mean(candidates, signal):
    """The formula's sum: candidates are (squared distance, value)."""
    nearest = min(distance for distance, _ in candidates)
    weights = [math.exp(-(distance - nearest) / (2 * (1 - signal))) for distance, _ in candidates]
    return sum(w * value for w, (_, value) in zip(weights, candidates, strict=True)) / sum(weights)


def literal(x, candidates_of, signal):
    """M[x] pixel by pixel; `candidates_of(one picture, row, column)` yields (squared distance, centre)."""
    out = torch.empty_like(x)
    for b in range(len(x)):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                out[b, :, row, column] = softmax_mean(list(candidates_of(x[b], row, column)), signal)
    return out


def literal_ideal(x, sources, signal):
    return torch.stack([
        softmax_mean([(float((one - math.sqrt(signal) * y).square().sum()), y) for y in sources], signal) for one in x
    ])


def cut(picture, row, column, reach):
    """The patch around a pixel, what lies outside left out; and how many rows and columns were cut on each side."""
    height, width = picture.shape[1:]
    rows, columns = (max(0, row - reach), min(height, row + reach + 1)), (max(0, column - reach), min(width, column + reach + 1))
    sides = (rows[0] - row, rows[1] - row, columns[0] - column, columns[1] - column)
    return picture[:, rows[0]:rows[1], columns[0]:columns[1]], sides


def literal_local(x, sources, signal, patch):
    def candidates(one, row, column):
        mine, _ = cut(one, row, column, patch // 2)
        for y in sources:
            theirs, _ = cut(y, row, column, patch // 2)
            yield float((mine - math.sqrt(signal) * theirs).square().sum()), y[:, row, column]

    return literal(x, candidates, signal)


def literal_boundary_broken(x, sources, signal, patch):
    def candidates(one, row, column):
        mine, sides = cut(one, row, column, patch // 2)
        for y in sources:
            for i in range(y.shape[1]):
                for j in range(y.shape[2]):
                    theirs, others = cut(y, i, j, patch // 2)
                    if sides == others:
                        yield float((mine - math.sqrt(signal) * theirs).square().sum()), y[:, i, j]

    return literal(x, candidates, signal)


def literal_equivariant(x, sources, signal, patch, wrap):
    reach = patch // 2

    def around(picture, row, column):
        rows = [(row + d) % picture.shape[1] for d in range(-reach, reach + 1)]
        columns = [(column + d) % picture.shape[2] for d in range(-reach, reach + 1)]
        return picture[:, rows][:, :, columns]

    def candidates(one, row, column):
        mine, off = around(one, row, column), 0 if wrap else reach
        for y in sources:
            for i in range(off, y.shape[1] - off):
                for j in range(off, y.shape[2] - off):
                    yield float((mine - math.sqrt(signal) * around(y, i, j)).square().sum()), y[:, i, j]

    return literal(x, candidates, signal)


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_ideal_machine_is_its_formula(signal):
    sources = pictures(5)
    x = noisy(sources, 3, signal)
    torch.testing.assert_close(ideal(x, sources, signal), literal_ideal(x, sources, signal), **EXACT)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("patch", [3, 7])
def test_the_local_machine_is_its_formula(signal, patch):
    sources = pictures(4)
    x = noisy(sources, 2, signal)
    torch.testing.assert_close(local(x, sources, signal, patch), literal_local(x, sources, signal, patch), **EXACT)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("patch", [1, 3, 5, 7])
def test_the_boundary_broken_machine_is_its_formula(signal, patch):
    """Sizes where all places meet, where one axis has no inside any more, and where none has."""
    sources = pictures(3)
    x = noisy(sources, 2, signal)
    expected = literal_boundary_broken(x, sources, signal, patch)
    torch.testing.assert_close(boundary_broken(x, sources, signal, patch), expected, **EXACT)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("patch", [1, 3, 5])
def test_the_equivariant_machine_is_its_formula(signal, patch, wrap):
    sources = pictures(3)
    x = noisy(sources, 2, signal)
    expected = literal_equivariant(x, sources, signal, patch, wrap)
    torch.testing.assert_close(equivariant(x, sources, signal, patch, wrap_sources=wrap), expected, **EXACT)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    sources = pictures(4)
    x = noisy(sources, 3, 0.6)
    machines = [lambda: ideal(x, sources, 0.6), lambda: local(x, sources, 0.6, 3),
                lambda: boundary_broken(x, sources, 0.6, 3), lambda: equivariant(x, sources, 0.6, 3)]
    whole = [machine() for machine in machines]
    monkeypatch.setattr(score_machines, "KEYS", 7)
    monkeypatch.setattr(score_machines, "QUERIES", 5)
    monkeypatch.setattr(score_machines, "WORKING_VALUES", 100)
    for machine, expected in zip(machines, whole, strict=True):
        torch.testing.assert_close(machine(), expected, **EXACT)


MACHINES = {
    "ideal": lambda x, y, signal: ideal(x, y, signal),
    "local": lambda x, y, signal: local(x, y, signal, 3),
    "boundary-broken": lambda x, y, signal: boundary_broken(x, y, signal, 3),
    "equivariant": lambda x, y, signal: equivariant(x, y, signal, 3),
}
each_machine = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


@each_machine
def test_a_batch_is_its_single_samples(machine):
    sources = pictures(4)
    x = noisy(sources, 3, 0.7)
    together = machine(x, sources, 0.7)
    torch.testing.assert_close(together, torch.cat([machine(one[None], sources, 0.7) for one in x]), **EXACT)


@each_machine
def test_pixels_are_means_of_pixels(machine):
    sources = pictures(4)
    estimate = machine(noisy(sources, 2, 0.3), sources, 0.3)
    assert estimate.min() >= sources.min() and estimate.max() <= sources.max()


@pytest.mark.parametrize("machine", [local, boundary_broken])
def test_a_patch_that_always_holds_the_picture_gives_the_ideal_score(machine):
    sources = pictures(5)
    x = noisy(sources, 3, 0.3)
    torch.testing.assert_close(machine(x, sources, 0.3, 11), ideal(x, sources, 0.3), **EXACT)


def test_in_the_middle_a_patch_of_the_picture_s_size_gives_the_ideal_score():
    sources = pictures(5, height=7, width=7)
    x = noisy(sources, 3, 0.3)
    expected = ideal(x, sources, 0.3)[:, :, 3, 3]
    for machine in (local, boundary_broken, equivariant):
        torch.testing.assert_close(machine(x, sources, 0.3, 7)[:, :, 3, 3], expected, **EXACT)


def test_away_from_the_border_both_equivariant_machines_agree():
    """Up to the patches they choose from: with one place inside, only the middle pixel has the same ones."""
    sources = pictures(4, height=5, width=5)
    x = noisy(sources, 2, 0.4)
    one, other = boundary_broken(x, sources, 0.4, 5), equivariant(x, sources, 0.4, 5)
    torch.testing.assert_close(one[:, :, 2, 2], other[:, :, 2, 2], **EXACT)


def test_the_equivariant_machine_moves_with_its_picture():
    sources = pictures(3)
    x = noisy(sources, 1, 0.5)
    moved = equivariant(x.roll((2, 3), (2, 3)), sources, 0.5, 3)
    torch.testing.assert_close(moved, equivariant(x, sources, 0.5, 3).roll((2, 3), (2, 3)), **EXACT)


@pytest.mark.parametrize("kind", ["local", "boundary-broken", "equivariant"])
def test_at_low_noise_every_pixel_is_the_centre_of_its_nearest_patch(kind):
    """Theorem 4.1 of the paper, at abar = 1 - 1e-9."""
    sources, signal = pictures(4), 1 - 1e-9
    x = noisy(pictures(1, seed=9), 1, 0.9, seed=4)
    finite = MACHINES[kind](x, sources, signal)
    nearest = {"local": literal_local, "boundary-broken": literal_boundary_broken,
               "equivariant": lambda *given: literal_equivariant(*given, False)}[kind](x, sources, signal, 3)
    torch.testing.assert_close(finite, nearest, **EXACT)
    values = sources.permute(0, 2, 3, 1).reshape(-1, sources.shape[1])
    for pixel in finite.permute(0, 2, 3, 1).reshape(-1, sources.shape[1]):
        assert (values - pixel).abs().sum(dim=1).min() < 1e-9, "one source's pixel, not a mixture"


@pytest.mark.parametrize("kind", ["ideal", "local"])
def test_one_picture_is_all_there_is_at_its_own_place(kind):
    source = pictures(1)
    torch.testing.assert_close(MACHINES[kind](noisy(source, 2, 0.1), source, 0.1), source.expand(2, -1, -1, -1), **EXACT)


def smooth(count, size=20):
    """Pictures whose variance lies in low frequencies, as that of pictures does."""
    white = pictures(count, channels=3, height=size, width=size)
    return torch.nn.functional.avg_pool2d(white, 5, stride=1, padding=2).clamp(-1, 1) * 3


@pytest.mark.parametrize("signal, patch", [(0.05, 11), (0.5, 7), (0.8, 5)])
def test_a_tolerance_bounds_the_error_of_the_exponents(signal, patch):
    from rarity.generators.local_score.patches import Basis, interior

    sources = smooth(12)
    region = interior(20, 20, patch)
    windows, _ = region.windows(sources, torch.arange(0, 12 * region.pixels, 7))
    a, v, tolerance = math.sqrt(signal), 1 - signal, 0.1
    basis, full = Basis(windows, signal, v, tolerance), Basis(windows, signal, v, 0.0)
    assert len(basis) < len(full) == windows[0].numel()
    g = torch.Generator().manual_seed(0)
    x = a * windows[:40] + math.sqrt(v) * torch.randn(40, *windows.shape[1:], generator=g, dtype=torch.float64)
    products = [b.coefficients(x, a)[0] @ b.coefficients(windows)[0].T * (a / v) for b in (basis, full)]
    error = (products[0] - products[1]).square().mean().sqrt()
    assert 0.01 * tolerance < error < 1.2 * tolerance  # 1.2: these patches are a sample of those it learnt from


def test_the_cosine_transform_keeps_distances():
    from rarity.generators.local_score.patches import Basis, interior

    sources = pictures(3, channels=3)
    region = interior(6, 5, 3)
    windows, centres = region.windows(sources, torch.arange(3 * region.pixels))
    rows, squares = Basis(windows, 0.5, 0.5, 0.0).coefficients(windows)
    centred = (windows - windows.mean(dim=0)).flatten(1)
    torch.testing.assert_close(rows @ rows.T, centred @ centred.T, **EXACT)
    torch.testing.assert_close(squares, centred.square().sum(dim=1), **EXACT)
    assert torch.equal(centres, windows[:, :, 1, 1])


def test_a_limit_takes_patches_of_all_sources_and_repeats():
    from rarity.generators.local_score.patches import spread

    drawn = spread(1000, 50, 3)
    assert len(drawn.unique()) == 50 and torch.equal(drawn // 20, torch.arange(50))
    assert torch.equal(drawn, spread(1000, 50, 3)) and not torch.equal(drawn, spread(1000, 50, 4))
    assert torch.equal(spread(7, 7, 0), spread(7, None, 0))


def test_patches_passed_over_weigh_less_than_was_said(monkeypatch):
    """At low noise most are; without passing any over the result is the same within e^-16."""
    sources, signal = smooth(20), 0.99
    x = noisy(sources, 1, signal)
    monkeypatch.setattr(score_machines, "KEYS", 64)
    monkeypatch.setattr(score_machines, "QUERIES", 16)
    fast = boundary_broken(x, sources, signal, 3)
    monkeypatch.setattr(score_machines, "FAR", math.inf)
    error = (fast - boundary_broken(x, sources, signal, 3)).abs().max()
    assert 0 < error < 2 * math.exp(-16) * sources.abs().max()


@pytest.mark.parametrize("steps", [1, 20])
def test_the_schedule_is_the_published_one(steps):
    assert times(steps)[0] == 1 and times(steps)[-1] == 1 / steps and len(times(steps)) == steps
    assert signal_share(0) == 1 and signal_share(0.4) == pytest.approx(1 - (1 - math.cos(0.4 / 1.008 * math.pi / 2) ** 2))


def test_a_ddim_step_keeps_the_noise_it_finds():
    x, m = pictures(2), pictures(2, seed=1)
    after = ddim_step(x, m, 0.5, 0.45)
    noise = [(z - math.sqrt(signal_share(t)) * m) / math.sqrt(1 - signal_share(t)) for z, t in ((x, 0.5), (after, 0.45))]
    torch.testing.assert_close(noise[0], noise[1])
    torch.testing.assert_close(ddim_step(x, m, 0.05, 0), m, **EXACT)
