"""Densities: what a model usually makes, learnt from samples."""
