"""One self-contained HTML page that explains sequences, and a table with the same numbers beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.attribution.gradients import integrated_gradients
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.exchange.maps import has_exchange, strand_exchange
from crossdna_interpret.loci import ExampleLocus
from crossdna_interpret.results import Attribution, Certificate, Mutagenesis, StrandExchange
from crossdna_interpret.scoring import ModelLike, predict, resolve_model, resolve_target
from crossdna_interpret.strand import reverse_complement
from crossdna_interpret.widgets import drawn, page

__all__ = ["write_report"]

_Result = TypeVar("_Result", Attribution, Mutagenesis)
_BASELINES = {"shuffle": "dinucleotide-shuffled sequences"}


def write_report(
    sequences: Mapping[str, str],
    out: str | Path,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    loci: Mapping[str, ExampleLocus] | None = None,
) -> tuple[Path, Path]:
    """Explain sequences in one HTML file that needs nothing else, not even a network.

    Args:
        sequences: from name to sequence; names may hold any characters.
        out: the HTML file to write; the table goes beside it with the ending `.tsv`.
        model: a model, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target; may be left out when there is one.
        loci: what is known of some of the sequences, by name; shown with them.

    Returns:
        Paths of the page and of the table, which has a row for each substitution: name, position (0-based), ref, alt,
        target, prediction, delta, and of the position attribution_forward and attribution_reverse.

    Raises:
        ValueError, TypeError: no sequence, a bad one, or an unknown model or target. Nothing is written then.
        FileNotFoundError: the folder of `out` does not exist.
    """
    out = Path(out)
    if not sequences:
        raise ValueError("`sequences` must hold at least one sequence, but it is empty.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"`out` {out} is in a folder that does not exist.")
    table_path = out.with_suffix(".tsv")
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sections, tables = [], []
    for name, sequence in sequences.items():
        attribution = integrated_gradients(sequence, resolved, target=index)
        mutagenesis = ism(sequence, resolved, target=index)
        turned = float(predict(reverse_complement(attribution.sequence), resolved)[0, index])
        exchange = strand_exchange(sequence, resolved, target=index) if has_exchange(resolved) else None
        sections.append(_section(name, attribution, mutagenesis, exchange, turned, (loci or {}).get(name)))
        tables.append(_table(name, attribution, mutagenesis))
    template = resources.files("crossdna_interpret").joinpath("assets/report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = environment.from_string(template).render(
        title="CrossDNA report" if len(sections) > 1 else f"CrossDNA report: {sections[0]['name']}",
        model=resolved.name,
        target=resolved.targets[index],
        table_name=table_path.name,
        sections=sections,
        style=Markup(page.style()),
        script=Markup(page.script_of({f"v{at}": section["views"] for at, section in enumerate(sections, start=1)})),
    )
    pd.concat(tables).to_csv(table_path, sep="\t", index=False, float_format="%.7g")
    out.write_text(text, encoding="utf-8")
    return out, table_path


def _section(
    name: str,
    attribution: Attribution,
    mutagenesis: Mutagenesis,
    exchange: StrandExchange | None,
    turned: float,
    locus: ExampleLocus | None,
) -> dict[str, Any]:
    views = [("logo_view", drawn.logo_view(attribution)), ("mutagenesis_map", drawn.mutagenesis_map(mutagenesis))]
    if exchange is not None:
        views.append(("exchange_map", drawn.exchange_map(exchange)))
    substitutions = mutagenesis.to_dataframe().query("target == @mutagenesis.target")
    strongest = substitutions.sort_values("delta", key=abs, ascending=False, kind="stable").head(10)
    width = min(max(7.0, 0.085 * len(attribution.sequence) + 1.5), 60.0)
    return {
        "name": name,
        "description": locus and f"{locus.description} {locus.chrom}:{locus.start}-{locus.end}. {locus.citation}",
        "measured": None if locus is None else locus.measured,
        "sequence": attribution.sequence,
        "prediction": attribution.prediction,
        "prediction_reverse": turned,
        "change": attribution.prediction - attribution.baseline_prediction,
        "completeness_error": attribution.completeness_error,
        "baseline": _BASELINES.get(attribution.baseline, attribution.baseline),
        "pixels": int(96 * width),
        "views": views,
        "exchange": None if exchange is None else exchange.effects,
        "logo": _picture(_draw_strands, attribution, width, 3.4),
        "map": _picture(_draw_substitutions, mutagenesis, width, 3.9),
        "strongest": strongest.to_dict("records"),
        "certificate": _facts(attribution.certificate) + _facts(mutagenesis.certificate)[:1],
    }


def _facts(certificate: Certificate) -> list[tuple[str, str]]:
    facts = []
    for key, value in certificate.to_dict().items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        facts.append((key.replace("_", " "), text))
    return facts


def _draw_strands(figure: Figure, attribution: Attribution) -> None:
    plot.strand_logo(attribution, ax=figure.add_subplot())


def _draw_substitutions(figure: Figure, mutagenesis: Mutagenesis) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, 1])
    plot.logo(mutagenesis, ax=above).set_xlabel("")
    plot.mutagenesis_map(mutagenesis, ax=below)


def _picture(draw: Callable[[Figure, _Result], None], result: _Result, width: float, height: float) -> str:
    """A drawing as a data URL. It is an image of its own, so that ids inside one SVG cannot meet those of another."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure, result)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _table(name: str, attribution: Attribution, mutagenesis: Mutagenesis) -> pd.DataFrame:
    table = mutagenesis.to_dataframe()
    table.insert(0, "name", name)
    by_position = attribution.to_dataframe().set_index("position")
    for strand in ("forward", "reverse"):
        table[f"attribution_{strand}"] = by_position.loc[table["position"], strand].to_numpy()
    return table
