"""Out of memory: tried again with fewer at a time, and the result is the same."""

import contextlib
import weakref

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.runtime.memory import Placement, in_pieces, is_out_of_memory


class Watched(Placement):
    def __init__(self):
        self.made_room = 0

    def make_room(self):
        self.made_room += 1


@contextlib.contextmanager
def room_for(module, most, sizes):
    """A module that runs out of memory, as torch says it on the CPU, when it is given more than `most` rows."""

    def check(_, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > most:
            torch.empty(2**60, dtype=torch.uint8)  # more than any machine has: the allocator's own error

    handle = module.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def test_samples_are_the_same_with_little_memory(tiny_kandinsky, caplog):
    prior = tiny_kandinsky[0]
    expected, sizes, calls = prior.sample("a", 11, seed=2, steps=2), [], []
    with room_for(prior.transformer.proj_in, 3, sizes):
        got = prior.sample("a", 11, seed=2, steps=2, batch_size=10, progress=lambda *call: calls.append(call))
    torch.testing.assert_close(got.vectors, expected.vectors, rtol=1e-3, atol=1e-3)
    assert sizes == [10, 5, 3, 3, 3, 3, 3, 3, 2, 2], "tried with 10 and 5, then 3 at a time for 2 steps each"
    assert calls[-1] == (22, 22) and calls == sorted(calls)
    assert "10 at a time do not fit in memory; going on with 5" in caplog.text


def test_pictures_are_the_same_with_little_memory(tiny_kandinsky):
    prior, decoder = tiny_kandinsky
    embeddings = prior.sample("a", 5, steps=2)
    expected, sizes = decoder.decode(embeddings, steps=2), []
    with room_for(decoder.unet.conv_in, 4, sizes):  # guided: two rows a picture
        got = decoder.decode(embeddings, steps=2)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert max(sizes[2:]) == 4
    pictures, sizes = torch.rand(5, 16, 16, 3), []
    expected = prior.encode_images(pictures)
    with room_for(prior.image_encoder.vision_model.embeddings.patch_embedding, 2, sizes):
        got = prior.encode_images(pictures)
    torch.testing.assert_close(got.vectors, expected.vectors, rtol=1e-4, atol=1e-4)
    assert sizes == [5, 3, 2, 2, 1]


def test_not_even_one(tiny_kandinsky):
    prior = tiny_kandinsky[0]
    with room_for(prior.transformer.proj_in, 0, []), pytest.raises(RarityError, match="even one at a time.*half precision"):
        prior.sample("a", 3, steps=2)
    assert len(prior.sample("a", 3, steps=2)) == 3, "and the next run works"


def test_what_was_computed_is_let_go_before_the_next_try():
    held = []

    class Looks(Placement):
        def make_room(self):
            assert held.pop()() is None, "the failed try still holds its tensors"

    def work(piece):
        partial = torch.ones(1000)
        held.append(weakref.ref(partial))
        if len(piece) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return partial.sum().item()

    assert [piece for piece, _ in in_pieces(range(3, 7), 4, work, Looks())] == [range(i, i + 1) for i in range(3, 7)]


def test_pieces_cover_the_rows_in_order_and_stay_halved():
    seen, placement = [], Watched()

    def work(piece):
        seen.append(piece)
        if len(piece) > 4:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")
        return list(piece)

    found = list(in_pieces(range(20), 13, work, placement))
    assert sum((rows for _, rows in found), []) == list(range(20)) and placement.made_room == 2
    assert [len(piece) for piece in seen] == [13, 7, 4, 4, 4, 4, 4]
    assert list(in_pieces(range(0), 4, work, placement)) == []


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), KeyboardInterrupt()])
def test_other_errors_pass(error):
    def work(piece):
        raise error

    with pytest.raises(type(error)):
        list(in_pieces(range(4), 4, work, Placement()))


def test_what_torch_says():
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("x"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


@pytest.mark.parametrize("size", [0, -1])
def test_no_rows_at_a_time_is_an_error_and_not_for_ever(size):
    with pytest.raises(RarityError, match=f"batch size must be at least 1, got {size}"):
        list(in_pieces(range(3), size, len, Placement()))


def test_pictures_in_batches_of_none(tiny_kandinsky):
    with pytest.raises(RarityError, match="batch size must be at least 1, got 0"):
        tiny_kandinsky[0].encode_images(torch.rand(2, 16, 16, 3), batch_size=0)


def test_an_automatic_batch_follows_the_room_in_pieces_of_one_size(monkeypatch):
    from rarity.generators.runtime import memory

    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert memory.automatic_batch(5000, 10**6, cpu) == 256
    for room, expected in ((80e9, 2500), (5e9, 2500), (4e9, 1667), (100e6, 50), (1.0, 1)):
        monkeypatch.setattr(memory, "room", lambda device, room=room: room)
        assert memory.automatic_batch(5000, 10**6, card) == expected
    monkeypatch.setattr(memory, "room", lambda device: 80e9)
    assert [memory.automatic_batch(count, 10**6, card) for count in (1, 2500, 2501, 6000)] == [1, 2500, 1251, 2000]
