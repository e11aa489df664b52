"""Stand-in for `comfy.model_patcher`: a model, and the two devices it moves between."""

from .patcher_extension import CallbacksMP


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.callbacks = []

    def add_callback(self, call_type, callback):
        self.callbacks.append((call_type, callback))

    def detach(self, unpatch_all=True):
        for call_type, callback in self.callbacks:
            if call_type == CallbacksMP.ON_DETACH:
                callback(self, unpatch_all)
