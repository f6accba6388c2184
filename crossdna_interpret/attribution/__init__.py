"""Questions asked of a model: which bases matter, and how much."""
