"""A prompt as CONDITIONING: its tensors, moved as one vector, varied seed by seed, and in other words."""
