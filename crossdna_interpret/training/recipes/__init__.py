"""Recipes of bundled models."""
