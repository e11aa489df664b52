"""The node with the dial: how rare."""

from comfy_api.latest import io

from ..density.optimize import choose_starts, optimize
from . import sockets
from .progress import node_progress


class RarityOptimize(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityOptimize",
            display_name="Optimize Rarity",
            category="Rarity/optimize",
            description="Moves usual samples to the rarity you dial, 1 in N, and keeps them inside the guardrails.",
            inputs=[
                sockets.Density.Input("density", tooltip="What is usual, from Fit Density."),
                sockets.Embeddings.Input("embeddings", tooltip="The baseline to start from: the one the density was fitted to."),
                io.Int.Input(
                    "one_in",
                    default=1000,
                    min=2,
                    max=1000000,
                    tooltip="The dial: how rarely the model would make this by itself. "
                    "10 is unusual, 1,000 is rare, 100,000 is beyond what 2,000 samples can measure.",
                ),
                io.Int.Input("count", default=16, min=1, max=4096, tooltip="How many rare embeddings to make."),
                io.Combo.Input(
                    "start_from",
                    options=["usual", "rarer"],
                    default="rarer",
                    tooltip="rarer: one of the baseline's rarest tenth, which are already unusual. usual: any sample; results stay plainer.",
                ),
                io.Int.Input(
                    "steps",
                    default=100,
                    min=1,
                    max=10000,
                    tooltip="Steps along the wanted rarity while the guardrails pull. 100 takes well under a second.",
                ),
                sockets.seed_input("Picks which samples to start from. Another seed gives other rare pictures."),
                sockets.Guardrail.Input(
                    "guardrail",
                    optional=True,
                    tooltip="The chain of guardrails. Without one the pictures are rare, but may no longer be the subject.",
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(display_name="rare", tooltip="The rare embeddings: Decode draws them."),
                sockets.Embeddings.Output(
                    display_name="usual", tooltip="As many usual samples, picked at random, to set beside the rare ones."
                ),
                sockets.Trajectory.Output(
                    display_name="trajectory", tooltip="Every kept step and its readings, for the map and the contact sheet."
                ),
                io.String.Output(
                    display_name="report", tooltip="In words: how rare they are, and how many kept every guardrail."
                ),
            ],
        )

    @classmethod
    def execute(cls, density, embeddings, one_in, count, start_from, steps, seed, guardrail=()):
        usual = choose_starts(embeddings, density, count, "usual", seed)
        starts = choose_starts(embeddings, density, count, start_from, seed, guardrail)
        trajectory = optimize(density, starts, one_in, guardrail, steps=steps, seed=seed, progress=node_progress())
        return io.NodeOutput(trajectory.final, usual, trajectory, trajectory.report())
