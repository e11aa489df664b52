"""Pictures of densities, of the way to rare, and sheets of results."""
