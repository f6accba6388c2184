"""tangermeme's seqlets are compiled once for all processes: the compilation takes ten seconds."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from crossdna_interpret._compat import keep_compiled

PROGRAM = """
from tangermeme import seqlet
import crossdna_interpret as cdi

cdi.find_seqlets(cdi.ism("ACGTTGCAAC" * 4))
statistics = [each.stats for each in vars(seqlet).values() if hasattr(each, "stats")]
for counts in ([each.cache_hits for each in statistics], [each.cache_misses for each in statistics]):
    print(sum(sum(each.values()) for each in counts))
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    def hits_and_misses() -> list[int]:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        return [int(each) for each in output.split()]

    hits, misses = hits_and_misses()
    assert hits == 0
    assert misses > 0
    hits, misses = hits_and_misses()
    assert hits > 0
    assert misses == 0


def test_without_a_folder_to_write_to_each_process_compiles() -> None:
    """numba has no place for its files then, and says so by an error."""

    class Function:
        def enable_caching(self) -> None:
            raise RuntimeError("cannot cache function: no locator available")

    module = types.ModuleType("compiled")
    module.function = Function()  # type: ignore[attr-defined]
    keep_compiled(module)
