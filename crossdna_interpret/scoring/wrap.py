"""Wrapping of one-hot PyTorch modules, with a check of their channel order."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from crossdna_interpret._validation import integer, level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.inputs import OneHot, inputs_of
from crossdna_interpret.models.protocols import SequenceModel
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.models.wrapped import Output, Wrapped
from crossdna_interpret.scoring.forward import evaluation_mode
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.statistics import pearson

__all__ = ["ChannelOrderWarning", "wrap"]

_SEQUENCES = 64  # random sequences for the check of the channel order
_MARGIN = 0.15  # another order must increase the correlation by this much
_ALIKE = 0.7  # from this correlation on, a model scores both strands alike


class ChannelOrderWarning(UserWarning):
    """The scores of a module suggest another channel order than the one in `channels`.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.ChannelOrderWarning)
        ...     model = cdi.wrap(nn.Conv1d(4, 1, 5), output=lambda x: x.mean(2))
    """


def wrap(
    module: nn.Module,
    channels: str = "ACGT",
    targets: Sequence[str] = ("output",),
    *,
    length: int | None = None,
    layout: Literal["channels_first", "channels_last"] = "channels_first",
    output: Output = None,
    unknown: float = 0.0,
    name: str | None = None,
    training_range: TrainingRange | None = None,
    check: tuple[Sequence[str], Sequence[float]] | None = None,
) -> Wrapped:
    """Wrap a PyTorch module with one-hot DNA input as a model for the analyses of this package.

    Nothing is copied: the module keeps its weights, device and mode. Analyses compute in evaluation mode. Mutagenesis
    scores each edit by a full forward pass. Analyses of strands or of the bridge need a model that declares them, such
    as a CrossDNA.

    Some published weights use another channel order than ACGT. A wrong order raises no error and gives wrong scores,
    so `wrap` checks it. With `check`, it compares all orders with measurements. Otherwise, if `length` is set, it
    compares random sequences with their reverse complements. Most models score both almost the same, but only if
    the complements A and T, C and G are in the right channels. A `ChannelOrderWarning` names a better order.

    Args:
        module: takes (N, C, L) or (N, L, C) and returns scores (N, T) or (N,).
        channels: order of the channels: A, C, G, T and, if there is a fifth, N.
        targets: names of the T outputs.
        length: input length in bases, if the module accepts only one length.
        layout: "channels_first" for (N, C, L), "channels_last" for (N, L, C).
        output: which output to explain, if the module returns a tuple, a list or a dict: an index, a key, or a
            function that returns the scores.
        unknown: value of all four channels at an N, such as 0.25, if there is no channel for N.
        name: name of the model. The default is the name of the module's class.
        training_range: description of the training data. Analyses warn of a sequence outside it.
        check: sequences and their measured values for the first target, to check the channel order.

    Returns:
        The model. Pass it as `model=` to any analysis.

    Warns:
        ChannelOrderWarning: another channel order fits much better.

    Raises:
        ValueError, TypeError: an invalid order, target or option, or `module` is not a module.

    Example:
        >>> class Count(nn.Module):
        ...     def forward(self, x):
        ...         return x[:, 0].sum(1)
        >>> import crossdna_interpret as cdi
        >>> cdi.predict("AACGT", cdi.wrap(Count(), targets=["A"])).tolist()
        [[2.0]]
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"`module` must be a torch module, but got {type(module).__name__}.")
    if not isinstance(channels, str) or sorted(channels.upper()) not in (sorted("ACGT"), sorted("ACGTN")):
        raise ValueError(f"`channels` must hold A, C, G, T and perhaps N, each once, but got {channels!r}.")
    if isinstance(targets, str) or not targets or not all(isinstance(each, str) and each for each in targets):
        raise ValueError(f"`targets` must be a list of names, but got {targets!r}.")
    if len(set(targets)) < len(targets):
        raise ValueError(f"`targets` must be different names, but got {list(targets)}.")
    if layout not in ("channels_first", "channels_last"):
        raise ValueError(f"`layout` must be 'channels_first' or 'channels_last', but got {layout!r}.")
    if training_range is not None and not isinstance(training_range, TrainingRange):
        raise TypeError(f"`training_range` must be a TrainingRange, but got {type(training_range).__name__}.")
    if length is not None:
        integer("length", length, 1)
    inputs = OneHot(channels.upper(), unknown=unknown, layout=layout, length=length)
    wrapped = Wrapped(
        module, inputs, targets, output=output, name=name or type(module).__name__, training_range=training_range
    )
    better = (
        _better_by_measurement(wrapped, inputs, *check) if check is not None else _better_by_strands(wrapped, inputs)
    )
    if better is not None:
        warnings.warn(better, ChannelOrderWarning, stacklevel=level_of_caller())
    return wrapped


def _in_order(model: Wrapped, inputs: OneHot, channels: str) -> Wrapped:
    other = replace(inputs, channels=channels)
    return Wrapped(model.module, other, model.targets, output=model.output, name=model.name)


def _better_by_measurement(
    model: Wrapped, inputs: OneHot, seqs: Sequence[str], measured: Sequence[float]
) -> str | None:
    values = np.asarray(measured, dtype=np.float64)
    if values.shape != (len(seqs),) or len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(
            f"`check` must be at least three sequences and as many finite values, but got {len(seqs)} sequences and "
            f"values of shape {values.shape}."
        )
    tail = "N" if "N" in inputs.channels else ""
    orders = ["".join(order) + tail for order in itertools.permutations("ACGT")]
    result = {order: _correlation(predict(seqs, _in_order(model, inputs, order))[:, 0], values) for order in orders}
    best = max(result, key=lambda order: result[order])
    own = result[inputs.channels] if inputs.channels in result else _correlation(predict(seqs, model)[:, 0], values)
    if result[best] < own + _MARGIN:
        return None
    return (
        f"{model.name} predicts {len(values)} measured values with r = {own:.2f} if its channels are "
        f"{inputs.channels}, and with r = {result[best]:.2f} if they are {best}. Is `channels` right?"
    )


def _better_by_strands(model: Wrapped, inputs: OneHot) -> str | None:
    """Find which bases a model treats as complements, from random sequences and their reversals.

    Returns the text of a warning, or None if A and T are complements as they should be.
    """
    if inputs.length is None:
        return None
    with evaluation_mode(model) as evaluated, torch.no_grad():
        # All sequences have equal base counts. Otherwise a model that counts bases would seem to know complements.
        even = np.arange(inputs.length) % 4
        ids = np.random.default_rng(0).permuted(np.tile(even, (_SEQUENCES, 1)), axis=1)
        own = _first(evaluated, ids)
        agreement = {}
        for partner in "TCG":  # of A
            others = [base for base in "CGT" if base != partner]
            pairs = {"A": partner, partner: "A", others[0]: others[1], others[1]: others[0]}
            reverse = np.array([alphabet.BASES.index(pairs[base]) for base in alphabet.BASES])[ids[:, ::-1]]
            agreement[partner] = _correlation(own, _first(evaluated, reverse))
    best = max(agreement, key=lambda partner: agreement[partner])
    if best == "T" or agreement[best] < max(_ALIKE, agreement["T"] + _MARGIN):
        return None
    swapped = inputs.channels.translate(str.maketrans(f"T{best}", f"{best}T"))
    return (
        f"{model.name} takes A and {best} for complements: reversed with this pairing, random sequences score alike "
        f"(r = {agreement[best]:.2f}), and with A and T they do less (r = {agreement['T']:.2f}). The channels may be "
        f"in the order {swapped}, not {inputs.channels}. Is `channels` right?"
    )


def _first(model: SequenceModel, ids: np.ndarray) -> np.ndarray:
    batch = inputs_of(model).batch(ids, device=model.device, dtype=model.dtype)
    return model(*batch)[:, 0].double().cpu().numpy()


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return pearson(x, y) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0
