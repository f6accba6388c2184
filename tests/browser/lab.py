"""A real JupyterLab with a page on it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}
READY = """() => {
  const widget = window.jupyterapp?.shell?.currentWidget, context = widget?.context;
  return context?.isReady && context.sessionContext?.isReady
    && context.sessionContext.session?.kernel?.status === 'idle' && widget.content?.widgets?.length;
}"""
RAN = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets.filter((cell) => cell.model.type === 'code');
  return cells.length && cells.every((cell) => cell.model.executionCount);
}"""
ASK = """([code, expression]) => {
  window.answer = null;
  const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
  kernel.requestExecute({ code, user_expressions: { r: expression }, silent: false, store_history: false })
    .done.then(
      (reply) => { window.answer = [reply.content]; },
      (error) => { window.answer = [{ status: String(error) }]; },
    );
}"""


class Lab:
    """A server in a folder, with settings of its own.

    Args:
        folder: what it serves; settings and the like go into `home` beside it.
        subshells: whether widgets' messages are handled while a cell runs, as they are by default.
    """

    def __init__(self, folder: Path, *, subshells: bool = True) -> None:
        home = folder.parent / "home"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        names = (
            "HOME",
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
        )
        places = {name: home / name.lower() for name in names}
        settings = dict(SETTINGS)
        if not subshells:
            settings["apputils-extension/kernels-settings"] = {"commsOverSubshells": "disabled"}
        for name, values in settings.items():
            file = places["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self.token, self.base = "test-token", f"http://127.0.0.1:{port}"
        arguments = [
            "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={folder}",
            "--LabApp.expose_app_in_browser=True", "--ServerApp.terminals_enabled=False",
        ]  # fmt: skip
        self.log = (folder.parent / "lab.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env=os.environ | {name: str(place) for name, place in places.items()}, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.base}/api/status?token={self.token}", timeout=2).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(Path(self.log.name).read_text()) from None
                time.sleep(0.2)
        raise TimeoutError("JupyterLab did not start within a minute.")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def open(self, page: Any, notebook: str) -> None:
        """Show a notebook, and wait for its kernel."""
        page.goto(f"{self.base}/lab/tree/{notebook}?reset&token={self.token}")
        page.wait_for_function(READY, timeout=90_000)

    @staticmethod
    def run_all(page: Any) -> None:
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_function(RAN, timeout=90_000)

    @staticmethod
    def ask(page: Any, expression: str, code: str = "") -> str:
        """What the kernel says of an expression, as text."""
        page.evaluate(ASK, [code, expression])
        page.wait_for_function("() => window.answer", timeout=60_000)
        (reply,) = page.evaluate("() => window.answer")
        assert reply["status"] == "ok", reply
        answer = reply["user_expressions"]["r"]
        assert answer["status"] == "ok", answer
        return str(answer["data"]["text/plain"])


@contextmanager
def explorer_page(width: int, height: int, flags: list[str]) -> Iterator[tuple[Lab, Any]]:
    """A lab and a page on it that shows a copy of the explorer's notebook, run and at rest; for scripts."""
    from playwright.sync_api import sync_playwright

    notebook = Path(__file__).resolve().parents[2] / "notebooks" / "enhancer_explorer.ipynb"
    folder = Path(tempfile.mkdtemp()) / "notebooks"
    folder.mkdir()
    shutil.copy(notebook, folder)
    lab = Lab(folder)
    try:
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
            page = browser.new_page(viewport={"width": width, "height": height})
            lab.open(page, notebook.name)
            lab.run_all(page)
            page.wait_for_selector(".cdi-exchange canvas")
            lab.ask(page, "1", "explorer.session.wait(60)")
            yield lab, page
    finally:
        lab.stop()
        shutil.rmtree(folder.parent, ignore_errors=True)
