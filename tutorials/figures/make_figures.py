"""Draw the pictures of the README: python tutorials/figures/make_figures.py"""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import crossdna_interpret as cdi
from crossdna_interpret import plot

FOLDER = Path(__file__).parent
FACTORS = ("Crx", "NEUROD1", "RORB", "MEF2D", "Nrl")  # of photoreceptors and other cells of the retina


def explain() -> None:
    """An example enhancer: its logo with the sites of five factors, and every substitution."""
    enhancer = cdi.example("crx-dependent")
    factors = [motif for motif in cdi.read_motifs("jaspar-vertebrates") if motif.name in FACTORS]
    mutagenesis = cdi.ism(enhancer.sequence)
    figure = Figure(figsize=(15, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[1.9, 1])
    cdi.scan(mutagenesis, factors, p=1e-3).plot(ax=above).set_xlabel("")
    plot.mutagenesis_map(mutagenesis, ax=below)
    below.set_xlim(above.get_xlim())
    above.set_title(
        f"{enhancer.chrom}:{enhancer.start:,}-{enhancer.end:,}, an enhancer of the mouse retina: what each base adds "
        "to its predicted activity, and the sites of retinal factors",
        loc="left",
        fontsize=10,
    )
    figure.savefig(FOLDER / "explain.png")


if __name__ == "__main__":
    explain()
