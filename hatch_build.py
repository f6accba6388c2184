"""The build's hook: with CROSSDNA_INTERPRET_BUILD_KERNELS=1, a wheel with CPU kernels for the machine that builds it.

Without it the wheel is pure Python and runs anywhere. Kernels are then compiled on demand, into the user's cache
folder, where there is a C compiler. A wheel with kernels is for images that have none: build it where it is to run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["KernelsHook"]

NATIVE = "crossdna_interpret/models/crossdna/native"


class KernelsHook(BuildHookInterface):
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile if that is wanted, and say what there is for the wheel; a problem is a warning."""
        if os.environ.get("CROSSDNA_INTERPRET_BUILD_KERNELS", "0") in ("", "0"):
            return
        package = Path(self.root) / "crossdna_interpret"
        spec = importlib.util.spec_from_file_location("compiling", Path(self.root) / NATIVE / "compiling.py")
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
        build_data["artifacts"].append(f"{NATIVE}/built/*.so")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
