"""The models, and where they come from."""
