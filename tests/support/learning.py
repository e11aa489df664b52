"""What tests of learnt concepts share: a short way to learn one, and a check that the model is the same as before."""

import hashlib

import torch
from rarity.generators.concepts.learn import learn_concept

PROMPT, WORD, STEPS = "a letter r", "r", 3
KINDS = ("token", "lora", "token + lora")


def learn(prior, density, kind="token", **options):
    settings = dict(iterations=4, keep_every=2, batch=3, probes=5, steps=STEPS, learning_rate=1e-2, rank=4) | options
    return learn_concept(prior, density, PROMPT, settings.pop("word", WORD), 100, kind=kind, **settings)


def digest(prior):
    """Every name, type and byte of the models that learning touches, and every module's identity."""
    found = hashlib.sha256()
    for model in (prior.transformer, prior.text_encoder):
        for name, tensor in sorted(model.state_dict().items()):
            found.update(f"{name} {tensor.dtype}".encode())
            found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
        for name, module in model.named_modules():
            found.update(f"{name} {id(module)} {len(module._forward_hooks)}".encode())
        found.update(str([weight.requires_grad for weight in model.parameters()]).encode())
        found.update(str(sorted(key for key in vars(model) if "peft" in key)).encode())
    return found.hexdigest()


def relative_error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


class Narrow:
    """A machine whose memory holds only so many samples with gradients; more raise the allocator's own error."""

    def __init__(self, prior, most):
        self.most, self.sizes = most, []
        self.handle = prior.transformer.proj_in.register_forward_pre_hook(self.check)

    def check(self, _, inputs):
        if torch.is_grad_enabled():
            self.sizes.append(len(inputs[0]))
            if len(inputs[0]) > self.most:
                torch.empty(2**60, dtype=torch.uint8)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.handle.remove()
