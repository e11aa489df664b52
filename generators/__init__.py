"""What turns prompts into embeddings, and embeddings into pictures."""
