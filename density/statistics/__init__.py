"""Statistics of samples: gathered in one pass, and merged exactly."""
