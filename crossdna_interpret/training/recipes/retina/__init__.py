"""Recipe of the model `retina-enhancer`."""
