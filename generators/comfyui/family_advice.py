"""Sampling settings that cannot be right for a MODEL's family or for its baseline, in sentences for a report."""

from __future__ import annotations

DISTILLED = ("FluxSchnell",)  # without an input for the guidance, and without use for a negative prompt
DRAWN_WITH = ("steps", "cfg", "sampler", "scheduler", "width", "height")  # what two sets of pictures must share to be compared
FOR_DIFFUSION = 7.0, "normal"  # cfg and scheduler that Stable Diffusion 1.5 and XL are drawn with


def unsuited(drawing) -> tuple[str, ...]:
    """Sentences about the cfg and the scheduler of a drawing; none if nothing speaks against them.

    What speaks against a cfg above 1 is a guidance that is built into the model. What speaks against the settings of
    Stable Diffusion is that a model was trained by flow matching.
    """
    from comfy.model_sampling import CONST  # the noise of flow matching

    model, kind = drawing.model, type(drawing.model.model.model_config).__name__
    cfg = _cfg(drawing)
    built_in = model.model.model_config.unet_config.get("guidance_embed", False)
    if cfg > 1 and (built_in or kind in DISTILLED):
        where = " The node FluxGuidance sets its guidance." if built_in else ""
        return (
            f"{kind} has its guidance built in and was trained to be drawn with cfg 1: with cfg {cfg:g} pictures take twice as long and "
            f"their colours burn. Set cfg to 1 here and in KSampler.{where}",
        )
    usual_cfg, usual_scheduler = FOR_DIFFUSION
    flow = isinstance(model.get_model_object("model_sampling"), CONST)
    if flow and cfg >= usual_cfg and drawing.sigmas is None and drawing.scheduler == usual_scheduler:
        return (
            f"cfg {cfg:g} and the scheduler {usual_scheduler} are settings of Stable Diffusion 1.5 and XL, and {kind} is a flow model: such "
            "models are drawn with cfg 1 (turbo and distilled ones) to 5, and mostly with the scheduler simple. Set here what you draw with.",
        )
    return ()


def unlike_baseline(source: dict, baseline: dict) -> tuple[str, ...]:
    """A sentence about settings that differ from those of the baseline; none if all are equal or the baseline was not drawn here.

    Parameters
    ----------
    source : of the pictures that are drawn.   baseline : of the density that says what is usual.
    """
    differ = [key for key in DRAWN_WITH if key in baseline and baseline[key] != source[key]]
    if not differ:
        return ()
    there, here = (", ".join(f"{key} {held[key]}" for key in differ) for held in (baseline, source))
    return (
        f"The baseline was drawn with {there}, these pictures with {here}: so it does not say how rare they are. "
        "Set here what Baseline from Model has.",
    )


def _cfg(drawing) -> float:
    """The guidance between the prompt and the negative prompt; 1 if no negative prompt is asked."""
    if drawing.guider is None:
        return drawing.cfg
    return getattr(drawing.guider, "cfg", 1.0) if "negative" in drawing.guider.original_conds else 1.0
