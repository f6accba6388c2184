"""Draw the pictures of the README: python tutorials/figures/make_figures.py"""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import crossdna_interpret as cdi
from crossdna_interpret import plot

FOLDER = Path(__file__).parent


def explain() -> None:
    """Both-strand logo above, mutagenesis map below, of the first example enhancer."""
    enhancer = cdi.example()
    figure = Figure(figsize=(15, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[1.9, 1])
    plot.strand_logo(cdi.integrated_gradients(enhancer.sequence), ax=above).set_xlabel("")
    plot.mutagenesis_map(cdi.ism(enhancer.sequence), ax=below)
    below.set_xlim(above.get_xlim())
    above.set_title(
        f"{enhancer.chrom}:{enhancer.start:,}-{enhancer.end:,}, a retinal enhancer: what each base adds, by strand",
        loc="left",
        fontsize=10,
    )
    figure.savefig(FOLDER / "explain.png")


if __name__ == "__main__":
    explain()
