"""Stand-in for `comfy.patcher_extension`: when a model's callbacks are called."""


class CallbacksMP:
    ON_DETACH = "on_detach_after"
