"""Recipe of the model `human-enhancer`."""
