"""Explain what DNA sequence models predict: attribution, mutagenesis and cross-strand exchange.

Example:
    >>> import crossdna_interpret as cdi
    >>> enhancer = cdi.example()
    >>> result = cdi.ism(enhancer.sequence, start=60, end=70)
    >>> result.delta.shape
    (10, 4)
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING
from typing import Any as _Any

from crossdna_interpret.attribution.gradients import input_gradient, integrated_gradients
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.attribution.pairwise import pairwise_ism
from crossdna_interpret.attribution.scans import deletion_scan, insertion_scan
from crossdna_interpret.attribution.uncertainty import mutation_intervals
from crossdna_interpret.dna.edits import Edit, edit_to
from crossdna_interpret.dna.shuffling import ShuffleWarning
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.io.examples import (
    ExampleLocus,
    ExampleVariant,
    example,
    example_families,
    example_names,
    example_variants,
)
from crossdna_interpret.io.fasta import read_fasta
from crossdna_interpret.measured.compare import compare_with_measured
from crossdna_interpret.measured.truth import truth_report
from crossdna_interpret.models.hooks import capture, hook_names, intervene
from crossdna_interpret.models.protocols import SequenceModel
from crossdna_interpret.models.registry import list_models, load_model, model_card
from crossdna_interpret.models.training_range import OutsideTrainingWarning, TrainingRange, outside_training
from crossdna_interpret.motifs.annotation import annotate, scan
from crossdna_interpret.motifs.collection import Motif, read_motifs
from crossdna_interpret.motifs.design import design
from crossdna_interpret.motifs.discovery import export_modisco, run_modisco
from crossdna_interpret.motifs.effects import site_effects
from crossdna_interpret.motifs.enrichment import motif_enrichment
from crossdna_interpret.motifs.interactions import motif_interactions
from crossdna_interpret.motifs.marginalize import marginalize
from crossdna_interpret.motifs.seqlets import find_seqlets
from crossdna_interpret.motifs.spacing import spacing
from crossdna_interpret.results import (
    Attribution,
    Certificate,
    CompletenessWarning,
    Design,
    EditScan,
    EditScores,
    ExchangeAblation,
    ExchangeEffects,
    ExchangeMutagenesis,
    ExchangePatch,
    Marginalization,
    MeasuredComparison,
    MotifInteractions,
    MotifSites,
    Mutagenesis,
    MutationIntervals,
    Orientation,
    PairwiseMutagenesis,
    Seqlets,
    Spacing,
    StrandExchange,
    TruthReport,
)
from crossdna_interpret.results.pictures import load_pictures_from as _load_pictures_from
from crossdna_interpret.scoring.cache import CacheWarning
from crossdna_interpret.scoring.edits import score_edits
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.runner import ReuseWarning
from crossdna_interpret.scoring.stability import UnstableModelWarning
from crossdna_interpret.scoring.targets import select_targets
from crossdna_interpret.scoring.wrap import ChannelOrderWarning, wrap
from crossdna_interpret.strands.exchange import strand_exchange
from crossdna_interpret.strands.exchange_mutagenesis import exchange_ism
from crossdna_interpret.strands.interventions import ablate_exchange, patch_exchange
from crossdna_interpret.strands.orientation import orientation

if TYPE_CHECKING:
    from crossdna_interpret.widgets.explore import explore

__version__ = _version("crossdna_interpret")

__all__ = [
    "Attribution",
    "CacheWarning",
    "Certificate",
    "ChannelOrderWarning",
    "CompletenessWarning",
    "Design",
    "Edit",
    "EditScan",
    "EditScores",
    "ExampleLocus",
    "ExampleVariant",
    "ExchangeAblation",
    "ExchangeEffects",
    "ExchangeMutagenesis",
    "ExchangePatch",
    "Marginalization",
    "MeasuredComparison",
    "Motif",
    "MotifInteractions",
    "MotifSites",
    "Mutagenesis",
    "MutationIntervals",
    "Orientation",
    "OutsideTrainingWarning",
    "PairwiseMutagenesis",
    "ReuseWarning",
    "Seqlets",
    "SequenceModel",
    "ShuffleWarning",
    "Spacing",
    "StrandExchange",
    "TrainingRange",
    "TruthReport",
    "UnstableModelWarning",
    "ablate_exchange",
    "annotate",
    "capture",
    "compare_with_measured",
    "deletion_scan",
    "design",
    "edit_to",
    "example",
    "example_families",
    "example_names",
    "example_variants",
    "exchange_ism",
    "explore",
    "export_modisco",
    "find_seqlets",
    "hook_names",
    "input_gradient",
    "insertion_scan",
    "integrated_gradients",
    "intervene",
    "ism",
    "list_models",
    "load_model",
    "marginalize",
    "model_card",
    "motif_enrichment",
    "motif_interactions",
    "mutation_intervals",
    "orientation",
    "outside_training",
    "pairwise_ism",
    "patch_exchange",
    "predict",
    "read_fasta",
    "read_motifs",
    "reverse_complement",
    "run_modisco",
    "scan",
    "score_edits",
    "select_targets",
    "site_effects",
    "spacing",
    "strand_exchange",
    "truth_report",
    "wrap",
]


_load_pictures_from("crossdna_interpret.plot")


def __getattr__(name: str) -> _Any:
    if name == "explore":  # loads widgets, which analyses do without
        from crossdna_interpret.widgets.explore import explore

        return explore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
