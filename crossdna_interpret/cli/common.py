"""What all commands share: lines on the terminal, and how much is finished."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Done", "chosen_target", "complain", "say"]


@dataclass
class Done:
    """Progress of a command."""

    count: int = 0
    total: int = 0
    where: str = ""

    def __str__(self) -> str:
        return f" ({self.count} of {self.total} sequences are finished: {self.where})" if self.count else ""


def chosen_target(targets: Sequence[str], target: str | None) -> str:
    """The target of --target, or the first of several with a note on stderr."""
    if target is None and len(targets) > 1:
        complain(f"target {targets[0]}; there are {', '.join(targets)}, chosen by --target")
    return targets[0] if target is None else target


def complain(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"crossdna-interpret: {' '.join(message.split())}\n")


def say(text: str) -> None:
    """Write to stdout at once."""
    encoding = sys.stdout.encoding or "utf-8"  # it may lack characters of a name
    sys.stdout.write(f"{text}\n".encode(encoding, errors="backslashreplace").decode(encoding))
    sys.stdout.flush()  # the next step, such as JupyterLab, may run for hours
