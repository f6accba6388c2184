"""A session with one sequence: edits, results and comparison with a pinned sequence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.io import examples as loci
from crossdna_interpret.models.evaluation import separate
from crossdna_interpret.models.fingerprint import fingerprint
from crossdna_interpret.models.hooks import hooked
from crossdna_interpret.models.protocols import ModelLike, StrandPaths, capability
from crossdna_interpret.models.registry import list_models, resolve_model
from crossdna_interpret.models.training_range import outside_training, shown_elsewhere
from crossdna_interpret.results import Attribution, Direction, ExchangeAblation, Mutagenesis
from crossdna_interpret.scoring.batches import require_memory, resolve_batch_size
from crossdna_interpret.scoring.targets import resolve_target
from crossdna_interpret.session.computing import STAGES, Computing, Question, Results, Stage
from crossdna_interpret.session.history import History, Step, parsed
from crossdna_interpret.strands.exchange import has_exchange
from crossdna_interpret.strands.interventions import Side, ablate_exchange

__all__ = ["LONGEST", "Comparison", "Method", "Session", "Topic", "examples"]

Method = Literal["ism", "integrated_gradients", "gradient"]
Topic = Stage | Literal["state", "busy", "error"]
LONGEST = 5000  # bases. Longer sequences cannot be drawn letter by letter


@dataclass(frozen=True)
class Comparison:
    """The current and the pinned sequence compared, in the units of the target.

    Attributes:
        pinned: prediction for the pinned sequence.
        present: prediction for the current sequence.
        through_exchange: difference between the effects of exchange, or None if unknown.
    """

    pinned: float
    present: float
    through_exchange: float | None

    @property
    def change(self) -> float:
        """present - pinned."""
        return self.present - self.pinned

    def __str__(self) -> str:
        text = f"{self.change:+.2f} against the pinned sequence"
        through = self.through_exchange
        return text if through is None else f"{text}, of which {through:+.2f} through exchange"


def examples() -> list[str]:
    """Names of the example sequences that a session can load."""
    return list(loci.example_sequences())


class Session:
    """One sequence, its edits and its results.

    Results are computed in order: first the prediction, then attributions, then maps. A new request cancels the current
    one.

    Args:
        seq: a sequence, FASTA text, or None for the first example within the model's training range.
        model: a model, a name or path for `load_model`, or None for the bundled model. The session works on a copy, so
            that it does not conflict with other hooks and threads.
        target: name or number of the target. The default is the first.
        method: method of the attributions.
        stages: results to compute, any of "prediction", "gradient" and "integrated_gradients" (each only if it is the
            method), "mutagenesis" and "exchange".
        background: whether to compute in a thread. If not, each change returns when all results are computed.

    Attributes:
        error: reason why the last request failed, or None.
        selection: selected positions of the current sequence, 0-based half-open, or None.
        pinned: the sequence to compare with, or None.

    Raises:
        ValueError, TypeError, MemoryError: an invalid sequence, model, target, method or stage.

    Example:
        >>> session = Session("ACGTTGCAACGTTGCA", background=False)
        >>> session.apply(Edit(3, 4, "A")).sequence
        'ACGATGCAACGTTGCA'
        >>> session.undo().sequence
        'ACGTTGCAACGTTGCA'
    """

    def __init__(
        self,
        seq: str | None = None,
        model: ModelLike = None,
        *,
        target: str | int | None = None,
        method: Method = "ism",
        stages: Sequence[Stage] = STAGES,
        background: bool = True,
    ) -> None:
        resolved = resolve_model(model)
        assert isinstance(resolved, nn.Module)
        self._original = resolved
        self._state = _state_of(resolved)
        self.model: Any = separate(resolved)
        self.target = resolve_target(resolved, 0 if target is None else target)
        self.method: Method = _checked_method(method)
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown:
            raise ValueError(f"`stages` must be of {STAGES}, but holds {unknown}.")
        bridged = has_exchange(resolved)
        self.stages = tuple(stage for stage in STAGES if stage in stages and (stage != "exchange" or bridged))
        self._source = str(model) if isinstance(model, (str, Path)) else _bundled_name(resolved)
        # Immediate requests use a copy of the modules, as the background thread uses the others. Weights are shared.
        self._at_once, self._scoring_lock = separate(resolved), threading.Lock()
        self.error: str | None = None
        self.selection: tuple[int, int] | None = None
        self.pinned: str | None = None
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Topic], None]] = []
        self._computing = Computing(self.model, background, self._computed)
        if seq is None:
            name = loci.fitting_example(lambda each: outside_training(resolved, each) is None)
            sequence = loci.example_sequence(name)
        else:
            name, sequence = parsed(seq)
        self._check_length(sequence)
        self._history = History(name, sequence)
        self._compute()

    # State

    @property
    def step(self) -> Step:
        """The current state."""
        return self._history.present

    @property
    def sequence(self) -> str:
        """The current sequence."""
        return self.step.sequence

    @property
    def name(self) -> str:
        """Name of the current sequence. It may be empty."""
        return self.step.name

    @property
    def wild_type(self) -> str:
        """The sequence before all edits."""
        return self._history.root.sequence

    @property
    def history(self) -> list[Step]:
        """All states from the first to the current one."""
        return self._history.steps

    @property
    def can_undo(self) -> bool:
        """Whether there is a state to go back to."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone state."""
        return self._history.can_redo

    @property
    def example(self) -> str | None:
        """Name of the example from which the current sequence was edited, or None."""
        return self.name if loci.example_sequences().get(self.name) == self.wild_type else None

    @property
    def by_strand(self) -> bool:
        """Whether the model has a separate path for each strand, so that attributions can be split by strand."""
        return capability(self.model, StrandPaths) is not None

    @property
    def outside_training(self) -> str | None:
        """Reason why the current sequence is outside the training range of the model, or None."""
        return outside_training(self.model, self.sequence)

    @property
    def target_name(self) -> str:
        """Name of the selected target."""
        name: str = self.model.targets[self.target]
        return name

    @property
    def busy(self) -> tuple[str, int, int] | None:
        """Progress of the current computation: (stage or work, units done, total units), or None."""
        return self._computing.busy

    @property
    def results(self) -> Results:
        """Results for the current sequence so far."""
        return self._known(self.sequence)

    @property
    def attribution(self) -> Attribution | Mutagenesis | None:
        """Attribution of the current sequence by the selected method, or None before it is computed."""
        result = self.results
        of_method: Attribution | Mutagenesis | None = getattr(
            result, "mutagenesis" if self.method == "ism" else self.method
        )
        return of_method

    @property
    def prediction(self) -> float | None:
        """Prediction of the target for the current sequence, or None before it is computed."""
        return self.prediction_of(self.sequence)

    def prediction_of(self, sequence: str) -> float | None:
        """Prediction of the target for a sequence of this session, or None if it is not computed."""
        scores = self._known(sequence).prediction
        return None if scores is None else float(scores[self.target])

    @property
    def comparison(self) -> Comparison | None:
        """The current and the pinned sequence compared. None without a pinned sequence or before both predictions."""
        if self.pinned is None:
            return None
        before, now = self.prediction_of(self.pinned), self.prediction
        if before is None or now is None:
            return None
        one, other = self._known(self.pinned).exchange, self.results.exchange
        through = None if one is None or other is None else other.effects.total - one.effects.total
        return Comparison(before, now, through)

    def _known(self, sequence: str) -> Results:
        return self._computing.known(Question(sequence, self.target, self._state))

    # Actions

    def apply(self, edit: Edit | tuple[int, int, str]) -> Session:
        """Apply an edit to the current sequence. Undone edits are lost."""

        def change() -> None:
            step = self._history.edited(edit)
            if step is not None:
                self._check_length(step.sequence)
                self._history.take(step)

        return self._do(change)

    def replace_sequence(self, text: str) -> Session:
        """Start with another sequence, given as bases or FASTA text. This can be undone."""

        def change() -> None:
            name, sequence = parsed(text)
            self._check_length(sequence)
            self._history.begin(name, sequence)

        return self._do(change)

    def load_example(self, name: str) -> Session:
        """Start with an example sequence. This can be undone."""
        return self._do(lambda: self._history.begin(name, loci.example_sequence(name)))

    def undo(self) -> Session:
        """Go back to the state before, if there is one."""
        return self._do(self._history.undo)

    def redo(self) -> Session:
        """Go to the state that was undone last, if there is one."""
        return self._do(self._history.redo)

    def reset(self) -> Session:
        """Undo all edits. They can be redone."""
        return self._do(self._history.reset)

    def pin(self) -> Session:
        """Pin the current sequence, to compare later sequences with it."""
        return self._do(lambda: setattr(self, "pinned", self.sequence))

    def unpin(self) -> Session:
        """Remove the pin."""
        return self._do(lambda: setattr(self, "pinned", None))

    def select(self, start: int | None = None, end: int | None = None) -> Session:
        """Select positions of the current sequence, 0-based half-open. Without arguments, clear the selection."""

        def change() -> None:
            if start is None or end is None:
                self.selection = None
                return
            if not 0 <= start < end <= len(self.sequence):
                raise ValueError(f"A selection must lie within 0 to {len(self.sequence)}, but is {start} to {end}.")
            self.selection = start, end

        return self._do(change, compute=False)

    def set_target(self, target: str | int) -> Session:
        """Select another target."""
        return self._do(lambda: setattr(self, "target", resolve_target(self.model, target)))

    def set_method(self, method: Method) -> Session:
        """Choose the attribution method."""
        return self._do(lambda: setattr(self, "method", _checked_method(method)))

    def ablate(
        self, start: int, end: int, *, direction: Direction = "both", side: Side = "receiver", sources: Any = None
    ) -> ExchangeAblation:
        """The prediction without the messages of a region of the current sequence. See `ablate_exchange`."""
        with self._scoring_lock, shown_elsewhere():
            return ablate_exchange(
                self.sequence, self._at_once, target=self.target, positions=range(start, end), direction=direction,
                side=side, sources=sources,
            )  # fmt: skip

    def cancel(self) -> Session:
        """Stop the computation. Results so far are kept."""
        self._computing.cancel()
        return self

    def wait(self, timeout: float | None = None) -> Session:
        """Wait until the computation has finished.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
        """
        if not self._computing.wait(timeout):
            raise TimeoutError(f"Still computing after {timeout} s.")
        return self

    def listen(self, listener: Callable[[Topic], None]) -> Callable[[], None]:
        """Call `listener` with a topic after each change. Returns a function that stops this.

        The calls come from the background thread or from the thread of a request.
        """
        self._listeners.append(listener)

        def leave() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return leave

    # Export

    def to_fasta(self) -> str:
        """The current sequence as FASTA text. The header lists the edits."""
        return self._history.to_fasta()

    def to_tsv(self) -> str:
        """The history as a table: step, description, start, end, ref, alt, length, prediction."""
        return self._history.to_tsv(self.prediction_of)

    def to_python(self) -> str:
        """Python code that creates the current sequence and predicts it."""
        return self._history.to_python(self._source, self.model.name, self.target)

    # Internals

    def _do(self, change: Callable[[], object], *, compute: bool = True) -> Session:
        """Make a change. If it fails, set `error` and change nothing."""
        with self._lock:
            before = self.step
            try:
                change()
                self.error = None
            except (ValueError, TypeError, MemoryError) as error:
                self.error = str(error)
            failed = self.error is not None
            if self.step is not before:
                self.selection = None
        if failed:
            self._notify("error")
            return self
        self._notify("state")
        if compute:
            self._compute()
        return self

    def _check_length(self, sequence: str) -> None:
        if len(sequence) > LONGEST:
            raise ValueError(f"An explorer takes up to {LONGEST:,} bases, but the sequence has {len(sequence):,}.")
        require_memory(self.model, resolve_batch_size(self.model, len(sequence), None), len(sequence))

    def _compute(self) -> None:
        with self._lock:
            self._follow_changes()
            unasked = {"gradient", "integrated_gradients"} - {self.method}
            stages = tuple(stage for stage in self.stages if stage not in unasked)
            wanted = [(Question(self.sequence, self.target, self._state), stages)]
            if self.pinned not in (None, self.sequence):
                compared = tuple(stage for stage in self.stages if stage in ("prediction", "exchange"))
                wanted.append((Question(self.pinned or "", self.target, self._state), compared))
        self._computing.ask(wanted)

    def _follow_changes(self) -> None:
        """Copy the model again if the caller has changed it. A copy may not share weights that were replaced."""
        if hooked(self._original):  # hooks do not reach the copies
            return
        state = _state_of(self._original)
        if state == self._state:
            return
        self._state = state
        with self._scoring_lock:
            self._at_once = separate(self._original)
        self.model = separate(self._original)
        self._computing.model = self.model

    def _computed(self, topic: str) -> None:
        if topic == "error":
            self.error = self._computing.error
        self._notify(topic)  # type: ignore[arg-type]  # stages are topics

    def _notify(self, topic: Topic) -> None:
        for listener in list(self._listeners):
            listener(topic)


def _state_of(model: nn.Module) -> str:
    """Changes with everything that changes the scores of a model."""
    tensors = (*model.parameters(), *model.buffers())
    versions = sum(tensor._version for tensor in tensors if not tensor.is_inference())
    return f"{fingerprint(model).digest} {versions}"


def _bundled_name(model: Any) -> str | None:
    """Name for `load_model` if a model is a bundled one, as it is loaded by default. "" for the default model."""
    if model.name not in list_models():
        return None
    name = "" if model.name == list_models()[0] else str(model.name)
    same: Any = resolve_model(name or None)
    return name if fingerprint(same).digest == fingerprint(model).digest else None


def _checked_method(method: Method) -> Method:
    if method not in get_args(Method):
        raise ValueError(f"`method` must be one of {get_args(Method)}, but got {method!r}.")
    return method
