"""The state of the explorer, without a display."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.strand_symmetry import symmetrized
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.session import Session

SEQUENCE = "GATTACAGCCATTGACCGTATCAG"


class Counting(nn.Module):
    """Counts A, without strands and bridge. It can be made to wait, and records its inputs."""

    targets, name, device, dtype = ("count",), "counting", torch.device("cpu"), torch.float64

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0].sum(-1, keepdim=True)


class Gated(Counting):
    """Waits at a gate for as long as it is shut."""

    gate = threading.Event()
    asked: list[str] = []  # noqa: RUF012  # sequences; of the copy that the session works on, too

    def forward(self, x: Tensor) -> Tensor:
        self.asked += ["".join("ACGTN"[base] for base in row) for row in x.argmax(1).tolist()]
        assert self.gate.wait(20)
        return super().forward(x)


@pytest.fixture
def session() -> Session:
    return Session(SEQUENCE, Counting(), background=False)


@pytest.fixture
def gated() -> Gated:
    Gated.gate.clear()
    Gated.asked.clear()
    return Gated()


def test_everything_is_computed_in_order(model: CrossDNA) -> None:
    stages = ("exchange", "prediction", "integrated_gradients", "mutagenesis")  # in whatever order they are named
    session = Session(SEQUENCE, model, background=False, stages=stages)
    report: list[str] = []
    session.listen(report.append)
    session.apply(Edit(3, 4, "G"))
    changed = f"{SEQUENCE[:3]}G{SEQUENCE[4:]}"
    result = session.results
    assert [topic for topic in report if topic not in ("busy", "state")] == ["prediction", "mutagenesis", "exchange"]
    assert session.sequence == changed
    np.testing.assert_allclose(result.prediction, cdi.predict(changed, model)[0], rtol=0, atol=1e-6)
    reverse = cdi.predict(cdi.reverse_complement(changed), model)[0]
    np.testing.assert_allclose(result.reverse_prediction, reverse, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.mutagenesis.predictions, cdi.ism(changed, model).predictions)
    assert session.attribution is result.mutagenesis
    assert result.exchange.effects == cdi.strand_exchange(changed, model).effects


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")  # random weights are rough
def test_another_method_is_computed_on_top(model: CrossDNA) -> None:
    session = Session(SEQUENCE, model, background=False)
    report: list[str] = []
    session.listen(report.append)
    session.set_method("integrated_gradients")
    assert [topic for topic in report if topic not in ("busy", "state")] == ["integrated_gradients"]
    assert isinstance(session.attribution, cdi.Attribution)
    assert isinstance(session.set_method("ism").attribution, cdi.Mutagenesis)
    np.testing.assert_array_equal(
        session.set_method("gradient").attribution.values, cdi.input_gradient(SEQUENCE, model).values
    )


def test_undo_and_redo(session: Session) -> None:
    session.apply((0, 1, "A")).apply((5, 8, "")).apply((2, 2, "CC"))
    assert session.sequence == "AACCTTAGCCATTGACCGTATCAG"[:2] + "CC" + ("A" + SEQUENCE[1:5] + SEQUENCE[8:])[2:]
    last = session.sequence
    assert (session.can_undo, session.can_redo) == (True, False)
    assert session.undo().undo().sequence == "A" + SEQUENCE[1:]
    assert (session.can_undo, session.can_redo) == (True, True)
    assert session.redo().redo().sequence == last
    assert session.redo().sequence == last
    assert session.undo().apply((0, 1, "T")).can_redo is False
    assert session.reset().sequence == SEQUENCE == session.wild_type
    assert session.undo().sequence == SEQUENCE
    assert session.prediction == SEQUENCE.count("A")


def test_bases_know_where_they_come_from(session: Session) -> None:
    assert session.apply((4, 5, "C")).step.origin.tolist() == list(range(24))
    assert session.apply((2, 4, "")).step.origin.tolist() == [0, 1, *range(4, 24)]
    assert session.apply((1, 1, "GG")).step.origin.tolist()[:5] == [0, -1, -1, 1, 4]
    assert session.apply((0, 2, "AAA")).step.origin.tolist()[:5] == [-1, -1, -1, -1, 1]


def test_what_changes_nothing_is_no_step(session: Session) -> None:
    session.apply((0, 1, "G"))
    assert not session.can_undo


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.apply((30, 31, "A")), "ends at 31, but the sequence has 24 bases"),
        (lambda s: s.apply((0, 24, "")), "leaves no base"),
        (lambda s: s.apply((0, 1, "X")), "X"),
        (lambda s: s.replace_sequence("ACGT!"), "!"),
        (lambda s: s.replace_sequence("  \n"), "got nothing"),
        (lambda s: s.replace_sequence(">a\nAC\n>b\nGT"), "one FASTA record, but got 2"),
        (lambda s: s.replace_sequence("AC\n>b\nGT"), "begin with its header"),
        (lambda s: s.replace_sequence("A" * 5001), "up to 5,000 bases, but the sequence has 5,001"),
        (lambda s: s.load_example("strong-enhancr"), "strong-enhancer"),
        (lambda s: s.select(5, 90), "must lie within 0 to 24"),
        (lambda s: s.set_target("x"), "unknown to counting"),
        (lambda s: s.set_method("magic"), "`method` must be one of"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(session: Session, ask: Callable, message: str) -> None:
    session.apply((0, 1, "A"))
    before = session.sequence, session.prediction, session.selection, session.target, session.method
    report: list[str] = []
    session.listen(report.append)
    ask(session)
    assert message in session.error
    assert report == ["error"]
    assert before == (session.sequence, session.prediction, session.selection, session.target, session.method)
    session.undo()
    assert session.error is None


def test_sequences_come_as_fasta_or_bare(session: Session) -> None:
    assert session.replace_sequence(">mine  of my own\nacgu\nNN ac\n").sequence == "ACGTNNAC"
    assert session.name == "mine"
    assert session.wild_type == "ACGTNNAC"
    assert session.to_fasta() == ">mine\nACGTNNAC\n"
    session.apply((0, 1, "G")).apply((4, 6, ""))
    assert session.to_fasta() == ">mine A0G; deleted NN (2 bp) at 4\nGCGTAC\n"
    assert session.undo().undo().undo().sequence == SEQUENCE
    assert session.replace_sequence("acgtac").name == ""
    assert session.load_example("silencer").sequence == cdi.example("silencer").sequence
    assert session.load_example("TERT-C228T").sequence == cdi.example_variants()["TERT-C228T"].window(145)[0]
    assert session.example == "TERT-C228T"


def test_the_first_example_is_one_that_the_model_was_trained_for(make_model: Callable[..., CrossDNA]) -> None:
    model = make_model()
    model.training_range = TrainingRange(80, 80, "ACGT", (0.0, 1.0), 0.0)
    assert Session(model=model, stages=["prediction"], background=False).name == "yeast-strong-promoter"


def test_the_history_can_be_taken_along(session: Session) -> None:
    session.apply((2, 3, "A")).apply((4, 6, "")).apply((0, 0, "GG"))
    rows = [line.split("\t") for line in session.to_tsv().splitlines()]
    assert rows[0] == ["step", "done", "start", "end", "ref", "alt", "length", "prediction"]
    assert rows[2] == ["1", "T2A", "2", "3", "T", "A", "24", "8"]
    assert rows[3][2:7] == ["4", "6", "AC", "", "22"]
    assert rows[4][2:7] == ["0", "0", "", "GG", "24"]
    code = session.to_python()
    names: dict = {}
    exec(code.split("model =")[0], names)
    assert names["sequence"] == session.sequence
    session.undo()
    assert len(session.to_tsv().splitlines()) == 4


def test_a_pin_is_compared_with(model: CrossDNA) -> None:
    session = Session(SEQUENCE, model, background=False)
    assert session.comparison is None
    session.pin().apply((8, 9, "T"))
    result = session.comparison
    one, other = (cdi.strand_exchange(seq, model).effects for seq in (SEQUENCE, session.sequence))
    assert result.change == pytest.approx(other.both - one.both, abs=1e-6)
    assert result.through_exchange == pytest.approx(other.total - one.total, abs=1e-12)
    text = f"{result.change:+.2f} against the pinned sequence, of which {result.through_exchange:+.2f} through exchange"
    assert str(result) == text
    assert session.unpin().comparison is None


def test_a_region_is_silenced(model: CrossDNA) -> None:
    session = Session(SEQUENCE, model, background=False)
    expected = cdi.ablate_exchange(SEQUENCE, model, positions=range(4, 9), side="sender")
    assert session.ablate(4, 9, side="sender").prediction == expected.prediction


@pytest.mark.slow
def test_a_region_can_be_silenced_while_results_are_computed() -> None:
    """Both would use one model at the same time, and kernels are active only in the context of a computation."""
    session = Session(SEQUENCE * 8, background=False, stages=("mutagenesis",))
    result: list[float] = []

    def in_the_middle(topic: str) -> None:
        if topic == "busy" and session.busy is not None and session.busy[1]:
            result.append(session.ablate(4, 9).prediction)

    session.listen(in_the_middle)
    session.apply(Edit(0, 1, "T"))
    assert session.error is None
    assert result
    expected = cdi.ablate_exchange(session.sequence, positions=range(4, 9)).prediction
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_code_loads_the_model_that_was_given(model: CrossDNA) -> None:
    own = Session(SEQUENCE, Counting(), background=False).to_python()
    assert "load_model" not in own
    assert "model = your_model  # put the model counting here: this code cannot load it" in own
    assert "load_model()  # retina-enhancer" in Session(SEQUENCE, background=False, stages=()).to_python()
    assert "load_model()  # retina" in Session(SEQUENCE, cdi.load_model(), background=False, stages=()).to_python()
    chosen = cdi.select_targets(cdi.load_model(), 0)
    assert "load_model" not in Session(SEQUENCE, chosen, background=False, stages=()).to_python()
    exact = cdi.load_model(dtype="float64")
    assert "load_model" not in Session(SEQUENCE, exact, background=False, stages=()).to_python()
    named = Session(SEQUENCE, "retina-enhancer", background=False, stages=("prediction",))
    assert "model = cdi.load_model('retina-enhancer')  # retina-enhancer" in named.to_python()


def test_a_model_without_a_bridge_has_no_exchange(session: Session, make_model: Callable) -> None:
    assert session.stages == ("prediction", "gradient", "integrated_gradients", "mutagenesis")
    session.pin().apply((0, 1, "A"))
    assert session.comparison.through_exchange is None
    assert str(session.comparison) == "+1.00 against the pinned sequence"
    assert Session(SEQUENCE, make_model(use_bridge=False), background=False).results.exchange is None


def test_the_newest_request_wins(gated: Gated) -> None:
    session = Session("A" * 10, gated, stages=("prediction",))
    until = time.monotonic() + 20
    while not gated.asked and time.monotonic() < until:  # the first request has begun
        time.sleep(0.001)
    for at in range(9):
        session.apply((at, at + 1, "C"))
    assert session.prediction is None
    assert session.sequence == "C" * 9 + "A"
    gated.gate.set()
    session.wait(20)
    assert session.prediction == 1
    # What had begun, and of the rest only the newest.
    assert {"C" * done + "A" * (10 - done) for done in range(10)} & set(gated.asked) <= {"A" * 10, "C" * 9 + "A"}
    assert session.undo().wait(20).prediction == 2


def test_work_can_be_cancelled(gated: Gated) -> None:
    session = Session("ACGT" * 30, gated)
    session.cancel()
    gated.gate.set()
    session.wait(20)
    assert session.results.mutagenesis is None
    assert session.busy is None
    assert session.apply((0, 1, "C")).wait(20).results.mutagenesis is not None


def test_waiting_has_an_end(gated: Gated) -> None:
    session = Session(SEQUENCE, gated)
    with pytest.raises(TimeoutError, match=r"Still computing after 0\.01 s"):
        session.wait(0.01)
    gated.gate.set()
    session.wait(20)


def test_progress_is_told(model: CrossDNA) -> None:
    session = Session("ACGT" * 6, model, background=False, stages=("prediction",))
    seen: list = []
    session.listen(lambda topic: seen.append(session.busy) if topic == "busy" else None)
    session.stages = ("prediction", "mutagenesis")
    session.apply((0, 1, "C"))
    assert ("ism", 72, 72) in seen
    assert seen[-1] is None


def test_what_goes_wrong_in_the_background_is_said(session: Session) -> None:
    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("the machine is out of order")

    session.model.forward = fail
    session.apply((0, 1, "A"))
    assert session.error == "RuntimeError: the machine is out of order"
    del session.model.forward
    assert session.apply((1, 2, "C")).error is None
    assert session.prediction is not None


def test_hooks_of_others_do_not_reach_it(model: CrossDNA) -> None:
    session = Session(SEQUENCE, model, background=False)
    with cdi.intervene(model, {"head.out": lambda value, where: 0 * value}):
        session.apply((0, 1, "A"))
    assert session.prediction != 0


def test_selections_end_with_an_edit(session: Session) -> None:
    assert session.select(3, 6).selection == (3, 6)
    assert session.apply((0, 1, "A")).selection is None
    assert session.select(3, 6).select().selection is None


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="`stages` must be of"):
        Session(SEQUENCE, Counting(), stages=("magic",))
    with pytest.raises(ValueError, match="`method` must be one of"):
        Session(SEQUENCE, Counting(), method="magic")
    with pytest.raises(ValueError, match="up to 5,000 bases"):
        Session("A" * 5001, Counting())


def test_listeners_can_leave(session: Session) -> None:
    report: list[str] = []
    leave = session.listen(report.append)
    leave()
    session.apply((0, 1, "A"))
    assert report == []


def test_weights_that_were_changed_since_give_other_answers(model: CrossDNA) -> None:
    session = Session(SEQUENCE, model, background=False)
    before = session.prediction
    with torch.no_grad():
        model.head.linear.bias += 1
    session.apply((0, 1, "G"))
    session.undo()
    assert session.prediction == pytest.approx(before + 1, abs=1e-5)


def test_a_session_holds_no_weights_of_its_own(model: CrossDNA) -> None:
    session = Session(SEQUENCE, model, background=False)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    for held in (session.model, session._at_once):
        assert held is not model
        assert {parameter.data_ptr() for parameter in held.parameters()} == own


@pytest.mark.parametrize("change", ["assigned", "data", "replaced"])
def test_weights_that_were_replaced_give_other_answers(change: str, make_model: Callable[..., CrossDNA]) -> None:
    model, other = make_model(), make_model(seed=1)
    session = Session(SEQUENCE, model, background=False, stages=("prediction",))
    before = session.prediction
    if change == "assigned":
        model.load_state_dict(other.state_dict(), assign=True)
    elif change == "data":
        model.head.linear.weight.data.mul_(3)
    else:
        model.head.linear.weight = torch.nn.Parameter(3 * model.head.linear.weight, requires_grad=False)
    session.apply((0, 1, "C")).undo()
    expected = float(cdi.predict(session.sequence, model)[0, 0])
    assert session.prediction == pytest.approx(expected, abs=1e-5)
    assert session.prediction != before


def test_symmetry_is_judged_again_after_a_change(make_model: Callable[..., CrossDNA]) -> None:
    model = make_model(block_size=None)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(symmetrized(own, keep="branch_a"))
    session = Session(SEQUENCE, model, background=False, stages=("prediction",))
    assert session.results.symmetric.tolist() == [True]
    model.load_state_dict(own)
    session.apply((0, 1, "C")).undo()
    assert session.results.symmetric.tolist() == [False]


def test_a_compiled_model_is_explored_as_it_is() -> None:
    class Own(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * torch.tensor([1.0, 10.0, 100.0, 1000.0])[:, None]).sum((1, 2))

    model = torch.compile(cdi.wrap(Own().eval(), "TGCA", length=4), backend="eager")
    session = Session("ACGT", model, background=False)  # type: ignore[arg-type]
    assert session.prediction == 1111
    session.apply((0, 1, "C"))
    assert session.prediction == 100 + 100 + 10 + 1
