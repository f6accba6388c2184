"""Training. It needs the extra ``train`` and is not imported for inference."""
