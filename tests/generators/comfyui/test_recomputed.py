"""Gradients through a module of inference mode that changes tensors in place, with nothing of its inside kept."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from rarity.generators.comfyui.gradients.recomputed import frozen, own, own_tensors, recomputed
from rarity.generators.comfyui.gradients.saved_tensors import Saved


class Careless(torch.nn.Module):
    """Adds in place, as ComfyUI's CLIP layers do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor([0.5, 2.0, 1.5]))
        self.runs = 0

    def look(self, x):
        self.runs += 1
        x += self.first(x).tanh()
        x *= 2
        return self.second(x) * self.scale


def test_gradients_are_right_and_the_module_is_as_it_was():
    torch.manual_seed(0)
    with torch.inference_mode():
        module = Careless()
        x = torch.randn(2, 4)
    held = {name: (value, value.clone()) for name, value in module.state_dict(keep_vars=True).items()}
    loaded = []
    look = frozen(module, module.look, lambda: loaded.append(torch.is_inference_mode_enabled()))
    x = own(x)

    def literal(x):
        w = {name: value.clone() for name, value in module.state_dict().items()}
        h = 2 * (x + (x @ w["first.weight"].T + w["first.bias"]).tanh())
        return (h @ w["second.weight"].T + w["second.bias"]) * w["scale"]

    one, two = (x.clone().requires_grad_(True) for _ in range(2))
    made = recomputed(look, one)
    assert module.runs == 1
    torch.testing.assert_close(made, literal(two))
    g = torch.randn(2, 3)
    torch.testing.assert_close(torch.autograd.grad(made, one, g), torch.autograd.grad(literal(two), two, g))
    assert module.runs == 2, "once more on the way back"
    assert loaded == [True, True], "before each, in the mode that its weights are kept in"
    assert torch.equal(one.detach(), x), "what was given is not changed"
    for name, value in module.state_dict(keep_vars=True).items():
        assert value is held[name][0] and torch.equal(value, held[name][1])


def test_weights_are_back_after_an_error_and_shared_ones_stay_shared():
    with torch.inference_mode():
        module = Careless()
        module.first.weight = module.second.weight = torch.nn.Parameter(torch.eye(4))
    held, seen = dict(module.named_parameters(remove_duplicate=False)), []

    def fail(x):
        seen.append((module.first.weight, module.second.weight))
        raise ValueError

    with pytest.raises(ValueError):
        frozen(module, fail, lambda: None)(torch.ones(1, 4))
    one, other = seen[0]
    assert not one.is_inference() and one.data_ptr() == other.data_ptr() == module.first.weight.data_ptr()
    assert all(value is held[name] for name, value in module.named_parameters(remove_duplicate=False))


def test_weights_that_move_between_the_ways_are_followed():
    """As when a host needs the room for another model; another precision stands for another device here."""
    with torch.inference_mode():
        module = Careless()
    types = iter((torch.float32, torch.float64))
    look = frozen(module, lambda x: module.look(x.to(module.scale.dtype)).float(), lambda: module.to(next(types)))
    x = torch.ones(1, 4, requires_grad=True)
    made = recomputed(look, x)
    (slope,) = torch.autograd.grad(made.sum(), x)
    assert module.scale.dtype == torch.float64 and torch.isfinite(slope).all()
    assert all(weight.is_inference() for weight in module.parameters()), "the host finds them as it keeps them"


def test_slopes_too_small_for_half_precision_arrive():
    x = torch.tensor([0.5, -2.0], requires_grad=True)
    made = recomputed(lambda x: (x.half() ** 2).float(), x)
    (slope,) = torch.autograd.grad(made, x, torch.tensor([1e-12, 0.0]))
    torch.testing.assert_close(slope, torch.tensor([1e-12, 0.0]), atol=0, rtol=1e-3)  # half precision's rounding
    (slope,) = torch.autograd.grad(recomputed(lambda x: x * 2, x).sum() * 0, x)
    assert (slope == 0).all()


def test_only_what_is_asked_for_gets_a_gradient():
    a, b = torch.tensor([2.0], requires_grad=True), torch.tensor([3.0])
    (slope,) = torch.autograd.grad(recomputed(lambda a, b: a * b, a, b), a)
    assert float(slope) == 3.0 and b.grad is None
    unused = torch.ones(2, requires_grad=True)
    (slope,) = torch.autograd.grad(recomputed(lambda a, b, c: a * b, a, b, unused), unused)
    assert torch.equal(slope, torch.zeros(2))


def test_own_copies_what_was_made_under_inference_mode_and_nothing_else():
    with torch.inference_mode():
        made = torch.ones(2)
    plain, other = torch.ones(2), object()
    told = {"a": [made, plain], "b": {"c": made}, "d": other}
    copied = own(told)
    assert not copied["a"][0].is_inference() and copied["a"][1] is plain and copied["d"] is other
    assert not copied["b"]["c"].is_inference() and told["a"][0] is made


def test_an_object_lends_ordinary_copies_of_its_tensors_and_gets_its_own_back():
    """The means and deviations of Wan's latents, which are made in inference mode and used outside of the network."""

    class Format:
        def __init__(self):
            self.mean, self.plain, self.factor = torch.full((2,), 3.0), None, 0.5

    with torch.inference_mode():
        latents = Format()
    latents.plain, held = torch.ones(2), latents.mean
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError), own_tensors(latents):
        assert not latents.mean.is_inference() and latents.factor == 0.5
        (slope,) = torch.autograd.grad((x * latents.mean * latents.plain).sum(), x)
        assert slope.tolist() == [3.0, 3.0]
        raise ValueError
    assert latents.mean is held and held.is_inference()


class Lending:
    """A layer whose weight lies in a buffer that is written over as soon as the layer is through."""

    def __init__(self):
        with torch.inference_mode():
            self.weight, self.buffer = torch.randn(3, 4), torch.empty(3, 4)
        self.fetched = 0

    @contextmanager
    def fetch(self):
        self.fetched += 1
        with torch.inference_mode():
            yield self.buffer.copy_(self.weight)
            self.buffer.fill_(torch.nan)

    def __call__(self, x, saved):
        with self.fetch() as weight:
            with torch.inference_mode(False):
                return (x @ saved.lend(weight, self.fetch).T).tanh()


def test_lent_weights_are_fetched_again_on_the_way_back():
    torch.manual_seed(0)
    layer, x = Lending(), torch.randn(2, 4, requires_grad=True)
    g = torch.randn(2, 3)
    with Saved() as saved:
        made = layer(x, saved)
        assert layer.fetched == 1
        (slope,) = torch.autograd.grad(made, x, g)
    assert layer.fetched == 2
    twin = x.detach().clone().requires_grad_(True)
    (expected,) = torch.autograd.grad((twin @ layer.weight.clone().T).tanh(), twin, g)
    torch.testing.assert_close(slope, expected)


def test_what_lies_later_where_a_lent_weight_lay_is_not_taken_for_it():
    """The room of a weight that was lent and let go of is given to something else, which the way back needs as it is."""
    place, x = torch.full((4,), 7.0), torch.ones(4, requires_grad=True)
    with Saved() as saved:
        saved.lend(place, lambda: nullcontext(torch.full((4,), 7.0)))
        (slope,) = torch.autograd.grad((x * place.fill_(3.0)).sum(), x)
    assert torch.equal(slope, torch.full((4,), 3.0))


def test_a_part_that_is_written_later_is_kept_as_it_was():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with Saved():
        h = x.clone()
        made = h.square().sum()
        h[1:] += 5  # a view of what `square` needs
        (slope,) = torch.autograd.grad(made + h.sum(), x)
    assert slope.tolist() == [3.0, 5.0, 7.0]


def test_tensors_of_inference_mode_may_be_written_inside():
    with torch.inference_mode():
        buffer = torch.zeros(2)
    x = torch.ones(2, requires_grad=True)
    with Saved():
        made = (x * 2).square().sum()
        with torch.inference_mode():
            buffer.add_(1)
        (slope,) = torch.autograd.grad(made, x)
    assert slope.tolist() == [8.0, 8.0] and buffer.tolist() == [1.0, 1.0]


def test_what_a_host_wrote_on_a_weight_is_read_by_the_layer():
    """ComfyUI's weights carry the type that they are cast to."""

    class Layer(torch.nn.Linear):
        def forward(self, x):
            return torch.nn.functional.linear(x.to(self.weight.cast), self.weight.to(self.weight.cast)).float()

    for mode in (False, True):
        with torch.inference_mode(mode):
            layer = Layer(2, 1, bias=False)
        layer.weight.cast = torch.bfloat16
        x = torch.ones(1, 2, requires_grad=True)
        (slope,) = torch.autograd.grad(recomputed(frozen(layer, layer.forward, lambda: None), x).sum(), x)
        torch.testing.assert_close(slope, layer.weight.bfloat16().float().clone())
