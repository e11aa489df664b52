"""What every model runs on: memory, threads, noise, captured graphs, and baselines kept while they are drawn."""
