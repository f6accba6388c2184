"""What the analyses return: frozen, validated at birth, holding numpy arrays. No torch and no plots in here.

Every position is 0-based in the coordinates of the sequence that was asked about; bases are in the order ACGT.
"""

from crossdna_interpret.results.attribution import Attribution
from crossdna_interpret.results.certificate import Certificate
from crossdna_interpret.results.edits import EditScan, EditScores
from crossdna_interpret.results.mutagenesis import Mutagenesis
from crossdna_interpret.results.pairwise import PairwiseMutagenesis

__all__ = ["Attribution", "Certificate", "EditScan", "EditScores", "Mutagenesis", "PairwiseMutagenesis"]
