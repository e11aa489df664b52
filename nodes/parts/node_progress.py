"""ComfyUI's progress bar and cancel button, as the `progress(done, total)` that the library calls."""

import comfy.model_management
import comfy.utils
from PIL import Image


def node_progress():
    """Make a `progress(done, total)` for one run of one node.

    Each call moves the bar of the node that is running. If the user has pressed cancel, the call raises ComfyUI's
    InterruptProcessingException. The library lets it pass, so that a run stops at the next step.

    Returns
    -------
    Progress
    """
    bar = comfy.utils.ProgressBar(1)

    def progress(done, total):
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return progress


def node_preview():
    """Make a `progress` as `node_progress` does, and a `preview(pictures)` that is sent with the next progress.

    Returns
    -------
    tuple[Progress, Callable[[torch.Tensor], None]]
        The preview takes pictures [N, H, W, 3], 0 to 1, and shows the first.
    """
    bar = comfy.utils.ProgressBar(1)
    waiting = []

    def preview(pictures):
        pixels = pictures[0, ..., :3].expand(-1, -1, 3).mul(255).round().byte()
        waiting[:] = [("JPEG", Image.fromarray(pixels.cpu().numpy()), 512)]

    def progress(done, total):
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total, waiting.pop() if waiting else None)

    return progress, preview
