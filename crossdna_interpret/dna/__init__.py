"""Sequences: bases and ids, the reverse complement, edits, and shuffles."""
