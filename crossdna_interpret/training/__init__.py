"""Training. Needs the extra ``train``; nothing at inference imports it."""
