"""How new, original and varied pictures are."""
