"""ComfyUI's own models as eyes, as sources of baselines, and as what is steered."""
