"""Workflows are read against the node schemas, from the stand-in or the real ComfyUI."""

from standin import use_standin_if_needed

use_standin_if_needed()
