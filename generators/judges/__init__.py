"""Judges, which say whether a picture still is the subject."""
