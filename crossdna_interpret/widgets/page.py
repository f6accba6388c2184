"""One self-contained page of views, with the widgets' own modules and a small stand-in for the notebook."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossdna_interpret.widgets.view import View

__all__ = ["page_of"]

_STAND_IN = """
class Model {
  constructor(values, group) {
    this.values = values;
    this.group = group;
    this.listeners = {};
    for (const [name, text] of Object.entries(values)) {
      if (text && typeof text === "object" && "base64" in text) {
        values[name] = new DataView(Uint8Array.from(atob(text.base64), (c) => c.charCodeAt(0)).buffer);
      }
    }
    group.push(this);
  }
  get(name) { return this.values[name]; }
  set(name, value) {
    for (const one of SHARED.includes(name) ? this.group : [this]) one.put(name, value);
  }
  put(name, value) {
    if (JSON.stringify(this.values[name]) === JSON.stringify(value)) return;
    this.values[name] = value;
    for (const listener of [...(this.listeners[`change:${name}`] || [])]) listener();
  }
  on(event, listener) { (this.listeners[event] = this.listeners[event] || []).push(listener); }
  off(event, listener) { this.listeners[event] = (this.listeners[event] || []).filter((one) => one !== listener); }
  save_changes() {}
  send() {}
}
"""


def _json(value: Any) -> str:
    # Inside a script element, "</" would end it.
    return json.dumps(value, default=_encoded).replace("</", "<\\/")


def _encoded(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(bytes(value)).decode("ascii")}
    raise TypeError(f"{type(value).__name__} cannot be written into a page.")


def page_of(title: str, views: Sequence[View], head: str = "") -> str:
    """HTML text of a page.

    Args:
        title: of the page.
        views: drawn one below the other, linked.
        head: HTML to stand above them.
    """
    from crossdna_interpret.widgets.view import SHARED, static_text

    modules = {view.MODULE: static_text(f"{view.MODULE}.js") for view in views}
    scripts = [f"const SHARED = {_json(SHARED)};", _STAND_IN, static_text("common.js"), "const MODULES = {};"]
    for name, text in modules.items():
        scripts.append(f"MODULES[{_json(name)}] = (() => {{\n{text.replace('export default', 'return')}\n}})();")
    states = [[view.MODULE, {**view.state(), "editable": False, "stale": False, "live": False}] for view in views]
    scripts.append(
        f"const group = [];\nfor (const [name, values] of {_json(states)}) {{\n"
        "  const el = document.createElement('div');\n  document.getElementById('views').append(el);\n"
        "  MODULES[name].render({ model: new Model(values, group), el });\n}\n"
        "document.getElementById('views').models = group;"
    )
    body = "\n".join(scripts)
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f"<title>{html.escape(title)}</title>\n<style>\n"
        "body { margin: 1.2em; color: #222; background: #fff; font: 14px/1.4 system-ui, sans-serif; }\n"
        "#views > div { margin-bottom: 1em; }\n"
        f"{static_text('style.css')}\n</style>\n</head>\n<body>\n"
        f"<h1 style='font-size: 1.3em'>{html.escape(title)}</h1>\n"
        f"{head}\n<div id='views'></div>\n<script type='module'>\n{body}\n</script>\n</body>\n</html>\n"
    )
