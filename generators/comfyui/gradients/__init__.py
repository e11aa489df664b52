"""Gradients through networks of ComfyUI: their steps are computed again, and their weights stay as they are."""
