"""A hook of mkdocs: the tutorials, with their stored outputs, as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

TUTORIALS = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Add a page, and its pictures, for each notebook."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:  # widgets need a kernel
            for output in cell.get("outputs", []):
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        text, resources = MarkdownExporter().from_notebook_node(notebook)
        for name, content in resources["outputs"].items():
            unique = f"{path.stem}_{name}"
            text = text.replace(f"]({name})", f"]({unique})")
            files.append(File.generated(config, f"tutorials/{unique}", content=content))
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=text))
    return files
