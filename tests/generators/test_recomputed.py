"""Gradients through a module of inference mode that changes tensors in place, with nothing of its inside kept."""

import torch
from rarity.generators.recomputed import frozen, own, recomputed


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
