"""How the bundled model `human-enhancer` is made."""
