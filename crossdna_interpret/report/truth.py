"""An HTML page of predicted beside measured changes, and a table of the changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.io.files import refuse_foreign, replacing
from crossdna_interpret.models.protocols import ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import shown_elsewhere
from crossdna_interpret.report.pages import facts, picture, rendered, table_beside
from crossdna_interpret.results import Mutagenesis, TruthReport
from crossdna_interpret.scoring.provenance import model_hash

__all__ = ["truth_table_path", "write_truth_page"]

_PAGE_MARK = '<meta name="generator" content="crossdna_interpret truth">'
_TABLE_MARK = "family\treference\tmutant\tchanges\tpositions\tkind\tmeasured\tpredicted"
_MOST_MOTIFS = 25  # rows of the table of motifs


def write_truth_page(
    report: TruthReport, out: str | Path, model: ModelLike = None, *, worst: int = 6
) -> tuple[Path, Path]:
    """Write a truth report as one self-contained HTML file, with a table of all changes beside it.

    The page has the main numbers, the calibration, the agreement by size, kind and motif, and the worst cases with the
    model's mutagenesis of the sequence. An earlier page of this kind is replaced.

    Args:
        report: a result of `truth_report`.
        out: the HTML file to write. The table has the same name, with `.tsv`.
        model: the model of the report.
        worst: number of worst cases.

    Returns:
        Paths of the page and the table.

    Raises:
        ValueError: `out` ends in `.tsv`, or `model` is not that of the report.
        FileExistsError: `out` or the table exists and is not of this kind.
        FileNotFoundError, PermissionError: the folder of `out` does not exist or is not writable.
    """
    out = Path(out)
    table = truth_table_path(out)
    resolved = resolve_model(model)
    if model_hash(resolved) != report.certificate.model_hash:
        raise ValueError(f"`model` {resolved.name} is not the model of the report, {report.certificate.model}.")
    groups = {
        "size of the measured change": report.by("size"),
        "size of the predicted change": report.by("predicted"),
        "kind of mutation": report.by("kind"),
    }
    if (report.table["motifs"] != "").any():
        groups["motif at the changed base"] = report.by("motif").head(_MOST_MOTIFS)
    with shown_elsewhere():
        cases = [_case(report, row, resolved) for _, row in report.worst(worst).iterrows()]
    page = rendered(
        "truth.html.jinja",
        model=resolved.name,
        target=report.target,
        measured=report.measured,
        summary=report.summary(),
        level=report.level,
        calibration=picture(lambda figure: plot.change_calibration(report, figure.add_subplot()), 5.2, 4.8),
        groups={name: _rows(group) for name, group in groups.items()},
        cases=cases,
        certificate=facts(report.certificate),
        table=table.name,
    )
    with replacing(table) as new:
        report.to_dataframe().to_csv(new, sep="\t", index=False, float_format="%.6g")
    with replacing(out) as new:
        new.write_text(page, encoding="utf-8")
    return out, table


def truth_table_path(out: Path) -> Path:
    """Path of the table of a page. Raises an error if page or table may not be written."""
    table = table_beside(out)
    refuse_foreign(out, lambda start: _PAGE_MARK in start, "an earlier truth report")
    refuse_foreign(table, lambda start: start.startswith(_TABLE_MARK), "the table of an earlier truth report")
    return table


def _rows(group: pd.DataFrame) -> dict[str, Any]:
    return {
        "columns": [str(name).replace("_", " ") for name in group.columns],
        "rows": [
            [f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
             for value in row]
            for row in group.itertuples(index=False)
        ],
    }  # fmt: skip


def _case(report: TruthReport, row: pd.Series, model: Any) -> dict[str, Any]:
    reference, mutant = report.sequences[row["reference"]], report.sequences[row["mutant"]]
    positions = [int(each) for each in row["positions"].split(",")]
    result = ism(reference, model, target=report.target)
    width = min(max(7.0, 0.085 * len(reference) + 1.5), 30.0)
    return {
        "family": row["family"],
        "edits": ", ".join(f"{reference[at]}{at}{mutant[at]}" for at in positions),
        "measured": float(row["measured"]),
        "predicted": float(row["predicted"]),
        "low": float(row["low"]),
        "high": float(row["high"]),
        "motifs": row["motifs"],
        "sequence": reference,
        "logo": picture(lambda figure: _logo(figure, result, positions), width, 2.6),
    }


def _logo(figure: Figure, result: Mutagenesis, positions: list[int]) -> None:
    ax = figure.add_subplot()
    plot.logo(result, ax)
    for at in positions:
        ax.axvspan(at - 0.5, at + 0.5, color="#E69F00", alpha=0.3, linewidth=0)
