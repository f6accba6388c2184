"""Recipes for the expression of yeast promoters."""
