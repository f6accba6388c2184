"""Where scores are kept."""
