"""Which package may import which. An import that is not in the tables fails, wherever it is written.

A package is a folder of `crossdna_interpret`, or a module directly in it. Imports inside functions and under
``if TYPE_CHECKING`` count like those at the top.
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

TOOLS = {"_validation", "_compat", "_cache_folder", "parallel", "progress", "statistics"}  # know nothing of DNA
MODELS = TOOLS | {"dna", "models"}
SCORES = MODELS | {"results", "scoring", "stores"}  # below every analysis
ANALYSES = {"attribution", "strands", "motifs", "measured"}
LIBRARY = SCORES | ANALYSES | {"io", "plot", "session"}

# Package -> packages that it may import besides itself. `INIT` is the package's own namespace.
INIT = "__init__"
ALLOWED: dict[str, set[str]] = {
    "_validation": set(),
    "_compat": set(),
    "_cache_folder": set(),
    "parallel": set(),
    "progress": set(),
    "statistics": set(),
    "dna": {"_validation"},
    "io": {"dna"},
    "results": {"dna"},
    "stores": set(),
    "models": {"_validation", "dna", "parallel"},
    "scoring": TOOLS | {"dna", "models", "results", "stores"},
    "attribution": SCORES,
    "strands": SCORES | {"attribution"},
    "motifs": SCORES | {"attribution", "strands", "io"},
    "measured": SCORES | {"attribution", "motifs"},
    "plot": {"dna", "results"},
    "session": SCORES | {"attribution", "strands", "io"},
    "widgets": {"models", "plot", "results", "session"},
    "training": MODELS | {"attribution", "io", "measured", "motifs"},
    "report": LIBRARY | {"widgets"},
    "cli": LIBRARY | {INIT, "report", "training"},
    INIT: LIBRARY - {"plot", "session"} | {"widgets"},
}

# Packages from outside that only these may import.
OUTSIDE: dict[str, set[str]] = {
    "torch": LIBRARY - {"results", "progress", "io", "plot"} | {"training", "report", "cli"},
    "matplotlib": {"plot", "widgets", "report", "results"},  # results name Axes as a type
    "logomaker": {"plot"},
    "lightning": {"training"},
    "ipywidgets": {"widgets"},
    "anywidget": {"widgets"},
    "IPython": {"widgets"},
    "captum": set(),  # an oracle of the tests
}  # fmt: skip
# Those that may import nothing from outside but these.
FRUGAL: dict[str, set[str]] = {
    "_validation": {"numpy"},
    "_cache_folder": set(),
    "parallel": {"torch"},
    "statistics": {"numpy"},
    "stores": {"numpy"},
    "dna": {"numpy", "torch"},
}
# Modules that must not import torch though their package may.
WITHOUT_TORCH = ("dna/alphabet.py", "dna/edits.py", "dna/shuffling.py", "scoring/stability.py", "scoring/targets.py")

# Never to be loaded by ``import crossdna_interpret``: slow, optional, or tied to a notebook.
NOT_LOADED = ("matplotlib.pyplot", "lightning", "captum", "IPython", "ipywidgets", "anywidget")


@dataclass(frozen=True)
class Import:
    """One import statement, or one name of it."""

    importer: str
    imported: str
    place: str
    own: bool  # a room of the package, or something from outside


class _Walker(ast.NodeVisitor):
    def __init__(self, file: Path, root: Path, packages: set[str]) -> None:
        parts = file.relative_to(root).with_suffix("").parts
        self.package_name, self.packages, self.file = parts[0], packages, file.relative_to(root.parent).as_posix()
        self.package = [root.name, *parts[:-1]]
        self.scopes: list[ast.AST] = []
        self.found: list[Import] = []

    def _add(self, module: str, line: int) -> None:
        top, *below = module.split(".")
        own = top == self.package[0]
        target = (below[0] if below and below[0] in self.packages else INIT) if own else top
        self.found.append(Import(self.package_name, target, f"{self.file}:{line}", own))

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

    def _scope(self, node: ast.AST) -> None:
        self.scopes.append(node)
        self.generic_visit(node)
        self.scopes.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _scope  # type: ignore[assignment]


def modules(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "assets" not in path.relative_to(root).parts)


def package_of(file: Path, root: Path) -> str:
    return file.relative_to(root).with_suffix("").parts[0]


def imports(root: Path) -> Iterator[Import]:
    """Every import of the package, also those that are only for types."""
    packages = {package_of(file, root) for file in modules(root)} | set(ALLOWED)
    for file in modules(root):
        walker = _Walker(file, root, packages)
        walker.visit(ast.parse(file.read_text(encoding="utf-8")))
        yield from walker.found


def violations(root: Path) -> list[str]:
    """One line for each import that the tables do not allow, and for each package without a rule."""
    result = [
        f"{name} has no rule" for name in sorted({package_of(file, root) for file in modules(root)} - set(ALLOWED))
    ]
    for each in imports(root):
        importer, imported = each.importer, each.imported
        if importer not in ALLOWED:
            continue
        if each.own:
            allowed = imported in ALLOWED[importer] | ({importer} - {INIT})
        else:
            allowed = importer in OUTSIDE.get(imported, {importer})
            if importer in FRUGAL and imported not in sys.stdlib_module_names:
                allowed &= imported in FRUGAL[importer]
        if not allowed:
            result.append(f"{each.place}: {importer} -> {imported}")
    return result


# The package


def test_every_import_is_allowed() -> None:
    assert violations(ROOT) == []


def test_the_walk_sees_the_package() -> None:
    seen = {(each.importer, each.imported) for each in imports(ROOT)}
    assert {("io", "dna"), ("models", "dna"), ("scoring", "models"), (INIT, "attribution"), ("plot", "results")} <= seen
    assert ("session", "progress") in seen
    assert {"dna", "models", "results", "scoring", "strands"} <= {package_of(file, ROOT) for file in modules(ROOT)}


def test_no_package_may_import_what_imports_it() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        free = {name for name, below in ALLOWED.items() if name not in done and below <= done}
        assert free, f"a circle among {sorted(set(ALLOWED) - done)}"
        done |= free


def module_graph(root: Path) -> dict[str, set[str]]:
    """For each module of a package, by its dotted name, those that it imports."""
    names = {}
    for file in modules(root):
        names[".".join([root.name, *file.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")] = file
    graph: dict[str, set[str]] = {name: set() for name in names}
    for name, file in names.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[name] |= {each.name for each in node.names} & set(names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for each in node.names:
                    full = f"{node.module}.{each.name}"
                    graph[name] |= {full if full in names else node.module} & set(names)
        graph[name].discard(name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules in import cycles: those that remain when all others are removed."""
    rest = {name: set(imported) for name, imported in graph.items()}
    while True:
        ends = {name for name, imported in rest.items() if not imported & set(rest)}
        ends |= {name for name in rest if not any(name in imported for imported in rest.values())}
        if not ends:
            return sorted(rest)
        rest = {name: imported - ends for name, imported in rest.items() if name not in ends}


def test_no_module_imports_itself_over_others() -> None:
    assert circles(module_graph(ROOT)) == []


def test_a_circle_of_modules_is_found(tmp_path: Path) -> None:
    files = {
        "a.py": f"from {NAME} import b\n",
        "b.py": f"def f():\n    from {NAME}.c import x\n",
        "c.py": f"if TYPE_CHECKING:\n    from {NAME}.a import y\n",
        "d.py": f"from {NAME}.a import y\n",
    }
    assert circles(module_graph(tree(tmp_path, files))) == [f"{NAME}.a", f"{NAME}.b", f"{NAME}.c"]


def test_no_family_of_models_is_imported_by_what_serves_all() -> None:
    """Only a family's own folder, and training, which is CrossDNA's, import it."""
    graph = module_graph(ROOT)
    families = sorted(file.parent.name for file in (ROOT / "models").glob("*/family.py"))
    assert "crossdna" in families
    for family in families:
        prefix = f"{NAME}.models.{family}"
        importers = {name for name, result in graph.items() if any(each.startswith(prefix) for each in result)}
        outside = {name for name in importers if not name.startswith((prefix, f"{NAME}.training."))}
        assert outside == set(), family


def test_some_modules_do_without_torch() -> None:
    for file in WITHOUT_TORCH:
        assert "import torch" not in (ROOT / file).read_text(encoding="utf-8"), file


def test_only_the_command_line_imports_the_outermost_packages() -> None:
    for name, below in ALLOWED.items():
        outermost = {"report", "training", "widgets", "cli"} - ({"widgets"} if name in ("report", INIT) else set())
        assert name == "cli" or not below & outermost, name


def test_the_report_draws_what_widgets_draw_without_loading_any() -> None:
    assert loaded_by(f"import {NAME}.report", ("anywidget", "ipywidgets", "IPython", "traitlets")) == []


def loaded_by(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in {names!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_slow_or_optional() -> None:
    late = tuple(f"{NAME}.{each}" for each in ("plot", "report", "cli", "training", "widgets"))
    assert loaded_by(f"import {NAME}", (*NOT_LOADED, *late, f"{NAME}.dna")) == [f"{NAME}.dna"]


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
    """Functions and classes that a module exports without a docstring."""
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
    *((name, f"from {NAME} import {below}", below) for name in ("dna/alphabet", "models/hooks", "progress", "io/fasta")
      for below in sorted(LIBRARY - {name.split("/")[0]} - ALLOWED[name.split("/")[0]])),
    *((name, f"from {NAME}.{below} import x", below) for name in sorted(ALLOWED) if name not in ("cli", INIT)
      for below in ("report", "training", "widgets", "cli") if below not in ALLOWED[name] | {name}),
    ("dna/strand", f"import {NAME}.models.hooks", "models"),
    ("dna/strand", f"import {NAME}.models.registry as s", "models"),
    ("results", f"from {NAME} import models", "models"),
    ("results", f"from {NAME} import plot", "plot"),
    ("results", f"def plot(r):\n    from {NAME} import plot", "plot"),
    ("results", METHOD.format(name="plot"), "plot"),
    ("results", f"class R:\n    def plot(self):\n        from {NAME} import scoring", "scoring"),
    ("results", f"if TYPE_CHECKING:\n    from {NAME} import plot", "plot"),
    ("scoring", METHOD.format(name="plot"), "plot"),
    ("plot", f"from {NAME}.scoring import predict", "scoring"),
    ("plot", f"from {NAME}.models.registry import load_model", "models"),
    ("io/fasta", f"from {NAME}.models import x", "models"),
    ("models/crossdna/model", f"from {NAME}.results import Certificate", "results"),
    ("models/registry", f"def f():\n    from {NAME}.scoring import predict", "scoring"),
    ("scoring", f"from {NAME}.attribution.mutagenesis import ism", "attribution"),
    ("attribution/gradients", f"from {NAME} import plot", "plot"),
    ("attribution/gradients", f"from {NAME}.strands import x", "strands"),
    ("training/data", f"from {NAME} import scoring", "scoring"),
    ("training/data", f"from {NAME}.results import x", "results"),
    # However it is written
    ("dna/alphabet", f"from {NAME} import ism", INIT),
    ("dna/alphabet", f"import {NAME} as cdi", INIT),
    ("scoring", f"from {NAME} import predict", INIT),
    ("statistics", "from . import models", "models"),
    ("statistics", "from .models import hooks", "models"),
    ("models/crossdna/model", "from ...results import x", "results"),
    ("dna/alphabet", "async def f():\n    import crossdna_interpret.models.hooks", "models"),
    ("dna/alphabet", "class A:\n    import crossdna_interpret.models.hooks", "models"),
    ("dna/alphabet", "try:\n    import crossdna_interpret.models.hooks\nexcept ImportError:\n    pass", "models"),
    ("dna/alphabet", "if True:\n    import crossdna_interpret.models.hooks", "models"),
    ("dna/alphabet", "if TYPE_CHECKING:\n    pass\nelse:\n    import crossdna_interpret.models.hooks", "models"),
    ("dna/alphabet", "if TYPE_CHECKING:\n    import crossdna_interpret.models.hooks", "models"),
    ("dna/alphabet", f"importlib.import_module('{NAME}.models')", "models"),
    ("dna/alphabet", f"f = lambda: __import__('{NAME}.models')", "models"),
    ("dna/alphabet", f"import json, {NAME}.models", "models"),
    # From outside
    ("statistics", "import torch", "torch"),
    ("dna/alphabet", "from pandas import DataFrame", "pandas"),
    ("dna/strand", "import scipy.linalg", "scipy"),
    ("results", "def f():\n    import torch.nn", "torch"),
    ("plot", "from torch import Tensor", "torch"),
    ("scoring", "def f():\n    import matplotlib.pyplot as plt", "matplotlib"),
    ("models/crossdna/model", "import lightning", "lightning"),
    ("attribution/gradients", "from captum.attr import IntegratedGradients", "captum"),
    ("report", "import ipywidgets", "ipywidgets"),
    ("__init__", "from IPython.display import display", "IPython"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "source", "imported"), BAD)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, source: str, imported: str) -> None:
    result = violations(tree(tmp_path, {f"{module}.py": source}))
    assert len(result) == 1, result
    assert result[0].startswith(f"{NAME}/{module}.py:")
    assert result[0].endswith(f": {module.split('/')[0]} -> {imported}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("results", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from matplotlib.axes import Axes\n"),
        ("dna/alphabet", "import json\nimport numpy as np\n"),
        ("models/registry", f"from {NAME}.models.crossdna.model import CrossDNA\nfrom {NAME}.dna import strand\n"),
        ("models/crossdna/model", "from .comba import Comba\nfrom ..registry import load_model\n"),
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
def test_a_right_import_is_let_through(tmp_path: Path, module: str, source: str) -> None:
    assert violations(tree(tmp_path, {f"{module}.py": source})) == []


def test_a_package_without_a_rule_is_found(tmp_path: Path) -> None:
    assert violations(tree(tmp_path, {"helpers.py": "", "utils/strings.py": ""})) == [
        "helpers has no rule",
        "utils has no rule",
    ]


def test_a_package_that_lacks_the_outer_ones_is_fine(tmp_path: Path) -> None:
    files = {"dna/alphabet.py": "", "io/fasta.py": f"from {NAME}.dna import alphabet"}
    assert violations(tree(tmp_path, files)) == []
