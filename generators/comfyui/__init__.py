"""ComfyUI's own models, as eyes, as sources of baselines, and as models that are steered."""
