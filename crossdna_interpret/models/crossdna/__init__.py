"""CrossDNA."""
