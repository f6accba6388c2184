"""`explore`, the public function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossdna_interpret.session import Method, Session

if TYPE_CHECKING:
    from crossdna_interpret.models.protocols import ModelLike
    from crossdna_interpret.widgets.explorer import Explorer

__all__ = ["explore"]


def explore(
    seq: str | None = None, model: ModelLike = None, *, target: str | int | None = None, method: Method = "ism"
) -> Explorer:
    """Open an interactive explorer of a sequence: its logo, every mutation, and the exchange between its strands.

    Args:
        seq: a sequence, text of one FASTA record, or None for the first example that the model was trained for.
        model: a model, a name or path for `load_model`, or None for the bundled model. A copy of it is used.
        target: name or number of the target. The default is the first.
        method: attribution method of the logo: "ism", "integrated_gradients" or "gradient". The latter two are split by
            strand if the model reads the strands separately.

    Returns:
        A widget. `.session` has its results and actions, and `.to_html()` exports a page that runs anywhere.

    Raises:
        ImportError: the extra `lab` is not installed.
        ValueError, TypeError, MemoryError: an invalid sequence, model, target or method.

    Example:
        >>> import crossdna_interpret as cdi
        >>> explorer = cdi.explore("ACGTTGCAACGTTGCA")  # in a notebook, the last line of a cell shows it
        >>> explorer.close()
    """
    try:
        from crossdna_interpret.widgets.explorer import Explorer
    except ImportError as error:
        raise ImportError("The explorer needs widgets: pip install 'crossdna_interpret[lab]'.") from error
    from crossdna_interpret.session import examples

    return Explorer(Session(seq, model, target=target, method=method), examples())
