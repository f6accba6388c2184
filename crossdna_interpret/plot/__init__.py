"""Plots of results on matplotlib Axes. No global matplotlib state is changed."""

from crossdna_interpret.plot.drawing import PALETTES, draw_letters
from crossdna_interpret.plot.edits import edit_effects, interaction_map, mutagenesis_map
from crossdna_interpret.plot.exchange import exchange_arcs, exchange_effects, exchange_logo, exchange_map, gate_track
from crossdna_interpret.plot.interventions import intervention_bars
from crossdna_interpret.plot.logos import logo, strand_logo
from crossdna_interpret.plot.measured import measured_scatter
from crossdna_interpret.plot.motifs import (
    annotated_logo,
    design_path,
    interaction_graph,
    interaction_matrix,
    marginal_effects,
    necessity_sufficiency,
    spacing_curves,
)
from crossdna_interpret.plot.orientation import orientation_scatter
from crossdna_interpret.plot.truth import certain_effects, change_calibration

__all__ = [
    "PALETTES",
    "annotated_logo",
    "certain_effects",
    "change_calibration",
    "design_path",
    "draw_letters",
    "edit_effects",
    "exchange_arcs",
    "exchange_effects",
    "exchange_logo",
    "exchange_map",
    "gate_track",
    "interaction_graph",
    "interaction_map",
    "interaction_matrix",
    "intervention_bars",
    "logo",
    "marginal_effects",
    "measured_scatter",
    "mutagenesis_map",
    "necessity_sufficiency",
    "orientation_scatter",
    "spacing_curves",
    "strand_logo",
]
