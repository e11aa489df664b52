"""Learning tokens and LoRAs on a tiny Kandinsky: exact gradients, an untouched model, concepts that come back."""

import copy
import math

import pytest
import torch
from learning import KINDS, PROMPT, STEPS, WORD, digest, learn, relative_error
from rarity.density import AnchorGuardrail, BandLoss, Direction, GaussianDensity, RarityError, optimize
from rarity.density.estimators.own_samples import are_own
from rarity.generators.concepts import objectives
from rarity.generators.concepts.concept_files import load_concept, save_concept
from rarity.generators.concepts.learn import learn_concept
from rarity.generators.concepts.lora import adapted, without
from rarity.generators.concepts.objectives import BAND, TILT, Objective, Places
from rarity.generators.concepts.sampling import Chain, applied, sample_concept
from rarity.generators.concepts.word import find_word, meaning
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.kandinsky.posterior import steps_back
from rarity.generators.runtime.noise import normals, streams


@pytest.fixture(scope="module")
def prior(tiny_kandinsky):
    return tiny_kandinsky[0]


@pytest.fixture(scope="module")
def baseline(prior):
    return prior.sample(PROMPT, 600, seed=11, steps=STEPS)


@pytest.fixture(scope="module")
def density(baseline):
    return GaussianDensity.fit(baseline)


def by_diffusers(prior, transformer, text_encoder, rows, seed, guidance=4.0, purpose="prior"):
    """The same chain, every step by the transformer's own forward over all tokens."""
    tokens = prior.tokenize([PROMPT, ""])
    encoded = text_encoder(tokens.input_ids)
    noise = normals(streams(seed, rows.start, len(rows), purpose), prior.space.width)
    x, n = next(noise), len(rows)
    states = [part.repeat_interleave(n, 0) for part in (encoded.text_embeds, encoded.last_hidden_state)]
    mask = tokens.attention_mask.bool().repeat_interleave(n, 0)
    for step in steps_back(prior.scheduler, STEPS):
        both = transformer(x.repeat(2, 1), step.time, *states, mask).predicted_image_embedding
        conditional, other = both.chunk(2)
        x = step.back(x, other + guidance * (conditional - other), next(noise))
    return transformer.post_process_latents(x)


def test_the_chain_draws_what_the_prior_samples(prior, tiny_kandinsky_folder):
    """As near as float32 allows: both are as far from float64, and each other's batch is summed in another order."""
    got = Chain(prior, PROMPT, "", STEPS, 4.0, reread=True).draw(5, range(2, 7))
    sampled = prior.sample(PROMPT, 7, seed=5, steps=STEPS).vectors[2:]
    exact = load_kandinsky(tiny_kandinsky_folder, dtype=torch.float64)[0].sample(PROMPT, 7, seed=5, steps=STEPS).vectors[2:]
    error = relative_error(sampled, exact)
    assert 0 < error < 1e-5
    assert relative_error(got, exact) <= 4 * error and relative_error(got, sampled) <= 4 * error


def test_token_samples_and_gradients_equal_diffusers(prior):
    """Against an encoder whose table really holds the token; the word's r is not the r that ends "letter"."""
    found = find_word(prior, PROMPT, WORD)
    ids = found.prompt_tokens.tolist()
    assert ids.count(found.token) == 2 and found.places.sum() == 1 and found.places.nonzero().item() > ids.index(found.token)
    learnt = torch.randn(prior.space.width, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    with meaning(prior, found, learnt):
        got = Chain(prior, PROMPT, "", STEPS, 4.0, reread=True).draw(5, range(4))
    (slope,) = torch.autograd.grad(got.square().sum(), learnt)

    place = found.places.nonzero().item()
    encoder, other = copy.deepcopy(prior.text_encoder), learnt.detach().clone().requires_grad_(True)

    def put(module, inputs, rows):
        return torch.cat([torch.cat([rows[:1, :place], other.view(1, 1, -1), rows[:1, place + 1 :]], dim=1), rows[1:]])

    encoder.text_model.embeddings.token_embedding.register_forward_hook(put)
    expected = by_diffusers(prior, prior.transformer, encoder, range(4), 5)
    (wanted,) = torch.autograd.grad(expected.square().sum(), other)
    assert relative_error(got, expected) <= 1e-5
    assert relative_error(slope, wanted) <= 1e-4  # of sums of thousands of float32 products of either sign


def test_lora_samples_and_gradients_equal_diffusers(prior):
    before = prior.sample(PROMPT, 4, seed=5, steps=STEPS).vectors
    with adapted(prior.transformer, 4, seed=1) as matrices:
        draw = torch.Generator().manual_seed(0)
        for weight in matrices.values():  # B starts at zero, where nothing would show
            weight.data.normal_(0, 0.1, generator=draw)
        got = Chain(prior, PROMPT, "", STEPS, 4.0, reread=False).draw(5, range(4))
        slopes = torch.autograd.grad(got.square().sum(), list(matrices.values()))
        expected = by_diffusers(prior, prior.transformer, prior.text_encoder, range(4), 5)
        wanted = torch.autograd.grad(expected.square().sum(), list(matrices.values()))
    assert relative_error(got, expected) <= 1e-5 and relative_error(got, before) > 0.01
    assert relative_error(torch.cat([s.flatten() for s in slopes]), torch.cat([w.flatten() for w in wanted])) <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_leaves_the_model_as_it_was(prior, density, kind):
    before, state = digest(prior), torch.get_rng_state()
    concept = learn(prior, density, kind, iterations=30, keep_every=10, batch=8, probes=32)
    assert digest(prior) == before and torch.equal(torch.get_rng_state(), state)
    assert concept.steps == (0, 10, 20, 30) and concept.notes == ()
    loss = BandLoss(density, math.log2(100))
    unseen = [sample_concept(prior, concept, 64, checkpoint=k, seed=77).vectors for k in (0, -1)]
    assert loss(unseen[1]).mean() < 0.5 * loss(unseen[0]).mean()
    assert digest(prior) == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_checkpoint_is_the_model_as_it_was(prior, density, kind):
    concept = learn(prior, density, kind)
    usual = prior.sample(PROMPT, 5, seed=0, steps=STEPS).vectors
    assert torch.equal(sample_concept(prior, concept, 5, checkpoint=0).vectors, usual)
    assert relative_error(concept.trajectory.start.vectors, usual) <= 1e-6
    assert relative_error(concept.trajectory.final.vectors, sample_concept(prior, concept, 5).vectors) <= 1e-6
    torch.testing.assert_close(concept.trajectory.readings["bits"][0], density.bits(usual), rtol=1e-3, atol=1e-3)


def test_a_token_starts_as_what_the_word_means(prior, density):
    token = learn(prior, density).token(0)
    row = prior.tokenizer(WORD, add_special_tokens=False).input_ids[0]
    assert torch.equal(token, prior.text_encoder.get_input_embeddings().weight[row])


def test_the_seed_decides(prior, density):
    first = learn(prior, density, "token + lora", seed=3)
    torch.randn(10)  # the global generator has no say
    again, other = (learn(prior, density, "token + lora", seed=seed) for seed in (3, 4))
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.loras, again.loras)
    assert not torch.equal(first.loras[0], other.loras[0]) and not torch.equal(first.tokens[-1], other.tokens[-1])


def test_it_learns_inside_inference_mode(prior, density):
    with torch.inference_mode():
        concept = learn(prior, density, "token + lora")
    assert torch.equal(concept.tokens, learn(prior, density, "token + lora").tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_keeps_the_checkpoints_so_far(prior, density, kind):
    before, kept = digest(prior), []

    def cancel(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(prior, density, kind, progress=cancel, watch=kept.append)
    assert digest(prior) == before
    assert [concept.steps for concept in kept] == [(0,), (0, 2)]
    whole = learn(prior, density, kind)
    assert torch.equal(kept[-1].tokens, whole.tokens[:2]) and torch.equal(kept[-1].loras, whole.loras[:2])
    assert torch.isfinite(sample_concept(prior, kept[-1], 2).vectors).all()


def test_a_watcher_ends_it(prior, density):
    done = []
    concept = learn(prior, density, watch=lambda so_far: len(so_far.steps) < 2, progress=lambda i, n: done.append((i, n)))
    assert concept.steps == (0, 2) and sorted(set(done)) == [(0, 4), (1, 4), (2, 4)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_learning_rate_that_diverges_ends_with_what_was_finite(prior, density, kind, caplog):
    before = digest(prior)
    concept = learn(prior, density, kind, learning_rate=1e30)
    assert concept.steps == (0,) and torch.isfinite(concept.tokens).all() and torch.isfinite(concept.loras).all()
    (note,) = concept.notes
    assert "no longer finite" in note and "ends with iteration 0" in note and "below 1e+30" in note and note in caplog.text
    assert digest(prior) == before


def test_a_learning_rate_that_is_too_high_is_told(prior, density):
    concept = learn(prior, density, learning_rate=100.0)
    assert len(concept.notes) == 1 and "further from what was asked than it began" in concept.notes[0]


def test_a_density_of_samples_with_another_negative_prompt_is_told(prior, density):
    (note, *_) = learn(prior, density, iterations=1, negative_prompt="a letter t").notes
    assert "from samples with negative_prompt '', the concept with negative_prompt 'a letter t': rarity is off" in note


def test_the_published_objective_is_the_literal_formula(prior, density, baseline):
    x, text = baseline.vectors[:6].double(), prior.encode_text([PROMPT]).double()
    score = (x - density.frame.mean) @ density.frame.basis
    log_g = torch.distributions.MultivariateNormal(torch.zeros(density.frame.components).double(), density.frame.variances.diag())
    expected = (log_g.log_prob(score) + 1 - torch.nn.functional.cosine_similarity(x, text)).mean()
    got = Objective("paper", density, 100, (), (), prior, PROMPT)(x)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_the_band_objective_adds_the_guardrails_penalties(prior, density, baseline):
    x, rail = baseline.vectors[:6].double() * 1.3 + 0.1, AnchorGuardrail.from_baseline(baseline, 0.9)
    expected = (BandLoss(density, math.log2(100))(x) + rail.penalty(x)).mean()
    assert rail.penalty(x).sum() > 0
    torch.testing.assert_close(Objective("band", density, 100, (rail,), (), prior, PROMPT)(x), expected, rtol=0, atol=0)


def test_the_places_objective_is_the_literal_formula(prior, density, baseline, monkeypatch):
    moved = []

    def kept(*arguments, **named):
        moved.append((arguments, named, optimize(*arguments, **named)))
        return moved[-1][2]

    monkeypatch.setattr(objectives, "optimize", kept)
    usual, rail = baseline.select(torch.arange(5)), AnchorGuardrail.from_baseline(baseline, 0.9)
    loss = Objective("places", density, 100, (rail,), (), prior, PROMPT)
    places = loss.places(usual.vectors)
    torch.testing.assert_close(density.bits(places), torch.full((5,), math.log2(100)).double(), atol=1e-3, rtol=0)
    leant = []
    for e in usual.vectors.double():
        w, r = density.frame.whiten(e[None])
        w = [float(w[0, i]) * (float(density.frame.variances[i]) / float(density.frame.variances[0])) ** (TILT / 2) for i in range(w.shape[1])]
        leant.append(density.frame.unwhiten(torch.tensor([w]).double(), r)[0])
    # Beside what was moved, not moved once more: steps outside a guardrail make another rounding large.
    ((by, starts, one_in, rails), named, made), = moved
    torch.testing.assert_close(starts.vectors.double(), torch.stack(leant), rtol=1e-6, atol=1e-6)  # float32 rows
    assert by is density and one_in == 100 and rails == (rail,) and named == {"directions": ()}
    assert torch.equal(places, made.final.vectors.double())
    x = usual.vectors.double() * 1.2 + 0.05
    far = sum(float((e - t) @ (e - t)) for e, t in zip(x, places, strict=True))
    wide = sum(float((t - density.frame.mean) @ (t - density.frame.mean)) for t in places)
    rest = sum(float(BandLoss(density, math.log2(100))(e[None]) + rail.penalty(e[None])) for e in x) / 5
    assert rail.penalty(x).sum() > 0
    assert float(loss(x, places)) == pytest.approx(far / wide + BAND * rest, rel=1e-9)
    free = Objective("places", density, 100, (), (), prior, PROMPT)
    assert float(free(free.places(x), free.places(x))) == 0


def test_places_are_found_from_what_the_model_made_before(prior, density):
    """A model that wears a LoRA draws for them as if it did not, and none is found twice or missed."""
    usual, asked = Chain(prior, PROMPT, "", STEPS, 4.0, reread=False), []
    expected = usual.look(0, range(12), "concept")

    def before(rows):
        asked.append(rows)
        with without(prior.transformer):
            return usual.look(0, rows, "concept")

    loss = Objective("places", density, 100, (), (), prior, PROMPT)
    with adapted(prior.transformer, 4) as matrices:
        for weight in matrices.values():
            weight.data.normal_(generator=torch.Generator().manual_seed(0))
        assert relative_error(usual.look(0, range(12), "concept"), expected) > 1e-2
        places = Places(loss, before)
        found = torch.cat([places.of(range(start, start + 3), 12) for start in (0, 3, 6, 9)])
        assert all(weight.requires_grad for weight in matrices.values())
    assert asked == [range(0, 12)]
    torch.testing.assert_close(found, loss.places(expected), rtol=1e-4, atol=1e-4)
    assert Places(Objective("band", density, 100, (), (), prior, PROMPT), before).of(range(3), 12) is None


def test_an_objective_of_one_s_own(prior, density):
    concept = learn(prior, density, "lora", iterations=20, objective=lambda x: x[:, 0])
    first = torch.stack([rows.vectors[:, 0].mean() for rows in concept.trajectory.embeddings])
    assert first[-1] < first[0] - 0.1 and concept.settings["objective"] == "own"


def test_a_direction_is_followed(prior, density):
    moved = []
    for strength in (3.0, -3.0):
        wish = Direction("there", strength, density.space, density.frame.basis[:, 0])
        concept = learn(prior, density, "lora", iterations=30, directions=(wish,))
        there = concept.trajectory.readings["there"].mean(dim=1)
        moved.append(float(there[-1] - there[0]))
    assert moved[0] > 1 and moved[1] < -1


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(prior, density, kind, tmp_path):
    concept = learn(prior, density, kind, learning_rate=1e-2)
    save_concept(concept, tmp_path / "concept.safetensors")
    loaded = load_concept(tmp_path / "concept.safetensors")
    for name in ("kind", "prompt", "word", "layout", "settings", "notes", "steps", "space"):
        assert getattr(loaded, name) == getattr(concept, name), name
    assert torch.equal(loaded.tokens, concept.tokens) and torch.equal(loaded.loras, concept.loras)
    for name, values in concept.trajectory.readings.items():
        assert torch.equal(loaded.trajectory.readings[name], values.double())
    for checkpoint in (1, -1):
        got, expected = (sample_concept(prior, one, 3, seed=4, checkpoint=checkpoint) for one in (loaded, concept))
        assert torch.equal(got.vectors, expected.vectors) and got.source == expected.source
    assert got.source["kind"] == "concept" and got.source["iteration"] == 4


def test_samples_of_a_concept_are_its_own_and_the_same_ones_at_every_checkpoint(prior, density, baseline, tmp_path):
    concept = learn(prior, density)
    made = [sample_concept(prior, concept, 5, checkpoint=checkpoint, seed=11) for checkpoint in (0, -1)]
    assert torch.equal(made[0].keys, made[1].keys) and not torch.equal(made[0].vectors, made[1].vectors)
    assert not are_own(density, made[0]).any(), "not even those of the model as it was"
    save_concept(concept, tmp_path / "c.safetensors")
    loaded = load_concept(tmp_path / "c.safetensors")
    probes = [step.keys for one in (concept, loaded) for step in one.trajectory.embeddings]
    assert all(torch.equal(keys, probes[0]) for keys in probes)
    assert torch.equal(sample_concept(prior, loaded, 5).keys, probes[0]), "the probes are the seed's first samples"
    others = [sample_concept(prior, one, 5, seed=seed).keys for one, seed in ((learn(prior, density, batch=2), 11), (concept, 12))]
    assert len(torch.cat([made[0].keys, *others, baseline.keys[:5]]).unique()) == 20


def test_another_prompt_reads_the_word_anew(prior, density):
    concept = learn(prior, density, iterations=8)
    got = sample_concept(prior, concept, 3, prompt="bold r").vectors
    assert relative_error(got, prior.sample("bold r", 3, steps=STEPS).vectors) > 1e-3
    with applied(prior, concept, "bold r"):  # other texts are read as ever
        here = prior.encode_text(["a r", "bold r"])
    usual = prior.encode_text(["a r", "bold r"])
    torch.testing.assert_close(here[0], usual[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(here[1], usual[1], atol=1e-3)


@pytest.mark.parametrize("word, message", [
    ("letter", r"'letter' is 'le' \+ 't' \+ 't' \+ 'e' \+ 'r'. Choose a word that is one token"),
    ("", "'' is nothing"),
    ("b", "The word 'b' is not in the prompt 'a letter r'"),
    ("le", r"'le' is 'l' \+ 'e'"),
])
def test_words_that_cannot_be_learnt(prior, density, word, message):
    with pytest.raises(RarityError, match=message):
        learn(prior, density, word=word)


@pytest.mark.parametrize("options, message", [
    (dict(kind="tokens"), "kind of a concept is one of token, lora, token . lora; got 'tokens'"),
    (dict(objective="none"), "objective of a concept is one of places, band, paper; got 'none'"),
    (dict(iterations=0), "iterations must be at least 1, got 0"),
    (dict(batch=0), "batch must be at least 1, got 0"),
    (dict(learning_rate=0.0), r"learning rate must be above 0 and at most 1e\+30, got 0.0"),
    (dict(learning_rate=math.nan), r"learning rate must be above 0 and at most 1e\+30, got nan"),
    (dict(guidance=math.inf), "guidance must be a finite number, got inf"),
    (dict(steps=1), "steps must be 2 to 1000, got 1"),
    (dict(kind="lora", rank=0), "rank of a LoRA for this prior must be from 1 to 48, got 0"),
])
def test_settings_out_of_range(prior, density, options, message):
    before = digest(prior)
    with pytest.raises(RarityError, match=message):
        learn(prior, density, **options)
    assert digest(prior) == before


def test_a_prompt_that_is_too_long(prior, density):
    for kind in KINDS:
        with pytest.raises(RarityError, match="The prompt has 16 tokens, this model reads at most 12: .*Shorten it"):
            learn_concept(prior, density, "abc defgh ijklm r", "r", 100, kind=kind)


def test_concepts_of_other_models(prior, density, tiny_kandinsky_21, tmp_path):
    from tiny_kandinsky import build_tiny_kandinsky

    concept = learn(prior, density, "token + lora")
    with pytest.raises(RarityError, match="The concept and this belong to different embedding spaces"):
        sample_concept(tiny_kandinsky_21[0], concept, 2)
    with pytest.raises(RarityError, match="The density and this belong to different embedding spaces"):
        learn(tiny_kandinsky_21[0], density)
    with pytest.raises(RarityError, match="choose one of 0 to 2, or -1 for the last, got 3"):
        sample_concept(prior, concept, 2, checkpoint=3)
    with pytest.raises(RarityError, match="The word 'r' is not in the prompt 'bold'"):
        sample_concept(prior, concept, 2, prompt="bold")
    wide, _ = load_kandinsky(build_tiny_kandinsky(tmp_path / "wide", width=48))
    wide.space = prior.space  # an image encoder shared by two priors of different sizes
    with pytest.raises(RarityError, match="learnt with another model: its token is 32 wide, this text encoder's are 48"):
        sample_concept(wide, concept, 2)


def test_a_lora_of_another_prior(prior, density, tiny_kandinsky_folder):
    from diffusers import PriorTransformer

    concept = learn(prior, density, "lora")
    deeper, _ = load_kandinsky(tiny_kandinsky_folder)
    deeper.transformer = PriorTransformer.from_config({**deeper.transformer.config, "num_layers": 3}).eval()
    before = digest(deeper)
    with pytest.raises(RarityError, match="its LoRA has 16 matrices of other names or sizes than this prior's 24"):
        sample_concept(deeper, concept, 2)
    assert digest(deeper) == before


def test_an_adapter_of_somebody_else_is_not_lost(prior, density):
    with adapted(prior.transformer, 2):
        with pytest.raises(RarityError, match="wears an adapter already"):
            learn(prior, density, "lora")
        assert any("lora_A" in name for name, _ in prior.transformer.named_parameters())
