"""Stores of scores."""
