"""Scores of sequences: targets, batches, predictions, edits and provenance."""
