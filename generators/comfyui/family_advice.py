"""Sampling settings that cannot be right for a MODEL's family, in sentences for a report."""

from __future__ import annotations

DISTILLED = ("FluxSchnell",)  # without an input for the guidance, and without use for a negative prompt
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


def _cfg(drawing) -> float:
    """The guidance between the prompt and the negative prompt; 1 if no negative prompt is asked."""
    if drawing.guider is None:
        return drawing.cfg
    return getattr(drawing.guider, "cfg", 1.0) if "negative" in drawing.guider.original_conds else 1.0
