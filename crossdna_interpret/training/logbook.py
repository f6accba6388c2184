"""A table of metrics that continues across restarts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["Logbook"]


class Logbook(Logger):
    """A Lightning logger that writes one CSV file: one row for each step, one column for each metric.

    Lightning's own logger deletes earlier rows when a run continues.

    Args:
        path: path of the file. Existing rows are kept until `go_on` sets where the run begins.
    """

    name = None
    version = None

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]

    def go_on(self, step: int) -> None:
        """Drop the rows from a step on, as they will be measured again."""
        self.rows = [row for row in self.rows if int(row["step"]) < step]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append({**metrics, "step": step})

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `settings` stores the settings of the run."""

    @rank_zero_only
    def save(self) -> None:
        """Write the table. The file is never incomplete: it is the old table or the new one."""
        columns = sorted({key for row in self.rows for key in row})
        new = self.path.with_suffix(".part")
        with new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        new.replace(self.path)
