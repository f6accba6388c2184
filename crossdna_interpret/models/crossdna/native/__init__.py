"""Compiled CPU kernels of CrossDNA."""
