"""The base of everything else: errors, tensors, spaces, embeddings and who each of their rows is."""
