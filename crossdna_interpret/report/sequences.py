"""An HTML report of sequences, and a table of the same numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.attribution.gradients import integrated_gradients
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.io.examples import ExampleLocus
from crossdna_interpret.io.files import refuse_foreign, replacing
from crossdna_interpret.models.protocols import ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model, summary_of
from crossdna_interpret.models.training_range import outside_training, shown_elsewhere
from crossdna_interpret.progress import progress, progress_callback
from crossdna_interpret.report.pages import facts, picture, rendered, table_beside
from crossdna_interpret.results import Attribution, Mutagenesis, StrandExchange
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.targets import resolve_target, select_targets
from crossdna_interpret.strands.exchange import has_exchange, strand_exchange
from crossdna_interpret.strands.orientation import symmetric_targets
from crossdna_interpret.widgets import drawn, page

__all__ = ["write_report"]

_BASELINES = {"shuffle": "dinucleotide-shuffled sequences"}
_PAGE_MARKS = (
    '<meta name="generator" content="crossdna_interpret">',
    "<title>CrossDNA report",
)  # the second is of older versions
_TABLE_MARK = "name\tposition\tref\talt\ttarget\tprediction\tdelta\tattribution"
_MOST_TARGETS = 10  # largest number of targets in the table


def write_report(
    sequences: Mapping[str, str],
    out: str | Path,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    loci: Mapping[str, ExampleLocus] | None = None,
    descriptions: Mapping[str, str] | None = None,
    finished: Callable[[str], object] | None = None,
) -> tuple[Path, Path]:
    """Explain sequences in one self-contained HTML file, which needs no network.

    Page and table are written during the work, with the finished sequences. They are also complete for these after an
    interruption. An earlier report is replaced. Another file with one of these names is an error.

    Args:
        sequences: mapping from name to sequence. Names may have any characters.
        out: the HTML file to write. The table is beside it, with `.tsv` instead of `.html` or `.htm`.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. Optional if the model has one target.
        loci: information about some of the sequences, by name. It is shown with them.
        descriptions: a line of text about some of the sequences, by name. It is shown with them.
        finished: called with the name of each finished sequence.

    Returns:
        Paths of the page and the table. The table has a row for each substitution and target, with the columns:

        - name, position (0-based), ref, alt, target, prediction, delta;
        - attribution, attribution_forward and attribution_reverse of the position, for the target of the row;
        - outside_training, the reason why the sequence is outside the training range of the model.

        Without strand paths, all attribution is forward and attribution_reverse is empty. For a model with more than 10
        targets, the table has only the rows of `target`.

    Raises:
        ValueError, TypeError: no sequence, an invalid sequence or `out`, or an unknown model or target.
        FileNotFoundError: the folder of `out` does not exist.
        FileExistsError: `out` or the table exists and is not a report.
        PermissionError, OSError: `out` is not writable.
        MemoryError: a sequence is too long for the available memory. The page then has the finished sequences. After
            any other of these errors nothing is written.
    """
    out = Path(out)
    if not isinstance(sequences, Mapping):
        raise TypeError(f"`sequences` must be a mapping from name to sequence, but got {type(sequences).__name__}.")
    if not sequences:
        raise ValueError("`sequences` must hold at least one sequence, but it is empty.")
    alone = len(sequences) == 1
    normal = {
        name: alphabet.normalize(sequence, name="seq" if alone else f"sequences[{name!r}]")
        for name, sequence in sequences.items()
    }
    table_path = _table_path(out)
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    both = [each for sequence in normal.values() for each in (sequence, reverse_complement(sequence))]
    with shown_elsewhere():  # page and table show the warnings
        # Predict all sequences before the long work, so that impossible ones fail now.
        scores = predict(both, resolved)[:, index].astype(float)
        symmetric = {length: symmetric_targets(resolved, length)[index] for length in set(map(len, both))}
        sections: list[dict[str, Any]] = []
        tables: list[pd.DataFrame] = []
        writer = _Throttled(lambda: _write(out, table_path, sections, tables, len(normal), resolved, index))
        with writer, progress(len(normal) * _steps(resolved), "report", "analysis") as bar:
            for number, (name, sequence) in enumerate(normal.items()):
                locus = (loci or {}).get(name)
                with _progress_behind(bar, f"{number + 1} of {len(normal)}"):
                    explained = _explain(sequence, resolved, index, lambda: bar.update(1))
                about = {
                    "name": name,
                    "description": _description(locus, (descriptions or {}).get(name)),
                    "measured": None if locus is None else locus.measured,
                    "prediction": scores[2 * number],
                    "prediction_reverse": scores[2 * number + 1],
                    "symmetric": symmetric[len(sequence)],
                    "outside": outside_training(resolved, sequence),
                }
                sections.append(_section(about, explained))
                tables.append(_table(about, explained))
                writer.changed()
                if finished is not None:
                    finished(name)
    return out, table_path


class _Throttled:
    """Runs an action after changes, but not too often, so that it takes only a small part of the time.

    The action also runs at the end of the ``with``, even after an error or an interruption.
    """

    _SHARE = 0.1  # largest fraction of the time for the action

    def __init__(self, action: Callable[[], object]) -> None:
        self._action, self._pending, self._not_before = action, False, -math.inf

    def changed(self) -> None:
        """Report a change."""
        self._pending = True
        if time.monotonic() >= self._not_before:
            self._act()

    def _act(self) -> None:
        started = time.monotonic()
        self._action()
        self._pending = False
        self._not_before = time.monotonic() + (time.monotonic() - started) * (1 / self._SHARE - 1)

    def __enter__(self) -> _Throttled:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pending:
            self._act()


def _write(
    out: Path,
    table_path: Path,
    sections: list[dict[str, Any]],
    tables: list[pd.DataFrame],
    count: int,
    model: SequenceModel,
    index: int,
) -> None:
    with replacing(table_path) as new:
        pd.concat(tables).to_csv(new, sep="\t", index=False, float_format="%.7g")
    with replacing(out) as new:
        new.write_text(_page(sections, count, model, index, table_path.name), encoding="utf-8")


def _table_path(out: Path) -> Path:
    """Path of the table. Raises an error if page or table may not be written."""
    table = table_beside(out)
    refuse_foreign(out, lambda start: any(mark in start for mark in _PAGE_MARKS), "an earlier report")
    refuse_foreign(table, lambda start: start.startswith(_TABLE_MARK), "the table of an earlier report")
    return table


@contextmanager
def _progress_behind(bar: Any, label: str) -> Iterator[None]:
    """Context that shows the progress of an analysis as text after `bar`. The analysis cannot show its own bar."""

    def show(analysis: str, done: int, total: int) -> None:
        bar.set_postfix_str(f"sequence {label}, {analysis} {done:,}/{total:,}", refresh=False)
        bar.update(0)

    with progress_callback(show):
        yield


@dataclass(frozen=True)
class _Explained:
    """Results of a sequence for each target of the table. The explained target is the first."""

    attributions: list[Attribution]
    mutagenesis: list[Mutagenesis]
    exchange: StrandExchange | None


def _table_targets(model: SequenceModel, index: int) -> list[int]:
    count = len(model.targets)
    return sorted(range(count), key=lambda each: each != index) if count <= _MOST_TARGETS else [index]


def _steps(model: SequenceModel) -> int:
    return len(_table_targets(model, 0)) + 2


def _explain(sequence: str, model: SequenceModel, index: int, step: Callable[[], object]) -> _Explained:
    attributions = []
    for each in _table_targets(model, index):
        attributions.append(integrated_gradients(sequence, model, target=each))
        step()
    shown = select_targets(model, _table_targets(model, index))
    mutagenesis = ism(sequence, shown, target=0)
    step()
    exchange = strand_exchange(sequence, model, target=index) if has_exchange(model) else None
    step()
    return _Explained(attributions, [_of_target(mutagenesis, at) for at in range(len(attributions))], exchange)


def _of_target(result: Mutagenesis, at: int) -> Mutagenesis:
    """A result of a single target, given by its index."""
    return replace(
        result,
        targets=result.targets[at : at + 1],
        target=result.targets[at],
        reference=result.reference[at : at + 1],
        predictions=result.predictions[..., at : at + 1],
    )


def _description(locus: ExampleLocus | None, description: str | None) -> str | None:
    if locus is None:
        return description or None
    return f"{locus.description} {locus.chrom}:{locus.start}-{locus.end}. {locus.citation}"


def _section(about: Mapping[str, Any], explained: _Explained) -> dict[str, Any]:
    attribution, mutagenesis, exchange = explained.attributions[0], explained.mutagenesis[0], explained.exchange
    views = [("logo_view", drawn.logo_view(attribution)), ("mutagenesis_map", drawn.mutagenesis_map(mutagenesis))]
    if exchange is not None:
        views.append(("exchange_map", drawn.exchange_map(exchange)))
    strongest = mutagenesis.to_dataframe().sort_values("delta", key=abs, ascending=False, kind="stable").head(10)
    width = min(max(7.0, 0.085 * len(attribution.sequence) + 1.5), 60.0)
    return {
        **about,
        "sequence": attribution.sequence,
        "by_strand": attribution.by_strand,
        "empty": not attribution.values.any(),
        "change": attribution.prediction - attribution.baseline_prediction,
        "completeness_error": attribution.completeness_error,
        "baseline": _BASELINES.get(attribution.baseline, attribution.baseline),
        "pixels": int(96 * width),
        "views": views,
        "exchange": None if exchange is None else exchange.effects,
        "terms": None if exchange is None else float(exchange.contributions.sum(dtype=np.float64)),
        "constant": None if exchange is None else float(exchange.bias.sum(dtype=np.float64)),
        "shuffles": attribution.certificate.settings.get("shuffles"),
        "logo": picture(lambda figure: _draw_logo(figure, attribution), width, 3.4 if attribution.by_strand else 2.4),
        "map": picture(lambda figure: _draw_substitutions(figure, mutagenesis), width, 3.9),
        "strongest": strongest.to_dict("records"),
        "certificate": facts(attribution.certificate) + facts(mutagenesis.certificate)[:1],
    }


def _page(sections: list[dict[str, Any]], count: int, model: SequenceModel, index: int, table: str) -> str:
    return rendered(
        "report.html.jinja",
        title="Sequence report" if count > 1 else f"Sequence report: {sections[0]['name']}",
        model=model.name,
        about=summary_of(model),
        target=model.targets[index],
        table_name=table,
        table_url=quote(table),
        count=count,
        sections=sections,
        style=Markup(page.style()),
        script=Markup(page.script_of({f"v{at}": section["views"] for at, section in enumerate(sections, start=1)})),
    )


def _draw_logo(figure: Figure, attribution: Attribution) -> None:
    plot.strand_logo(attribution, ax=figure.add_subplot())


def _draw_substitutions(figure: Figure, mutagenesis: Mutagenesis) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, 1])
    plot.logo(mutagenesis, ax=above).set_xlabel("")
    plot.mutagenesis_map(mutagenesis, ax=below)


def _table(about: Mapping[str, Any], explained: _Explained) -> pd.DataFrame:
    tables = []
    for attribution, mutagenesis in zip(explained.attributions, explained.mutagenesis, strict=True):
        table = mutagenesis.to_dataframe()
        at = table["position"].to_numpy()
        table["attribution"] = attribution.importance[at]
        table["attribution_forward"] = attribution.forward.sum(axis=1)[at]
        table["attribution_reverse"] = attribution.reverse.sum(axis=1)[at] if attribution.by_strand else np.nan
        tables.append(table)
    whole = pd.concat(tables)
    whole.insert(0, "name", about["name"])
    whole["outside_training"] = about["outside"]
    return whole
