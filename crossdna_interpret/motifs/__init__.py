"""Motifs: collections of them, where they are in sequences, and what they do there."""
