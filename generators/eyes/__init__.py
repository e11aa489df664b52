"""Encoders of pictures and of words."""
