"""The command `lab`: JupyterLab in a copy of the notebooks."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from crossdna_interpret.cli.common import say

__all__ = ["lab_command"]

_PACKAGE = Path(__file__).resolve().parents[1]


def _notebooks() -> list[Path]:
    """Notebooks of the explorer and the tutorials, in an installed package or beside it in a clone."""
    result: list[Path] = []
    for name in ("notebooks", "tutorials"):
        installed, clone = _PACKAGE / "assets" / name, _PACKAGE.parent / name
        result += sorted((installed if installed.is_dir() else clone).glob("*.ipynb"))
    return result


def lab_command(options: argparse.Namespace) -> int:
    """Copy the notebooks, and open JupyterLab beside them."""
    if not options.copy_only and importlib.util.find_spec("jupyterlab") is None:
        raise RuntimeError("JupyterLab is not installed; install it with: pip install 'crossdna_interpret[lab]'")
    options.folder.mkdir(parents=True, exist_ok=True)
    for notebook in _notebooks():
        if not (options.folder / notebook.name).exists():  # never overwrite the user's changes
            shutil.copyfile(notebook, options.folder / notebook.name)
    say(f"The explorer and the tutorials are in {options.folder.resolve()}")
    if options.copy_only:
        return 0
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *(["--no-browser"] if options.no_browser else []),
        *options.passed_on,
    ]
    return subprocess.run(command, cwd=options.folder, check=False).returncode
