"""Time of common analyses on an idle machine and beside busy processes, also for another revision.

    python tests/benchmarks/contended.py
    git worktree add ../before REVISION && python tests/benchmarks/contended.py --baseline ../before

Times are medians over rounds in which all are measured in turn, each time in a new process. The busy processes are as
many as there are cores. Nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


def analyses() -> dict[str, Callable[[], object]]:
    """What is timed, on the bundled model and an example of 164 bases."""
    import crossdna_interpret as cdi

    model, sequence = cdi.load_model(), cdi.example().sequence
    return {
        "predict, 1 sequence": lambda: cdi.predict(sequence, model),
        "predict, 200 sequences": lambda: cdi.predict([sequence] * 200, model),
        "ism": lambda: cdi.ism(sequence, model),
        "strand_exchange": lambda: cdi.strand_exchange(sequence, model),
        "integrated_gradients": lambda: cdi.integrated_gradients(sequence, model),
    }


def measure() -> dict[str, float]:
    """Seconds of each analysis: the best of some calls after the first, or the first of a long one."""
    warnings.simplefilter("ignore")
    best = {}
    for name, analysis in analyses().items():
        times: list[float] = []
        while not times or (sum(times) < 2 and len(times) < 8):
            started = time.perf_counter()
            analysis()
            times.append(time.perf_counter() - started)
        best[name] = min(times[1:], default=times[0])
    return best


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(1)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measured(checkout: Path) -> dict[str, float]:
    """`measure` in a new process, of the package in a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    times: dict[str, float] = json.loads(result.stdout)
    return times


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="another checkout of the package")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is measured (default: 3)")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure()))
        return
    cores = os.cpu_count() or 1
    revisions = {"now": HERE} | ({"baseline": options.baseline.resolve()} if options.baseline else {})
    times: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds):
        for load in ("idle", "contended"):
            for revision, checkout in revisions.items():
                with busy(cores if load == "contended" else 0):
                    for name, seconds in measured(checkout).items():
                        times.setdefault(name, {}).setdefault(f"{revision}, {load}", []).append(seconds)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    columns = [f"{revision}, {load}" for revision in revisions for load in ("idle", "contended")]
    print(f"{platform.processor() or platform.machine()}, {cores} cores, medians of {options.rounds} rounds, seconds")
    print(f"{'':24}" + "".join(f"{column:>22}" for column in columns) + f"{'contended / idle':>20}")
    for name, of_name in times.items():
        medians = {column: statistics.median(of_name[column]) for column in columns}
        ratio = medians["now, contended"] / medians["now, idle"]
        print(f"{name:24}" + "".join(f"{medians[column]:22.3f}" for column in columns) + f"{ratio:20.1f}")
    if options.json:
        options.json.write_text(json.dumps(times, indent=1) + "\n")


if __name__ == "__main__":
    main()
