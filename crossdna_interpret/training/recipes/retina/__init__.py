"""The recipe of `retina-enhancer`."""
