"""Who may import whom. The tables below are the plan; an arrow that is not in them fails, wherever it is written.

A room is a module of the package or one of its folders. Imports inside functions count like those at the top; imports
under ``if TYPE_CHECKING`` do not, since they never run.
"""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import crossdna_interpret

NAME = "crossdna_interpret"
ROOT = Path(crossdna_interpret.__file__).parent

COMPUTE = {
    "alphabet",
    "edits",
    "strand",
    "hooks",
    "results",
    "progress",
    "averaging",
    "scoring",
    "engine",
    "arguments",
    "shuffling",
    "libraries",
    "training_range",
    "evaluation",
    "fingerprint",
    "parallel",
    "stability",
}  # below every question asked of a model
LIBRARY = COMPUTE | {
    "models",
    "attribution",
    "exchange",
    "motifs",
    "measured",
    "wrapping",
    "variants",
    "fasta",
    "loci",
    "plot",
    "session",
    "outputs",
}

# Room -> rooms that it may import besides itself. `INIT` is the package's own namespace.
INIT = "__init__"
ALLOWED: dict[str, set[str]] = {
    "alphabet": set(),
    "strand": {"alphabet"},
    "hooks": set(),
    "edits": {"alphabet"},
    "results": {"alphabet", "edits"},
    "progress": set(),
    "keep": set(),
    "statistics": set(),
    "arguments": set(),
    "caching": set(),
    "libraries": set(),
    "outputs": set(),
    "training_range": {"alphabet", "arguments"},
    "evaluation": set(),
    "fingerprint": {"hooks"},
    "parallel": set(),
    "stability": {"arguments"},
    "shuffling": {"alphabet", "arguments", "strand"},
    "loci": set(),
    "fasta": {"alphabet"},
    "models": {"alphabet", "strand", "hooks", "parallel", "training_range"},
    "averaging": {"strand"},
    "scoring": {
        "alphabet",
        "arguments",
        "averaging",
        "evaluation",
        "fingerprint",
        "hooks",
        "models",
        "parallel",
        "progress",
        "results",
        "stability",
        "strand",
        "training_range",
    },
    "engine": {
        "alphabet",
        "averaging",
        "edits",
        "fingerprint",
        "hooks",
        "keep",
        "parallel",
        "progress",
        "results",
        "scoring",
        "training_range",
    },
    "wrapping": {"alphabet", "arguments", "scoring", "statistics", "training_range"},
    "attribution": COMPUTE,
    "exchange": COMPUTE | {"attribution", "statistics"},
    "motifs": COMPUTE | {"attribution", "exchange", "caching", "loci", "shuffling"},
    "measured": COMPUTE | {"statistics"},
    "variants": COMPUTE | {"fasta"},
    "plot": {"alphabet", "results"},
    "session": COMPUTE | {"attribution", "exchange", "loci"},
    "widgets": {"plot", "results", "session"},
    "training": {
        "alphabet",
        "evaluation",
        "hooks",
        "measured",
        "models",
        "motifs",
        "statistics",
        "strand",
        "training_range",
    },
    "report": LIBRARY | {INIT, "widgets"},
    "cli": LIBRARY | {INIT, "report", "training", "widgets"},
    INIT: LIBRARY,
}

# What a result draws itself with. The one arrow that points back, so it may only be followed when a plot is asked for.
INSIDE_PLOT_METHODS = {("results", "plot")}
# The public API opens widgets, but importing the package must not load them.
INSIDE_FUNCTIONS = {(INIT, "widgets")}

# Packages from outside that only these rooms may import.
OUTSIDE: dict[str, set[str]] = {
    "torch": LIBRARY - {"alphabet", "results", "progress", "fasta", "loci", "plot"} | {"training", "report", "cli"},
    "matplotlib": {"plot", "widgets", "report"},
    "logomaker": {"plot"},
    "lightning": {"training"},
    "ipywidgets": {"widgets"},
    "anywidget": {"widgets"},
    "IPython": {"widgets"},
    "captum": set(),  # an oracle of the tests
}  # fmt: skip
# Rooms that may import nothing from outside but these.
FRUGAL: dict[str, set[str]] = {
    "alphabet": {"numpy"},
    "edits": {"numpy"},
    "keep": {"numpy"},
    "shuffling": {"numpy"},
    "stability": {"numpy"},
    "parallel": {"torch"},
    "evaluation": {"torch"},
    "statistics": {"numpy"},
    "arguments": {"numpy"},
    "caching": set(),
    "hooks": {"torch"},
    "strand": {"numpy", "torch"},
}

# Never to be loaded by ``import crossdna_interpret``: slow, optional, or tied to a notebook.
NOT_LOADED = ("matplotlib.pyplot", "lightning", "captum", "IPython", "ipywidgets", "anywidget")


@dataclass(frozen=True)
class Import:
    """One import statement, or one name of it."""

    importer: str
    imported: str
    place: str
    own: bool  # a room of the package, or something from outside
    in_function: bool
    in_plot_method: bool


class _Walker(ast.NodeVisitor):
    def __init__(self, file: Path, root: Path, rooms: set[str]) -> None:
        parts = file.relative_to(root).with_suffix("").parts
        self.room, self.rooms, self.file = parts[0], rooms, file.relative_to(root.parent).as_posix()
        self.package = [root.name, *parts[:-1]]
        self.scopes: list[ast.AST] = []
        self.found: list[Import] = []

    def _add(self, module: str, line: int) -> None:
        top, *below = module.split(".")
        own = top == self.package[0]
        target = (below[0] if below and below[0] in self.rooms else INIT) if own else top
        in_function = any(not isinstance(scope, ast.ClassDef) for scope in self.scopes)
        in_plot = [type(scope) for scope in self.scopes] == [ast.ClassDef, ast.FunctionDef]
        in_plot = in_plot and self.scopes[1].name == "plot"  # type: ignore[attr-defined]
        self.found.append(Import(self.room, target, f"{self.file}:{line}", own, in_function, in_plot))

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self._add(name.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        for name in node.names:  # `from package import room` names a room only in its last part
            self._add(f"{module}.{name.name}", node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            self._add(str(node.args[0].value), node.lineno)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if getattr(node.test, "attr", getattr(node.test, "id", "")) == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def _scope(self, node: ast.AST) -> None:
        self.scopes.append(node)
        self.generic_visit(node)
        self.scopes.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _scope  # type: ignore[assignment]


def modules(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "assets" not in path.relative_to(root).parts)


def room_of(file: Path, root: Path) -> str:
    return file.relative_to(root).with_suffix("").parts[0]


def imports(root: Path) -> Iterator[Import]:
    """Every import of the package that runs, or could."""
    rooms = {room_of(file, root) for file in modules(root)} | set(ALLOWED)
    for file in modules(root):
        walker = _Walker(file, root, rooms)
        walker.visit(ast.parse(file.read_text(encoding="utf-8")))
        yield from walker.found


def violations(root: Path) -> list[str]:
    """One line for each arrow that the tables do not allow, and for each room without a rule."""
    found = [f"{room} has no rule" for room in sorted({room_of(file, root) for file in modules(root)} - set(ALLOWED))]
    for arrow in imports(root):
        importer, imported = arrow.importer, arrow.imported
        if importer not in ALLOWED:
            continue
        if arrow.own:
            allowed = imported in ALLOWED[importer] | ({importer} - {INIT})
            allowed |= (importer, imported) in INSIDE_PLOT_METHODS and arrow.in_plot_method
            allowed |= (importer, imported) in INSIDE_FUNCTIONS and arrow.in_function
        else:
            allowed = importer in OUTSIDE.get(imported, {importer})
            if importer in FRUGAL and imported not in sys.stdlib_module_names:
                allowed &= imported in FRUGAL[importer]
        if not allowed:
            found.append(f"{arrow.place}: {importer} -> {imported}")
    return found


# The package


def test_every_arrow_is_in_the_plan() -> None:
    assert violations(ROOT) == []


def test_the_walk_sees_the_package() -> None:
    arrows = {(arrow.importer, arrow.imported) for arrow in imports(ROOT)}
    assert {("strand", "alphabet"), ("models", "hooks"), ("scoring", "models"), (INIT, "attribution")} <= arrows
    assert ("results", "plot") in arrows  # written inside a function
    assert {"alphabet", "strand", "hooks", "models", "results", "scoring"} <= {room_of(f, ROOT) for f in modules(ROOT)}


def test_plan_has_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        free = {room for room, below in ALLOWED.items() if room not in done and below <= done}
        assert free, f"a circle among {sorted(set(ALLOWED) - done)}"
        done |= free


def test_only_the_command_line_imports_the_outermost_rooms() -> None:
    for room, below in ALLOWED.items():
        outermost = {"report", "training", "widgets", "cli"} - ({"widgets"} if room == "report" else set())
        assert room == "cli" or not below & outermost, room


def test_the_report_draws_what_widgets_draw_without_loading_any() -> None:
    assert loaded_by(f"import {NAME}.report", ("anywidget", "ipywidgets", "IPython", "traitlets")) == []


def loaded_by(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in {names!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_slow_or_optional() -> None:
    rooms = tuple(f"{NAME}.{room}" for room in ("plot", "report", "cli", "training", "widgets"))
    assert loaded_by(f"import {NAME}", (*NOT_LOADED, *rooms, f"{NAME}.alphabet")) == [f"{NAME}.alphabet"]


def test_loaded_modules_are_seen() -> None:
    assert loaded_by("import colorsys", ("colorsys", "lightning")) == ["colorsys"]


def test_public_names_are_sorted_and_there() -> None:
    names = crossdna_interpret.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(crossdna_interpret, name)] == []


def own_docstring(thing: object) -> str:
    """A docstring of its own: not inherited, and not the signature that `dataclass` writes where there is none."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    return "" if not text or text.startswith(f"{getattr(thing, '__name__', '')}(") else text


@pytest.mark.parametrize("name", crossdna_interpret.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert own_docstring(getattr(crossdna_interpret, name)).strip()


@pytest.mark.parametrize("name", crossdna_interpret.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in own_docstring(getattr(crossdna_interpret, name))


def test_a_missing_docstring_is_seen() -> None:
    @dataclass
    class Generated:
        x: int

    class Inherited(ValueError):
        pass

    class Own:
        """Text."""

    assert [own_docstring(thing) for thing in (Generated, Inherited, Own)] == ["", "", "Text."]


def without_docstring(source: str) -> list[str]:
    """Functions and classes that a module exports and does not explain."""
    tree = ast.parse(source)
    exported: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            exported = set(ast.literal_eval(node.value))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = [node for node in tree.body if isinstance(node, kinds) and node.name in exported]
    # Overloads of one name are explained by the last.
    explained = {node.name for node in defined if ast.get_docstring(node)}
    return sorted({node.name for node in defined} - explained)


def test_every_name_that_a_module_exports_has_a_docstring() -> None:
    missing = {
        str(file.relative_to(ROOT)): without_docstring(file.read_text(encoding="utf-8")) for file in modules(ROOT)
    }
    assert {file: names for file, names in missing.items() if names} == {}


def test_a_missing_docstring_of_a_module_is_seen() -> None:
    source = '__all__ = ["a", "B", "c"]\ndef a(): ...\nclass B: ...\ndef c():\n    """Text."""\ndef d(): ...\n'
    assert without_docstring(source) == ["B", "a"]


# The rules themselves: each has a way to fail


def tree(root: Path, files: dict[str, str]) -> Path:
    """A made-up package."""
    for name, source in {"__init__.py": "", **files}.items():
        path = root / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root / NAME


METHOD = "class R:\n    def {name}(self):\n        from crossdna_interpret import plot\n"

BAD = [
    *((room, f"from {NAME} import {below}", below) for room in ("alphabet", "hooks", "progress", "loci")
      for below in sorted(LIBRARY - {room})),
    *((room, f"from {NAME}.{below} import x", below) for room in sorted(ALLOWED) if room != "cli"
      for below in ("report", "training", "widgets", "cli") if below not in ALLOWED[room] | {room}),
    ("strand", f"import {NAME}.hooks", "hooks"),
    ("strand", f"import {NAME}.models.store as s", "models"),
    ("results", f"from {NAME} import strand", "strand"),
    ("results", f"from {NAME} import plot", "plot"),
    ("results", f"def plot(r):\n    from {NAME} import plot", "plot"),
    ("results", METHOD.format(name="draw"), "plot"),
    ("results", f"class R:\n    def plot(self):\n        from {NAME} import scoring", "scoring"),
    ("scoring", METHOD.format(name="plot"), "plot"),
    ("plot", f"from {NAME}.scoring import predict", "scoring"),
    ("plot", f"from {NAME}.models.store import load_model", "models"),
    ("fasta", f"from {NAME} import strand", "strand"),
    ("models/crossdna/model", f"from {NAME}.results import Certificate", "results"),
    ("models/store", f"def f():\n    from {NAME}.scoring import predict", "scoring"),
    ("scoring", f"from {NAME}.attribution.mutagenesis import ism", "attribution"),
    ("attribution/gradients", f"from {NAME}.models.store import load_model", "models"),
    ("attribution/gradients", f"from {NAME} import plot", "plot"),
    ("attribution/gradients", f"from {NAME}.exchange import x", "exchange"),
    ("training/data", f"from {NAME} import scoring", "scoring"),
    ("training/data", f"from {NAME}.results import x", "results"),
    # However it is written
    ("alphabet", f"from {NAME} import ism", INIT),
    ("alphabet", f"import {NAME} as cdi", INIT),
    ("scoring", f"from {NAME} import predict", INIT),
    ("alphabet", "from . import strand", "strand"),
    ("alphabet", "from .strand import flip", "strand"),
    ("models/crossdna/model", "from ...results import x", "results"),
    ("alphabet", "async def f():\n    import crossdna_interpret.strand", "strand"),
    ("alphabet", "class A:\n    import crossdna_interpret.strand", "strand"),
    ("alphabet", "try:\n    import crossdna_interpret.strand\nexcept ImportError:\n    pass", "strand"),
    ("alphabet", "if True:\n    import crossdna_interpret.strand", "strand"),
    ("alphabet", "if TYPE_CHECKING:\n    pass\nelse:\n    import crossdna_interpret.strand", "strand"),
    ("alphabet", f"importlib.import_module('{NAME}.strand')", "strand"),
    ("alphabet", f"f = lambda: __import__('{NAME}.strand')", "strand"),
    ("alphabet", f"import json, {NAME}.strand", "strand"),
    # From outside
    ("alphabet", "import torch", "torch"),
    ("alphabet", "from pandas import DataFrame", "pandas"),
    ("hooks", "import numpy as np", "numpy"),
    ("strand", "import scipy.linalg", "scipy"),
    ("results", "def f():\n    import torch.nn", "torch"),
    ("results", "from matplotlib.axes import Axes", "matplotlib"),
    ("plot", "from torch import Tensor", "torch"),
    ("scoring", "def f():\n    import matplotlib.pyplot as plt", "matplotlib"),
    ("models/crossdna/model", "import lightning", "lightning"),
    ("attribution/gradients", "from captum.attr import IntegratedGradients", "captum"),
    ("report", "import ipywidgets", "ipywidgets"),
    ("__init__", "from IPython.display import display", "IPython"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "source", "imported"), BAD)
def test_a_wrong_arrow_is_found(tmp_path: Path, module: str, source: str, imported: str) -> None:
    found = violations(tree(tmp_path, {f"{module}.py": source}))
    assert len(found) == 1, found
    assert found[0].startswith(f"{NAME}/{module}.py:")
    assert found[0].endswith(f": {module.split('/')[0]} -> {imported}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("results", METHOD.format(name="plot")),
        ("results", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from matplotlib.axes import Axes\n"),
        ("alphabet", f"import typing\nif typing.TYPE_CHECKING:\n    from {NAME} import scoring\n"),
        ("alphabet", "import json\nimport numpy as np\n"),
        (
            "models/store",
            f"from {NAME}.models.crossdna.model import CrossDNA\nfrom {NAME} import alphabet, hooks, strand\n",
        ),
        ("models/crossdna/model", "from .comba import Comba\nfrom ..store import load_model\n"),
        (
            "widgets/session",
            f"from {NAME}.widgets import session\nfrom {NAME} import plot, results\nimport anywidget\n",
        ),
        ("training/fit", f"import lightning\nfrom {NAME}.training.data import x\n"),
        ("cli", f"from {NAME} import report, __version__\ndef f():\n    from {NAME}.training.fit import main\n"),
        ("report", f"from {NAME} import plot\nfrom {NAME}.attribution.gradients import integrated_gradients\n"),
        ("__init__", f"from {NAME}.scoring import predict\n"),
        ("__init__", f"def __getattr__(name):\n    from {NAME}.widgets import explore\n"),
    ],
)
def test_a_right_arrow_is_let_through(tmp_path: Path, module: str, source: str) -> None:
    assert violations(tree(tmp_path, {f"{module}.py": source})) == []


def test_widgets_are_not_loaded_by_the_public_namespace(tmp_path: Path) -> None:
    assert violations(tree(tmp_path, {"__init__.py": f"from {NAME}.widgets import explore"})) == [
        f"{NAME}/__init__.py:1: {INIT} -> widgets"
    ]


def test_a_room_without_a_rule_is_found(tmp_path: Path) -> None:
    assert violations(tree(tmp_path, {"helpers.py": "", "utils/strings.py": ""})) == [
        "helpers has no rule",
        "utils has no rule",
    ]


def test_a_package_that_lacks_the_outer_rooms_is_fine(tmp_path: Path) -> None:
    assert violations(tree(tmp_path, {"alphabet.py": "", "strand.py": f"from {NAME} import alphabet"})) == []
