"""The base of all models: memory, threads, noise, captured graphs, and baselines that are kept while they are drawn."""
