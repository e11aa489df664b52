"""Kandinsky 2.1 and 2.2: the prior, the decoder, and where their files lie."""
