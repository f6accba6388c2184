"""Widgets for JupyterLab and other notebooks; they need the extra `lab`."""
