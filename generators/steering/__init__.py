"""Steering of generators that make pictures and not embeddings."""
