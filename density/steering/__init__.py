"""Move embeddings from usual to rare: the shell of one rarity, guardrails, directions and gates."""
