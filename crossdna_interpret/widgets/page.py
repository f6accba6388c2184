"""HTML pages with views that work without a notebook and without Python."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from crossdna_interpret.widgets.drawn import DEFAULTS, SHARED, static_text

__all__ = ["Drawn", "Page", "page_of", "script_of", "style"]

Drawn = tuple[str, Mapping[str, Any]]  # name of a module, and the values that it draws


class Page(str):
    """Text of an HTML page. At a prompt, only its size is shown.

    Example:
        >>> Page("<html></html>")
        Page of 13 characters
    """

    def __repr__(self) -> str:
        return f"Page of {len(self):,} characters"


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
_DRAW = """
for (const [id, views] of PAGE) {
  const place = document.getElementById(id);
  place.models = [];
  for (const [name, values] of views) {
    const el = document.createElement("div");
    place.append(el);
    MODULES[name].render({ model: new Model(values, place.models), el });
  }
}
"""
# A page cannot be edited and has no Python. When it opens, the cursor is at no base.
_STILL = {"editable": False, "live": False, "cursor": -1}
_LOGO_HINT = "Point at a base to read its values; drag selects; Ctrl and the wheel zoom."


def _json(value: Any) -> str:
    # In a script element, "</" would end the element and "<!--" would start a comment.
    return json.dumps(value, default=_encoded).replace("<", "\\u003c")


def _encoded(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(bytes(value)).decode("ascii")}
    raise TypeError(f"{type(value).__name__} cannot be written into a page.")


def style() -> str:
    """The style sheet of the views."""
    return static_text("style.css")


def script_of(groups: Mapping[str, Sequence[Drawn]]) -> str:
    """Text of a script of type "module" that draws views into elements, given by id. Views of a group are linked."""
    page = [[place, [[module, _still(module, values)] for module, values in views]] for place, views in groups.items()]
    lines = [f"const SHARED = {_json(SHARED)};", _STAND_IN, static_text("common.js"), "const MODULES = {};"]
    lines += [_module(name) for name in sorted({module for views in groups.values() for module, _ in views})]
    return "\n".join([*lines, f"const PAGE = {_json(page)};", _DRAW])


def _still(module: str, values: Mapping[str, Any]) -> dict[str, Any]:
    hint = {"hint": _LOGO_HINT} if module == "logo_view" and values.get("hint") else {}
    return {**DEFAULTS, **values, **_STILL, **hint}


def _module(name: str) -> str:
    body = static_text(f"{name}.js").replace("export default", "return")
    return f"MODULES[{_json(name)}] = (() => {{\n{body}\n}})();"


def page_of(title: str, views: Sequence[Drawn], head: str = "") -> Page:
    """HTML text of a page.

    Args:
        title: title of the page.
        views: linked views, drawn one below the other.
        head: HTML above the views.
    """
    return Page(
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f"<title>{html.escape(title)}</title>\n<style>\n"
        "body { margin: 1.2em; color: #222; background: #fff; font: 14px/1.4 system-ui, sans-serif; }\n"
        "#views > div { margin-bottom: 1em; }\n"
        f"{style()}\n</style>\n</head>\n<body>\n"
        f"<h1 style='font-size: 1.3em; overflow-wrap: anywhere'>{html.escape(title)}</h1>\n"
        f"{head}\n<div id='views'></div>\n"
        f"<script type='module'>\n{script_of({'views': views})}\n</script>\n</body>\n</html>\n"
    )
