"""Steering of whatever imagines pictures and not embeddings."""
