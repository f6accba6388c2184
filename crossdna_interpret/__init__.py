"""Ask a CrossDNA model why it says what it says.

Example:
    >>> import crossdna_interpret as cdi
    >>> enhancer = cdi.example()
    >>> result = cdi.ism(enhancer.sequence, start=60, end=70)
    >>> result.delta.shape
    (10, 4)
"""

from importlib.metadata import version as _version

from crossdna_interpret.attribution.gradients import CompletenessWarning, integrated_gradients
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.hooks import capture, edit, hook_names
from crossdna_interpret.loci import ExampleLocus, example, example_names
from crossdna_interpret.models.store import list_models, load_model, model_card
from crossdna_interpret.results import Attribution, Certificate, Mutagenesis
from crossdna_interpret.scoring import SequenceModel, predict
from crossdna_interpret.strand import reverse_complement

__version__ = _version("crossdna_interpret")

__all__ = [
    "Attribution",
    "Certificate",
    "CompletenessWarning",
    "ExampleLocus",
    "Mutagenesis",
    "SequenceModel",
    "capture",
    "edit",
    "example",
    "example_names",
    "hook_names",
    "integrated_gradients",
    "ism",
    "list_models",
    "load_model",
    "model_card",
    "predict",
    "reverse_complement",
]
