"""ComfyUI's progress bar and its cancel button, as the plain `progress(done, total)` the library calls."""

import comfy.model_management
import comfy.utils


def node_progress():
    """Make a `progress(done, total)` for one run of one node.

    Each call moves the bar of the node that is running. When the user has pressed cancel it raises ComfyUI's
    InterruptProcessingException, which the library lets through: a run stops at the next step.

    Returns
    -------
    Callable[[int, int], None]
    """
    bar = comfy.utils.ProgressBar(1)

    def progress(done, total):
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return progress
