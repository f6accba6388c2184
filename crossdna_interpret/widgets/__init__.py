"""Widgets for JupyterLab and other notebooks. They need the extra `lab`."""
