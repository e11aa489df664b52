"""Small models run on one thread of the processor, and everything else keeps what it had."""

import pytest
import torch
from rarity.density.base.embeddings import Embeddings
from rarity.generators.runtime import threads
from rarity.generators.runtime.threads import threads_worth


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_a_small_model_runs_on_one_and_a_large_one_on_all(three_threads, monkeypatch):
    model = torch.nn.Linear(4, 4)
    with threads_worth(model):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    monkeypatch.setattr(threads, "SMALL", 20)
    with threads_worth(model):
        assert torch.get_num_threads() == 3


def test_sampling_and_decoding_give_the_threads_back_even_when_cancelled(three_threads, tiny_kandinsky):
    prior, decoder = tiny_kandinsky
    seen = []

    def stop(done, total):
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    some = Embeddings(torch.ones(1, prior.space.width), prior.space)
    for work in (
        lambda: prior.sample("a letter R", 1, steps=2, progress=stop),
        lambda: decoder.decode(some, steps=2, progress=stop),
        lambda: prior.encode_images(torch.ones(1, 16, 16, 3), progress=stop),
    ):
        with pytest.raises(KeyboardInterrupt):
            work()
        assert torch.get_num_threads() == 3
    assert seen == [1, 1, 1]
