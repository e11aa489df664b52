"""What a graphics card replays, with a recorder in place of CUDA: what is captured, when it is captured anew, what is let go."""

import copy
import gc
import weakref

import pytest
import torch
from learning import KINDS, PROMPT, STEPS, digest, learn
from rarity.density import GaussianDensity
from rarity.generators.concepts.lora import adapted, without
from rarity.generators.concepts.sampling import Chain
from rarity.generators.runtime import captured, cuda_recorder
from rarity.generators.runtime.captured import Captured, forget, forget_large
from rarity.generators.runtime.memory import Placement
from recorder import record_everything


@pytest.fixture
def recorder(monkeypatch):
    """Everything is captured, wherever it runs."""
    yield record_everything(monkeypatch)
    forget()


@pytest.fixture
def model():
    return torch.nn.Linear(3, 3).requires_grad_(False)


def kept(model):
    return len(captured._kept.get(model, ()))


def test_what_is_captured_is_called_twice_and_then_replayed(recorder, model):
    call, x = Captured(model, "Work"), torch.randn(4, 3)
    for i in range(1, 6):
        assert torch.equal(call(model.forward, x * i), model(x * i))
        assert (recorder.calls, recorder.captures, recorder.replays) == (2, 1, i)
    assert recorder.waits == 3, "always two under way, not more: who cancels is heard"


def test_a_graph_belongs_to_sizes_types_and_what_else_it_depends_on(recorder, model):
    call = Captured(model, "Work")
    for captures, given in enumerate((torch.ones(4, 3), torch.ones(2, 3)), start=1):
        for _ in range(2):
            call(model.forward, given)
        assert recorder.captures == captures
    call(lambda x: 2 * model(x), torch.ones(4, 3), depends=2)
    assert recorder.captures == 3
    call(model.forward, torch.ones(2, 3))
    assert recorder.captures == 3, "it is still known"


def test_what_may_be_called_once_is_captured_when_it_is_asked_for_again(recorder, model):
    twice, inputs = (lambda x: (model(x), 2 * x)), [torch.randn(4, 3) for _ in range(4)]
    found = [Captured(model, "Work").later(twice, x) for x in inputs]
    assert (recorder.captures, recorder.replays) == (1, 3)
    for got, x in zip(found, inputs, strict=True):  # what a later replay overwrites is not what was given out
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(got, twice(x), strict=True))
    for rows in range(1, captured.FEW + 1):
        Captured(model, "Work").later(twice, torch.ones(rows, 3))
    assert recorder.captures == 1


def test_few_are_kept_and_the_last_used_stay(recorder, model):
    call = Captured(model, "Work")
    for rows in range(1, captured.FEW + 1):
        call(model.forward, torch.ones(rows, 3))
    call(model.forward, torch.ones(1, 3))
    call(model.forward, torch.ones(9, 3))
    assert kept(model) == captured.FEW and recorder.captures == captured.FEW + 1
    call(model.forward, torch.ones(1, 3))
    assert recorder.captures == captured.FEW + 1
    call(model.forward, torch.ones(2, 3))
    assert recorder.captures == captured.FEW + 2


def test_values_may_change_where_they_are_but_a_model_that_moved_is_captured_anew(recorder, model):
    x = torch.randn(4, 3)
    Captured(model, "Work")(model.forward, x)
    model.weight.data.mul_(2)
    assert torch.equal(Captured(model, "Work")(model.forward, x), model(x)) and recorder.captures == 1
    model.weight.data = model.weight.data.clone()  # as a move away and back leaves it
    again = Captured(model, "Work")
    assert kept(model) == 0, "the old graph is gone before anything new is captured"
    assert torch.equal(again(model.forward, x), model(x)) and recorder.captures == 2
    model.double()
    assert torch.equal(Captured(model, "Work")(model.forward, x.double()), model(x.double())) and recorder.captures == 3


def test_an_adapter_that_is_switched_off_is_another_model(recorder, tiny_kandinsky):
    transformer = tiny_kandinsky[0].transformer
    plain = captured.state(transformer)
    with adapted(transformer, 4):
        worn = captured.state(transformer)
        with without(transformer):
            assert len({plain, worn, captured.state(transformer)}) == 3
    assert captured.state(transformer) == plain


def test_what_holds_much_goes_with_its_work(recorder, model):
    for held, left in ((captured.LITTLE, 1), (captured.LITTLE + 1, 1)):
        recorder.held = held
        Captured(model, "Work")(model.forward, torch.ones(held % 5 + 1, 3))
        forget_large(model)
        assert kept(model) == left
    Placement().make_room()
    assert kept(model) == 0


def test_a_model_is_not_kept_alive(recorder):
    model = torch.nn.Linear(3, 3).requires_grad_(False)
    Captured(model, "Work")(lambda x: x + 1, torch.ones(2, 3))
    there = weakref.ref(model)
    del model
    gc.collect()
    assert there() is None and not captured._kept


def test_an_error_of_the_function_passes_and_leaves_no_graph(recorder, model):
    def fail(x):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        Captured(model, "Work")(fail, torch.ones(1, 3))
    assert kept(model) == 0
    assert torch.equal(Captured(model, "Work")(model.forward, torch.ones(1, 3)), model(torch.ones(1, 3)))


def test_where_capture_is_refused_the_function_runs_and_it_is_said_once(recorder, model, caplog):
    recorder.refuses = True
    for _ in range(3):
        call = Captured(model, "Work")
        assert torch.equal(call(model.forward, torch.ones(2, 3)), model(torch.ones(2, 3)))
        assert not call.replays
    assert recorder.calls == cuda_recorder.WARM, "it is not tried again"
    assert [record.message for record in caplog.records] == [
        "Work runs without a captured graph, more slowly: operation not permitted when stream is capturing"
    ]
    assert Captured(model, "Other work").replays


def test_nothing_is_captured_where_python_looks_on(recorder, model):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        Captured(model, "Work")(model.forward, torch.ones(2, 3))
    assert recorder.captures == 0 and counter.get_total_flops() > 0
    with torch.profiler.profile():
        Captured(model, "Work")(model.forward, torch.ones(2, 3))
    assert recorder.captures == 0
    handle = model.register_forward_hook(lambda *_: None)
    assert not Captured(model, "Work").replays
    handle.remove()
    assert Captured(model, "Work").replays


def test_inside_and_outside_of_inference_mode_one_graph_serves(recorder, model):
    with torch.inference_mode():
        inside = Captured(model, "Work")(model.forward, torch.ones(2, 3)).clone()
    outside = Captured(model, "Work")(model.forward, torch.ones(2, 3))
    assert torch.equal(inside, outside) and recorder.captures == 1 and not outside.requires_grad


def test_without_a_card_nothing_is_captured(model):
    call = Captured(model, "Work")
    assert not call.replays and torch.equal(call(model.forward, torch.ones(2, 3)), model(torch.ones(2, 3)))
    assert kept(model) == 0


def test_gradients_are_those_of_the_function(recorder, model):
    weight = torch.nn.Parameter(torch.randn(3, 3))
    function = lambda x, y: torch.tanh(x @ weight) * y  # noqa: E731
    for turn in range(1, 4):
        x, y = torch.randn(4, 3), torch.randn(4, 3).requires_grad_(True)
        got = Captured(model, "Work").with_gradients(function, [weight], (x, y), x)
        expected = function(x, y)
        assert torch.equal(got, expected)
        slopes = [torch.autograd.grad(one, (weight, y), torch.ones(4, 3)) for one in (got, expected)]
        for mine, theirs in zip(*slopes, strict=True):
            torch.testing.assert_close(mine, theirs)
        assert recorder.captures == 1 and recorder.replays == 2 * turn
    early = Captured(model, "Work").with_gradients(function, [weight], (x, y), x)
    Captured(model, "Work").with_gradients(function, [weight], (x, y), x)
    with pytest.raises(RuntimeError, match="overwritten by a later call"):
        early.sum().backward()


def test_samples_are_the_same_captured(recorder, tiny_kandinsky):
    prior = tiny_kandinsky[0]
    for options in ({}, {"guidance": 1.0}, {"batch_size": 3}, {"negative_prompt": "bold"}):
        got = prior.sample(PROMPT, 7, seed=3, steps=4, **options)
        captures = recorder.captures
        assert captures > 0
        again = prior.sample(PROMPT, 7, seed=4, steps=5, **options)
        assert recorder.captures == captures, "neither seed nor steps, nor a smaller last piece, need another graph"
        recorder_of, captured.recorder_of = captured.recorder_of, lambda device: None
        for one, seed, steps in ((got, 3, 4), (again, 4, 5)):
            expected = prior.sample(PROMPT, 7, seed=seed, steps=steps, **options)
            torch.testing.assert_close(one.vectors, expected.vectors, rtol=1e-4, atol=1e-4)  # other sizes of matrices
        captured.recorder_of = recorder_of


def test_a_text_that_is_read_again_is_replayed(recorder, tiny_kandinsky):
    """Another text of as many tokens goes through the same graph, and two under way at once keep their own."""
    prior = tiny_kandinsky[0]
    other = PROMPT.replace("letter r", "letter b")
    assert other != PROMPT and len(prior.reads([other])[0].tokens) == len(prior.reads([PROMPT])[0].tokens)
    prior.sample(PROMPT, 3, steps=4)
    captures = recorder.captures
    first, second = (prior.sample_batches(text, 6, seed=5, steps=4, batch_size=3) for text in (PROMPT, other))
    got = [next(first), next(second), next(first), next(second)]
    assert recorder.captures == captures + 1, "the reading; not at the first one"
    recorder_of, captured.recorder_of = captured.recorder_of, lambda device: None
    for text, parts in ((PROMPT, got[::2]), (other, got[1::2])):
        expected = prior.sample(text, 6, seed=5, steps=4).vectors
        # Other batches sum in another order, in float32 and through four steps; another text moves numbers by their own size.
        apart = (torch.cat([part.vectors for part in parts]) - expected).abs().max()
        assert apart < 1e-4 * expected.abs().max()
    captured.recorder_of = recorder_of


def test_cancel_is_heard_at_every_step(recorder, tiny_kandinsky):
    prior, before, calls = tiny_kandinsky[0], torch.get_num_threads(), []

    def cancel(done, total):
        calls.append(done)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prior.sample(PROMPT, 6, steps=9, progress=cancel)
    assert calls == [6, 12, 18, 24] and torch.get_num_threads() == before
    import threading

    assert not [one for one in threading.enumerate() if "ThreadPool" in one.name], "the noise's threads have ended"


@pytest.mark.parametrize("objective", ["band", "places"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_concept_is_the_same_captured(recorder, tiny_kandinsky, kind, objective, monkeypatch):
    prior = copy.copy(tiny_kandinsky[0])
    density = GaussianDensity.fit(prior.sample(PROMPT, 100, seed=11, steps=STEPS))
    before, options = digest(prior), dict(kind=kind, objective=objective, iterations=4, batch=3)
    recorder.captures = 0
    got = learn(prior, density, **options)
    assert recorder.captures == 1 and digest(prior) == before and kept(prior.transformer) == 0
    monkeypatch.setattr(captured, "recorder_of", lambda device: None)
    expected = learn(prior, density, **options)
    for mine, theirs in ((got.tokens, expected.tokens), (got.loras, expected.loras)):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert digest(prior) == before


def test_several_pieces_of_a_batch_add_up_captured(recorder, tiny_kandinsky):
    prior = tiny_kandinsky[0]
    with adapted(prior.transformer, 4, seed=1) as matrices:
        for weight in matrices.values():
            weight.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        learnt = list(matrices.values())
        chain = Chain(prior, PROMPT, "", STEPS, 4.0, reread=False)

        def slopes():
            for weight in learnt:
                weight.grad = None
            for rows in (range(3), range(3, 6)):
                chain.draw(5, rows).square().sum().backward()
            return torch.cat([weight.grad.flatten() for weight in learnt])

        got = slopes()
        captured.forget()
        recorder_of, captured.recorder_of = captured.recorder_of, lambda device: None
        torch.testing.assert_close(got, slopes(), rtol=1e-4, atol=1e-4)
        captured.recorder_of = recorder_of


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("version", ["tiny_kandinsky", "tiny_kandinsky_21"])
def test_pictures_are_the_same_captured(recorder, request, version, guidance, monkeypatch):
    prior, decoder = request.getfixturevalue(version)
    rows = prior.sample(PROMPT, 5, steps=2)
    recorder.captures = 0
    got = decoder.decode(rows, steps=3, guidance=guidance, batch_size=3)
    assert recorder.captures == 2, "one of three pictures, one of two"
    decoder.decode(rows, seed=1, steps=2, guidance=guidance, batch_size=3)
    assert recorder.captures == 2
    monkeypatch.setattr(captured, "recorder_of", lambda device: None)
    torch.testing.assert_close(got, decoder.decode(rows, steps=3, guidance=guidance, batch_size=3), rtol=1e-4, atol=1e-4)


def test_pictures_are_captured_only_where_there_is_room(recorder, tiny_kandinsky, monkeypatch):
    from rarity.generators.kandinsky import decoder as kandinsky_decoder

    prior, decoder = tiny_kandinsky
    rows = prior.sample(PROMPT, 2, steps=2)
    recorder.captures = 0
    monkeypatch.setattr(kandinsky_decoder, "room", lambda device: 1000.0)
    decoder.decode(rows, steps=2)
    assert recorder.captures == 0
