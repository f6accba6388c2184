"""From sequences to scores: targets, batches, predictions, edits, and how a result was made."""
