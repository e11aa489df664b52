"""Stand-in for `comfy.ops`: gradients need the real one."""
