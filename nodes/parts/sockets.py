"""The sockets that this pack adds to ComfyUI, and the inputs that several nodes share."""

import comfy.samplers
from comfy_api.latest import io

from ...density.base.framing import FRAMINGS, MIDDLE

AT_MOST = 256  # pictures that a node draws without a question

Prior = io.Custom("RARITY_PRIOR")
Decoder = io.Custom("RARITY_DECODER")
Embeddings = io.Custom("RARITY_EMBEDDINGS")
Density = io.Custom("RARITY_DENSITY")
Guardrail = io.Custom("RARITY_GUARDRAIL")  # carries a chain: a tuple of guardrails
Direction = io.Custom("RARITY_DIRECTION")  # carries a chain: a tuple of directions
Trajectory = io.Custom("RARITY_TRAJECTORY")
Exposure = io.Custom("RARITY_EXPOSURE")
Concept = io.Custom("RARITY_CONCEPT")
Kept = io.Custom("RARITY_DENSITY,RARITY_EMBEDDINGS,RARITY_EXPOSURE,RARITY_CONCEPT")  # any of them, as ComfyUI writes it
Gate = io.Custom("RARITY_GATE")
Judge = io.Custom("RARITY_JUDGE")  # a vision-language model, which is asked
Encoder = io.Custom("RARITY_ENCODER")  # encodes pictures and text, and draws nothing
PriorLatent = io.Custom("PRIOR_LATENT")  # of comfyui-kandinsky22: a bare tensor [1, 1280]
IpAdapterEmbeds = io.Custom("EMBEDS")  # of ComfyUI_IPAdapter_plus: a bare tensor [N, d], of its standard models

READERS = [Encoder, Prior]  # eyes that read words as well
EYES = [io.ClipVision, *READERS]
AN_EYE = (
    "an encoder of Load CLIP Vision (CLIP, SigLIP or DINO), the encoder of Load OpenCLIP, which reads words as well, or the prior of Load "
    "Kandinsky."
)
A_READER = "the encoder of Load OpenCLIP, or the prior of Load Kandinsky."


def eye_input(tooltip, kinds=EYES, optional=False):
    """Make the `eye` input: what turns pictures into embeddings.

    Parameters
    ----------
    tooltip : str
        What the eye does here, and which eyes there are.
    kinds : list
        The sockets that may be connected: EYES, or READERS where words are read.
    optional : bool
        Whether the node works without an eye.
    """
    return io.MultiType.Input("eye", kinds, optional=optional, tooltip=tooltip)


def advanced(input):
    """Hide an input among the advanced ones of a node, in Nodes 2.0. Classic nodes, and ComfyUI before 0.10, show it like any other.

    Parameters
    ----------
    input : io.Input
        It is changed and returned.
    """
    input.extra_dict["advanced"] = True
    return input


def sampler_inputs(tooltip, of_sampler=""):
    """Make the inputs `sampler_name` and `scheduler`, as KSampler has them. They are advanced.

    Parameters
    ----------
    tooltip : str
        Of both.
    of_sampler : str
        What the tooltip of `sampler_name` adds.
    """
    names = {"sampler_name": comfy.samplers.SAMPLER_NAMES, "scheduler": comfy.samplers.SCHEDULER_NAMES}
    tooltips, usual = (tooltip + of_sampler, tooltip), ("euler", "normal")
    return [
        advanced(io.Combo.Input(name, options=list(options), default=default, tooltip=text))
        for (name, options), default, text in zip(names.items(), usual, tooltips, strict=True)
    ]


def seed_input(tooltip):
    """Make the `seed` input: any 64-bit number, with ComfyUI's "control after generate" widget after it.

    Parameters
    ----------
    tooltip : str
        What this seed draws, in an artist's words.
    """
    return io.Int.Input(
        "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=tooltip
    )


def first_input(what):
    """Make the `first` input of a node that draws a baseline: where its part of the numbered samples begins.

    Parameters
    ----------
    what : str
        The name of the samples, such as "pictures".
    """
    return advanced(
        io.Int.Input(
            "first",
            default=0,
            min=0,
            max=100000000,
            optional=True,
            tooltip=f"The number of the first of these {what}. With it several machines draw one baseline with the same seed: "
            "each machine begins where the one before it ends. 0 on a single machine.",
        )
    )


def sampling_inputs():
    """Make the inputs of a node that draws pictures for what SamplerCustomAdvanced takes in place of KSampler's settings."""
    return [
        io.Guider.Input(
            "guider",
            optional=True,
            tooltip="Draws with a guider, such as BasicGuider for Flux, in place of model, negative and cfg. This node's positive takes the "
            "place of the guider's prompt: connect it behind FluxGuidance, too.",
        ),
        io.Sampler.Input("sampler", optional=True, tooltip="In place of sampler_name: a sampler of its own node, such as KSamplerSelect."),
        io.Sigmas.Input(
            "sigmas", optional=True, tooltip="In place of steps and scheduler: a schedule of its own node, such as Flux2Scheduler or that of a turbo model."
        ),
    ]


def framing_input():
    """Make the `framing` input: how much of a picture that is not square an eye is shown."""
    return advanced(
        io.Combo.Input(
            "framing",
            options=list(FRAMINGS),
            default=MIDDLE,
            optional=True,
            tooltip="How much the eye sees of a picture that is not square: its middle, as encoders usually look, or all of it, with bars "
            "that make it square. Choose the same framing for all pictures that you compare.",
        )
    )


def at_most_input():
    """Make the `at_most` input of a node that turns every embedding into a picture."""
    return advanced(
        io.Int.Input(
            "at_most",
            default=AT_MOST,
            min=1,
            max=1000000,
            optional=True,
            tooltip="More embeddings than this are an error, because a bypassed node can let a whole baseline through, which would be "
            "thousands of pictures. Raise it to draw more.",
        )
    )
