"""Models: protocols, inputs, families and loading."""
