"""Results of analyses: frozen, validated, numpy arrays. No torch, no plots.

Every position is 0-based in the coordinates of the analysed sequence. Bases are in the order ACGT.
"""

from crossdna_interpret.results.attribution import Attribution
from crossdna_interpret.results.certificate import Certificate, CompletenessWarning
from crossdna_interpret.results.design import Design
from crossdna_interpret.results.edits import EditScan, EditScores
from crossdna_interpret.results.exchange import (
    DIRECTIONS,
    Direction,
    ExchangeEffects,
    ExchangeMutagenesis,
    StrandExchange,
)
from crossdna_interpret.results.intervals import MutationIntervals
from crossdna_interpret.results.interventions import ExchangeAblation, ExchangePatch
from crossdna_interpret.results.logic import Marginalization, MotifInteractions, Spacing
from crossdna_interpret.results.measured import MeasuredComparison
from crossdna_interpret.results.motifs import MotifSites, Seqlets
from crossdna_interpret.results.mutagenesis import Mutagenesis
from crossdna_interpret.results.orientation import Orientation
from crossdna_interpret.results.pairwise import PairwiseMutagenesis
from crossdna_interpret.results.truth import TruthReport

__all__ = [
    "DIRECTIONS",
    "Attribution",
    "Certificate",
    "CompletenessWarning",
    "Design",
    "Direction",
    "EditScan",
    "EditScores",
    "ExchangeAblation",
    "ExchangeEffects",
    "ExchangeMutagenesis",
    "ExchangePatch",
    "Marginalization",
    "MeasuredComparison",
    "MotifInteractions",
    "MotifSites",
    "Mutagenesis",
    "MutationIntervals",
    "Orientation",
    "PairwiseMutagenesis",
    "Seqlets",
    "Spacing",
    "StrandExchange",
    "TruthReport",
]
