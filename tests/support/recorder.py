"""A stand-in for CUDA's graph capture, for tests on machines without a graphics card."""

import torch
from rarity.generators.runtime import captured
from rarity.generators.runtime.cuda_recorder import WARM, NotCaptured


class Recorder:
    """Captures by remembering functions: a replay calls them again and writes the results over the first results."""

    def __init__(self):
        self.calls, self.captures, self.replays, self.waits = 0, 0, 0, 0
        self.held, self.refuses = 0, False

    def record(self, functions, inputs):
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            for _ in range(WARM):
                for function in functions:
                    self.calls += 1
                    function(*inputs)
        if self.refuses:
            raise NotCaptured from RuntimeError("operation not permitted when stream is capturing")
        self.captures += 1
        grad = torch.is_grad_enabled()
        outputs = [function(*inputs) for function in functions]

        def again(which):
            def replay():
                self.replays += 1
                with torch.inference_mode(False), torch.set_grad_enabled(grad):
                    found = functions[which](*inputs)
                with torch.no_grad():
                    for old, new in zip(listed(outputs[which]), listed(found), strict=True):
                        old.copy_(new)

            return replay

        return [again(which) for which in range(len(functions))], outputs, self.held

    def mark(self):
        return self

    def synchronize(self):
        self.waits += 1


def listed(found):
    return [found] if isinstance(found, torch.Tensor) else [one for one in found if one is not None]


def record_everything(monkeypatch):
    """Capture everything from now on, on any device; returns the recorder."""
    recorder = Recorder()
    monkeypatch.setattr(captured, "recorder_of", lambda device: recorder)
    monkeypatch.setattr(captured, "_refused", set())
    captured.forget()
    return recorder
