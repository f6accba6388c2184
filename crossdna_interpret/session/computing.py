"""Background computation of results in stages. A new request replaces the old one."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from crossdna_interpret.attribution.gradients import input_gradient, integrated_gradients
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.training_range import shown_elsewhere
from crossdna_interpret.progress import progress_callback
from crossdna_interpret.results import Attribution, Mutagenesis, StrandExchange
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.targets import select_targets
from crossdna_interpret.strands.exchange import strand_exchange
from crossdna_interpret.strands.orientation import symmetric_targets

__all__ = ["STAGES", "Computing", "Question", "Results", "Stage"]

Stage = Literal["prediction", "gradient", "integrated_gradients", "mutagenesis", "exchange"]
STAGES: tuple[Stage, ...] = ("prediction", "gradient", "integrated_gradients", "mutagenesis", "exchange")
_REMEMBERED = 64  # questions whose results are kept, so that undo is immediate


class _OvertakenError(Exception):
    """A newer request has replaced the current one."""


@dataclass(frozen=True)
class Results:
    """Results of a sequence so far. An attribute is None if it is not computed yet or cannot be computed.

    Attributes:
        prediction: (T,) scores of the sequence.
        reverse_prediction: (T,) scores of its reverse complement.
        symmetric: (T,) whether the model scores both orientations of every sequence of this length equally.
        gradient: input gradients, split by strand.
        integrated_gradients: integrated gradients from shuffles, split by strand.
        mutagenesis: every substitution.
        exchange: strand exchange. None for models without a bridge.
    """

    prediction: np.ndarray | None = None
    reverse_prediction: np.ndarray | None = None
    symmetric: np.ndarray | None = None
    gradient: Attribution | None = None
    integrated_gradients: Attribution | None = None
    mutagenesis: Mutagenesis | None = None
    exchange: StrandExchange | None = None


@dataclass(frozen=True)
class Question:
    """What to compute: a sequence and a target."""

    sequence: str
    target: int
    state: str = ""  # of the model; changes when its scores may change


_alive: weakref.WeakSet[Computing] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """Stop all computations before the process ends. A running thread would abort the process."""
    for computing in list(_alive):
        computing.cancel()
        computing.wait(10)


class Computing:
    """Computes results of one model.

    Args:
        model: the model. No other code may use it at the same time.
        background: whether to compute in a thread.
        notify: callback from the computing thread. It gets a stage when its result is ready, "busy" when `busy` has
            changed, and "error" after an error.

    Attributes:
        busy: progress of the current computation: (stage or work, units done, total units), or None.
        error: text of the last error, or None.
    """

    def __init__(self, model: Any, background: bool, notify: Callable[[str], None]) -> None:
        self.model, self.background, self._notify = model, background, notify
        self.busy: tuple[str, int, int] | None = None
        self.error: str | None = None
        self._settled = threading.Condition(threading.RLock())
        self._known: OrderedDict[Question, Results] = OrderedDict()
        self._wanted: list[tuple[Question, tuple[Stage, ...]]] = []
        self._worker: threading.Thread | None = None
        self._number = 0  # number of the latest request
        self._symmetric: dict[tuple[str, int], np.ndarray] = {}  # state of the model and length -> result
        _alive.add(self)

    def known(self, question: Question) -> Results:
        """Results so far."""
        with self._settled:
            return self._known.get(question, Results())

    def ask(self, wanted: list[tuple[Question, tuple[Stage, ...]]]) -> None:
        """Compute stages of questions in this order. This replaces the current computation."""
        with self._settled:
            self._number += 1
            self._wanted = wanted
            if self._worker is not None:
                return  # the running thread notices the new request and continues with it
            if self.background:
                self._worker = threading.Thread(target=self._work, name="crossdna session", daemon=True)
                self._worker.start()
                return
        self._work()

    def cancel(self) -> None:
        """Stop the computation. Results so far are kept."""
        with self._settled:
            self._number += 1
            self._wanted = []
            self.busy = None
        self._notify("busy")

    def wait(self, timeout: float | None) -> bool:
        """Wait until the computation has finished. Returns False if `timeout` seconds pass first."""
        with self._settled:
            return self._settled.wait_for(lambda: self._worker is None and not self._wanted, timeout)

    def _work(self) -> None:
        while True:
            with self._settled:
                wanted, number = self._wanted, self._number
                if not wanted:
                    self._worker = None
                    self._settled.notify_all()
                    return
            try:
                for question, stages in wanted:
                    self._answer(question, stages, number)
            except _OvertakenError:
                continue
            except Exception as error:  # report any error and continue with the next question
                self.error = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                self._notify("error")
            with self._settled:
                if self._number == number:
                    self._wanted = []
                    self.busy = None
            self._notify("busy")

    def _answer(self, question: Question, stages: tuple[Stage, ...], number: int) -> None:
        def report(label: str, done: int, total: int) -> None:
            with self._settled:
                if number != self._number:
                    raise _OvertakenError
                self.busy = label, done, total
            self._notify("busy")

        for stage in stages:
            if getattr(self.known(question), stage) is not None:
                continue
            report(stage, 0, 0)
            with progress_callback(report), shown_elsewhere():
                result = self._found(stage, question)
            with self._settled:
                self._known[question] = replace(self.known(question), **result)
                self._known.move_to_end(question)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            self._notify(stage)

    def _found(self, stage: Stage, question: Question) -> dict[str, Any]:
        sequence, model, target = question.sequence, self.model, question.target
        if stage == "prediction":
            both = predict([sequence, reverse_complement(sequence)], model)
            key = question.state, len(sequence)
            if key not in self._symmetric:
                self._symmetric[key] = symmetric_targets(model, len(sequence))
            return {"prediction": both[0], "reverse_prediction": both[1], "symmetric": self._symmetric[key]}
        if stage == "exchange":
            return {"exchange": strand_exchange(sequence, model, target=target)}
        if stage == "gradient":
            return {"gradient": input_gradient(sequence, model, target=target)}
        if stage == "integrated_gradients":
            return {"integrated_gradients": integrated_gradients(sequence, model, target=target)}
        return {"mutagenesis": ism(sequence, select_targets(model, target))}  # only one target is shown
