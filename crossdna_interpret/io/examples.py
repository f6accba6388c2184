"""Examples: enhancers with their measured activity, variants with their measured effect, measured families."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from crossdna_interpret.dna.edits import Edit

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAMILY_TABLES",
    "ExampleLocus",
    "ExampleVariant",
    "example",
    "example_families",
    "example_names",
    "example_sequence",
    "example_sequences",
    "example_variants",
    "fitting_example",
]

_WINDOW = 145  # bases of an example around a variant
# Tables of measured families, and their files in the assets.
FAMILY_TABLES = {"yeast-promoters": "yeast_promoters.tsv.gz"}


@dataclass(frozen=True)
class ExampleLocus:
    """A measured regulatory sequence.

    Attributes:
        name: short name for `example`.
        description: one sentence about the locus.
        chrom, start, end: coordinates in the mouse genome from the source, 0-based half-open.
        sequence: the measured sequence, 5' to 3'.
        measured: log2 activity relative to the basal Rho promoter, mean over barcodes and replicates.
        library: number of the library of the measurement.
        citation: source of the measurement.

    Example:
        >>> locus = example("strong-enhancer")
        >>> f"{locus.chrom}:{locus.start}-{locus.end}", round(locus.measured, 1)
        ('chr16:49817812-49817976', 5.4)
    """

    name: str
    description: str
    chrom: str
    start: int
    end: int
    sequence: str
    measured: float
    library: int
    citation: str


@functools.lru_cache(maxsize=1)
def _loci() -> dict[str, ExampleLocus]:
    text = resources.files("crossdna_interpret").joinpath("assets/loci.json").read_text(encoding="utf-8")
    content = json.loads(text)
    loci = [ExampleLocus(citation=content["citation"], **locus) for locus in content["loci"]]
    return {locus.name: locus for locus in loci}


def example_names() -> list[str]:
    """Names of the bundled example loci. The first is the default of `example`.

    Example:
        >>> example_names()[0]
        'strong-enhancer'
    """
    return list(_loci())


def example(name: str | None = None) -> ExampleLocus:
    """A bundled example locus. None of them is a training sequence.

    Args:
        name: one of `example_names`. The default is the first.

    Raises:
        ValueError: an unknown name. The message lists near matches.

    Example:
        >>> len(example().sequence)
        164
    """
    loci = _loci()
    if name is None:
        return next(iter(loci.values()))
    _require_known(name, loci, "an example locus")
    return loci[name]


def _require_known(name: str, known: Iterable[str], what: str) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, cutoff=0.4) or names
        raise ValueError(f"`name` {name!r} is not {what}. Near matches: {', '.join(near)}.")


@dataclass(frozen=True)
class ExampleVariant:
    """A variant of the human genome whose effect was measured in a reporter.

    Attributes:
        name: short name, such as "TERT-C228T".
        gene: the gene that the promoter or enhancer acts on.
        description: one or two sentences about the variant.
        genome, chrom, position: its coordinates, 0-based. "GRCh38".
        ref, alt: bases on the forward strand of the genome.
        start: coordinate of the first base of `sequence`, 0-based.
        sequence: the measured element with `ref`, forward strand of the genome.
        measured: log2 of the activity with `alt` relative to that with `ref`.
        barcodes: number of barcodes of the measurement.
        cells: cells of the measurement.
        element: name of the element in saturation mutagenesis.
        citation: sources.

    Example:
        >>> variant = example_variants()["TERT-C228T"]
        >>> variant.chrom, variant.position, variant.ref, variant.alt, round(variant.measured, 1)
        ('chr5', 1295112, 'G', 'A', 2.9)
    """

    name: str
    gene: str
    description: str
    genome: str
    chrom: str
    position: int
    ref: str
    alt: str
    start: int
    sequence: str
    measured: float
    barcodes: int
    cells: str
    element: str
    citation: str

    def window(self, length: int) -> tuple[str, Edit]:
        """A stretch of `sequence` around the variant, and the variant as an edit of it.

        The variant is in the middle, or nearer to an end of the sequence if it lies near that end.

        Raises:
            ValueError: `length` is not from 1 to that of the sequence.

        Example:
            >>> sequence, edit = example_variants()["TERT-C228T"].window(145)
            >>> len(sequence), sequence[edit.start], edit.string
            (145, 'G', 'A')
        """
        if not 1 <= length <= len(self.sequence):
            raise ValueError(f"`length` must be from 1 to {len(self.sequence)}, but got {length!r}.")
        at = self.position - self.start
        first = min(max(at - length // 2, 0), len(self.sequence) - length)
        return self.sequence[first : first + length], Edit(at - first, at - first + 1, self.alt)


def example_variants() -> dict[str, ExampleVariant]:
    """Bundled variants of the human genome with measured effects, by name. No bundled model was trained on them.

    A table of them is ``pd.DataFrame(map(vars, example_variants().values()))``. Score one with
    ``score_edits(sequence, [edit], model)``, where ``sequence, edit = variant.window(145)``.

    Measurements: saturation mutagenesis of Kircher et al. 2019 (Nat Commun 10:3583).

    Example:
        >>> list(example_variants())[0]
        'SORT1-rs12740374'
    """
    text = resources.files("crossdna_interpret").joinpath("assets/variants.json").read_text(encoding="utf-8")
    content = json.loads(text)
    variants = [ExampleVariant(genome=content["genome"], **each) for each in content["variants"]]
    return {variant.name: variant for variant in variants}


def example_families(name: str = "yeast-promoters") -> pd.DataFrame:
    """A bundled table of measured sequences in families, for `truth_report`. No bundled model was trained on them.

    "yeast-promoters" has 2,806 sequences of 80 bp, in the middle of a promoter, and the expression that they drive in
    yeast. A family is a set of sequences that share 20-mers, such as the mutants of one parent sequence. These are the
    validation families of the model `yeast-promoter`.

    Columns: sequence; kind ("Native" promoters, "Random" bases, "Drift" = random mutations, "SSWM" = mutations under
    selection); family; complex, defined (expression in two media, in units like log2, 0 to 17; NaN is not measured).
    Whole numbers come from few reads.

    Source: Vaishnav et al. 2022 (Nature 603:455, doi 10.1038/s41586-022-04506-6), test data in 1edv/evolution (MIT).

    Args:
        name: "yeast-promoters".

    Raises:
        ValueError: an unknown name.

    Example:
        >>> table = example_families()
        >>> len(table), list(table.columns)
        (2806, ['sequence', 'kind', 'family', 'complex', 'defined'])
    """
    import pandas as pd

    if name not in FAMILY_TABLES:
        raise ValueError(f"`name` {name!r} is not a table of families. There is: {', '.join(FAMILY_TABLES)}.")
    with resources.files("crossdna_interpret").joinpath(f"assets/{FAMILY_TABLES[name]}").open("rb") as file:
        return pd.read_csv(file, sep="\t", compression="gzip")


@functools.lru_cache(maxsize=1)
def _sequences() -> dict[str, str]:
    table = example_families()
    native = table[(table["kind"] == "Native") & (table["complex"] % 1 != 0)].set_index("sequence")["complex"]
    return {
        **{name: locus.sequence for name, locus in _loci().items()},
        "yeast-strong-promoter": str(native.idxmax()),
        "yeast-weak-promoter": str(native.idxmin()),
        **{name: variant.window(_WINDOW)[0] for name, variant in example_variants().items()},
    }


def example_sequences() -> dict[str, str]:
    """All example sequences by name: the loci, two yeast promoters, and 145 bp around each example variant.

    Example:
        >>> [name for name in example_sequences() if "yeast" in name]
        ['yeast-strong-promoter', 'yeast-weak-promoter']
    """
    return dict(_sequences())


def example_sequence(name: str) -> str:
    """One of `example_sequences`.

    Raises:
        ValueError: an unknown name. The message lists near matches.
    """
    _require_known(name, _sequences(), "an example")
    return _sequences()[name]


def fitting_example(suits: Callable[[str], bool]) -> str:
    """Name of the first example sequence that suits, such as for a model. If none does, the first of all."""
    sequences = _sequences()
    return next((name for name, sequence in sequences.items() if suits(sequence)), next(iter(sequences)))
