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
from crossdna_interpret.models.protocols import ModelLike, StrandPaths, capability
from crossdna_interpret.models.registry import resolve_model
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
LONGEST = 5000  # bases; more cannot be drawn letter by letter


@dataclass(frozen=True)
class Comparison:
    """The present sequence against the pinned one, in the units of the target.

    Attributes:
        pinned: prediction for the pinned sequence.
        present: for the present one.
        through_exchange: how much of the difference is a difference of the effects of exchange; None if not known.
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
    """Names of the example loci that a session can load."""
    return loci.example_names()


class Session:
    """One sequence, its edits and its results.

    Results come in order: the prediction first, then attributions, then maps. A new request replaces the one that is
    being computed.

    Args:
        seq: a sequence, FASTA text, or None for the first example locus.
        model: a model, a name or path for `load_model`, or None for the bundled model. The session works on a copy of
            it, so that hooks and threads of others do not meet.
        target: name or number of the target; the first if not given.
        method: what attributions are from.
        stages: what is computed: of "prediction", "gradient" and "integrated_gradients" (each where that is the
            method), "mutagenesis" and "exchange".
        background: whether to compute in a thread; otherwise each change returns when all is computed.

    Attributes:
        error: why the last request was not possible, or None.
        selection: positions of the present sequence, 0-based half-open, or None.
        pinned: the sequence to compare with, or None.

    Raises:
        ValueError, TypeError, MemoryError: a bad sequence, model, target, method or stage.

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
        self.model: Any = separate(resolved)
        self.target = resolve_target(resolved, 0 if target is None else target)
        self.method: Method = _checked_method(method)
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown:
            raise ValueError(f"`stages` must be of {STAGES}, but holds {unknown}.")
        bridged = has_exchange(resolved)
        self.stages = tuple(stage for stage in STAGES if stage in stages and (stage != "exchange" or bridged))
        self._given = str(model) if isinstance(model, (str, Path)) else None
        # Immediate requests use modules of their own, beside those of the background thread. Weights are shared.
        self._at_once, self._asking = separate(resolved), threading.Lock()
        self.error: str | None = None
        self.selection: tuple[int, int] | None = None
        self.pinned: str | None = None
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Topic], None]] = []
        self._computing = Computing(self.model, background, self._computed)
        example = loci.example() if seq is None else None
        name, sequence = (example.name, example.sequence) if example else parsed(seq or "")
        self._check_length(sequence)
        self._history = History(name, sequence)
        self._compute()

    # What is there

    @property
    def step(self) -> Step:
        """The present state."""
        return self._history.present

    @property
    def sequence(self) -> str:
        """The present sequence."""
        return self.step.sequence

    @property
    def name(self) -> str:
        """Name of the present sequence; may be empty."""
        return self.step.name

    @property
    def wild_type(self) -> str:
        """The sequence before all edits."""
        return self._history.root.sequence

    @property
    def history(self) -> list[Step]:
        """All states from the first to the present one."""
        return self._history.steps

    @property
    def can_undo(self) -> bool:
        """Whether there is a state before."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether a state has been undone."""
        return self._history.can_redo

    @property
    def example(self) -> str | None:
        """Name of the example locus that the present sequence has come from by edits; None if it has not."""
        name = self.name
        known = name in loci.example_names() and loci.example(name).sequence == self.wild_type
        return name if known else None

    @property
    def by_strand(self) -> bool:
        """Whether the model reads each strand by a path of its own, so that attributions can be split by strand."""
        return capability(self.model, StrandPaths) is not None

    @property
    def _weights(self) -> int:
        """How often weights have been changed in place: they are the caller's, who may go on training."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return sum(tensor._version for tensor in tensors if not tensor.is_inference())

    @property
    def outside_training(self) -> str | None:
        """In what respect the present sequence lies outside of what the model was trained on; None if it does not."""
        return outside_training(self.model, self.sequence)

    @property
    def target_name(self) -> str:
        """Name of the target that is shown."""
        name: str = self.model.targets[self.target]
        return name

    @property
    def busy(self) -> tuple[str, int, int] | None:
        """What is being computed: stage or work, units done, units in all; or None."""
        return self._computing.busy

    @property
    def results(self) -> Results:
        """Results for the present sequence so far."""
        return self._known(self.sequence)

    @property
    def attribution(self) -> Attribution | Mutagenesis | None:
        """Attribution of the present sequence by the chosen method; None until it is computed."""
        result = self.results
        of_method: Attribution | Mutagenesis | None = getattr(
            result, "mutagenesis" if self.method == "ism" else self.method
        )
        return of_method

    @property
    def prediction(self) -> float | None:
        """Prediction of the target for the present sequence; None until it is computed."""
        return self.prediction_of(self.sequence)

    def prediction_of(self, sequence: str) -> float | None:
        """Prediction of the target for a sequence of this session; None if it is not computed."""
        scores = self._known(sequence).prediction
        return None if scores is None else float(scores[self.target])

    @property
    def comparison(self) -> Comparison | None:
        """The present sequence against the pinned one; None without a pinned one, or until both are predicted."""
        if self.pinned is None:
            return None
        before, now = self.prediction_of(self.pinned), self.prediction
        if before is None or now is None:
            return None
        one, other = self._known(self.pinned).exchange, self.results.exchange
        through = None if one is None or other is None else other.effects.total - one.effects.total
        return Comparison(before, now, through)

    def _known(self, sequence: str) -> Results:
        return self._computing.known(Question(sequence, self.target, self._weights))

    # What can be done

    def apply(self, edit: Edit | tuple[int, int, str]) -> Session:
        """Replace a stretch of the present sequence. Undone edits can no longer be redone."""

        def change() -> None:
            step = self._history.edited(edit)
            if step is not None:
                self._check_length(step.sequence)
                self._history.take(step)

        return self._do(change)

    def replace_sequence(self, text: str) -> Session:
        """Begin with another sequence, given as bases or as FASTA text; can be undone."""

        def change() -> None:
            name, sequence = parsed(text)
            self._check_length(sequence)
            self._history.begin(name, sequence)

        return self._do(change)

    def load_example(self, name: str) -> Session:
        """Begin with an example locus; can be undone."""
        return self._do(lambda: self._history.begin(name, loci.example(name).sequence))

    def undo(self) -> Session:
        """Back to the state before, if there is one."""
        return self._do(self._history.undo)

    def redo(self) -> Session:
        """To the state that was undone last, if there is one."""
        return self._do(self._history.redo)

    def reset(self) -> Session:
        """Undo all edits; they can be redone."""
        return self._do(self._history.reset)

    def pin(self) -> Session:
        """Pin the present sequence: later ones are compared with it."""
        return self._do(lambda: setattr(self, "pinned", self.sequence))

    def unpin(self) -> Session:
        """Remove the pin."""
        return self._do(lambda: setattr(self, "pinned", None))

    def select(self, start: int | None = None, end: int | None = None) -> Session:
        """Select positions of the present sequence, 0-based half-open; nothing without arguments."""

        def change() -> None:
            if start is None or end is None:
                self.selection = None
                return
            if not 0 <= start < end <= len(self.sequence):
                raise ValueError(f"A selection must lie within 0 to {len(self.sequence)}, but is {start} to {end}.")
            self.selection = start, end

        return self._do(change, compute=False)

    def set_target(self, target: str | int) -> Session:
        """Show another target."""
        return self._do(lambda: setattr(self, "target", resolve_target(self.model, target)))

    def set_method(self, method: Method) -> Session:
        """Choose the attribution method."""
        return self._do(lambda: setattr(self, "method", _checked_method(method)))

    def ablate(
        self, start: int, end: int, *, direction: Direction = "both", side: Side = "receiver", sources: Any = None
    ) -> ExchangeAblation:
        """The prediction without the messages of a region of the present sequence; see `ablate_exchange`."""
        with self._asking, shown_elsewhere():
            return ablate_exchange(
                self.sequence, self._at_once, target=self.target, positions=range(start, end), direction=direction,
                side=side, sources=sources,
            )  # fmt: skip

    def cancel(self) -> Session:
        """Stop computing; results so far stay."""
        self._computing.cancel()
        return self

    def wait(self, timeout: float | None = None) -> Session:
        """Until nothing is being computed.

        Raises:
            TimeoutError: that took longer than `timeout` seconds.
        """
        if not self._computing.wait(timeout):
            raise TimeoutError(f"Still computing after {timeout} s.")
        return self

    def listen(self, listener: Callable[[Topic], None]) -> Callable[[], None]:
        """Call `listener` with a topic at each change; returns a function that stops this.

        It is called from the background thread, or from the thread of a request.
        """
        self._listeners.append(listener)

        def leave() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return leave

    # What comes out

    def to_fasta(self) -> str:
        """The present sequence as FASTA text; the header lists the edits."""
        return self._history.to_fasta()

    def to_tsv(self) -> str:
        """The history as a table: step, what was done, start, end, ref, alt, length, prediction."""
        return self._history.to_tsv(self.prediction_of)

    def to_python(self) -> str:
        """Python code that makes the present sequence again and predicts it."""
        return self._history.to_python(self._given, self.model.name, self.target)

    # How it is done

    def _do(self, change: Callable[[], object], *, compute: bool = True) -> Session:
        """Make a change. If it is not possible, set `error` and change nothing."""
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
            self._tell("error")
            return self
        self._tell("state")
        if compute:
            self._compute()
        return self

    def _check_length(self, sequence: str) -> None:
        if len(sequence) > LONGEST:
            raise ValueError(f"An explorer takes up to {LONGEST:,} bases, but the sequence has {len(sequence):,}.")
        require_memory(self.model, resolve_batch_size(self.model, len(sequence), None), len(sequence))

    def _compute(self) -> None:
        with self._lock:
            unasked = {"gradient", "integrated_gradients"} - {self.method}
            stages = tuple(stage for stage in self.stages if stage not in unasked)
            wanted = [(Question(self.sequence, self.target, self._weights), stages)]
            if self.pinned not in (None, self.sequence):
                compared = tuple(stage for stage in self.stages if stage in ("prediction", "exchange"))
                wanted.append((Question(self.pinned or "", self.target, self._weights), compared))
        self._computing.ask(wanted)

    def _computed(self, topic: str) -> None:
        if topic == "error":
            self.error = self._computing.error
        self._tell(topic)  # type: ignore[arg-type]  # stages are topics

    def _tell(self, topic: Topic) -> None:
        for listener in list(self._listeners):
            listener(topic)


def _checked_method(method: Method) -> Method:
    if method not in get_args(Method):
        raise ValueError(f"`method` must be one of {get_args(Method)}, but got {method!r}.")
    return method
