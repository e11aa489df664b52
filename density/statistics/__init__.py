"""What is gathered of samples in one pass, and merges exactly."""
