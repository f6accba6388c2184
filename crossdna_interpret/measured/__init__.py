"""Predictions against what a laboratory has measured."""
