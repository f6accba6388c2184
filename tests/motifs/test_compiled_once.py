"""tangermeme's seqlets are compiled once for all processes: the compilation takes ten seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_without_a_folder_to_write_to_each_process_compiles() -> None:
    no_folder = "\nimport numba.core.caching as caching; caching.CacheImpl._locator_classes = []"
    program = PROGRAM.replace("from tangermeme import seqlet", "from tangermeme import seqlet" + no_folder)
    command = [sys.executable, "-W", "ignore", "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split()[0] == "0"  # and it ends without an error
