"""What everything else stands on: errors, tensors, spaces, embeddings and who each of their rows is."""
