"""The build's hook: leaves CPU kernels for the models at hand in the package where there is a C compiler.

Without one the package is as good, only slower until it finds a compiler: kernels are compiled on demand too. A built
kernel's name tells the processor it is for; on another one it is not used.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["KernelsHook"]


class KernelsHook(BuildHookInterface):
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the build what there is; a problem is a warning."""
        package = Path(self.root) / "crossdna_interpret"
        spec = importlib.util.spec_from_file_location("compiling", package / "models/crossdna/compiling.py")
        assert spec is not None
        assert spec.loader is not None
        compiling = sys.modules["compiling"] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
        spec.loader.exec_module(compiling)
        wanted = {compiling.RELEASED}
        for path in sorted((package / "assets/models").glob("*/config.json")):
            wanted.add(compiling.Sizes.of(json.loads(path.read_text())["config"]))
        shutil.rmtree(compiling.BUILT, ignore_errors=True)  # those of an earlier source
        try:
            for sizes in wanted:
                compiling.built(sizes)
        except (compiling.CompileError, OSError) as problem:
            self.app.display_warning(f"No CPU kernels are built: {problem}")
            return
        build_data["artifacts"].append("crossdna_interpret/models/crossdna/built/*.so")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
