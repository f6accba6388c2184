"""hooks: reading and replacing values inside a model."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crossdna_interpret import ism, predict
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.hooks import HookPoint, capture, hook_names, intervene
from crossdna_interpret.models.spans import Locus

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

LENGTH = 60  # three blocks of 24, the last one short

LAYER = ["comba", "attention", "mlp", "out"]
NAMES = [
    "stem.forward",
    "stem.reverse",
    *(f"branch_{side}.layers.{i}.{point}" for side in "ab" for i in range(2) for point in LAYER),
    *(f"branch_{side}.out" for side in "ab"),
    *(f"bridge.{point}_{side}" for point in ("context", "gate", "out") for side in "ab"),
    *(f"bridge.{point}_{way}" for point in ("message", "global") for way in ("a_to_b", "b_to_a")),
    *(f"fusion.{point}" for point in ("gate", "gate_logits", "out")),
    "head.pooled",
    "head.out",
]


def forward_hooks(model: nn.Module) -> dict[str, int]:
    """Modules that have a forward hook, which none should after a ``with``."""
    return {path: len(module._forward_hooks) for path, module in model.named_modules() if module._forward_hooks}


@pytest.fixture
def x(model: CrossDNA, make_sequence: MakeSequence) -> Tensor:
    return model.one_hot([make_sequence(LENGTH, 1), make_sequence(LENGTH, 2, n_at=(7, 40))])


# What is there


def test_the_names_are_the_contract(model: CrossDNA) -> None:
    assert sorted(hook_names(model)) == sorted(NAMES)


def test_what_a_model_lacks_it_does_not_offer(make_model: Make) -> None:
    plain = make_model(targets=(), use_bridge=False)
    assert sorted(hook_names(plain)) == sorted(name for name in NAMES if not name.startswith(("bridge.", "head.")))
    with pytest.raises(ValueError, match=r"No hook matches 'bridge\.\*'"), capture(plain, "bridge.*"):
        pass


def test_declared_shapes_hold(make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model(targets=("one", "two", "three"))
    n, width = 2, model.config.d_model
    with capture(model) as acts:
        model(model.one_hot([make_sequence(LENGTH, 1), make_sequence(LENGTH, 2)]))
    expected: dict[str, list[tuple[int, ...]]] = {
        "stem.forward": [(n, LENGTH, width)],
        "stem.reverse": [(n, LENGTH, width)],
        "head.pooled": [(n, width)],
        "head.out": [(n, 3)],
    }
    for name in NAMES:
        width_of_block = 1 if ".global_" in name else None
        blocks = [(n, width_of_block or length, width) for length in (24, 24, 12)]
        assert [tuple(act.value.shape) for act in acts[name]] == expected.get(name, blocks), name


def test_gates_are_in_zero_to_one_and_logits_are_not(model: CrossDNA, x: Tensor) -> None:
    with capture(model, "*gate*") as acts:
        model(x)
    for name in ("bridge.gate_a", "bridge.gate_b", "fusion.gate"):
        assert all(((act.value > 0) & (act.value < 1)).all() for act in acts[name]), name
    for logits, gate in zip(acts["fusion.gate_logits"], acts["fusion.gate"], strict=True):
        assert torch.equal(torch.sigmoid(logits.value / model.config.gate_temp), gate.value)


def subject(name: str) -> str:
    """The branch whose features a value of a branch or of the bridge is about."""
    if name.startswith("branch_"):
        return name.removeprefix("branch_")[0]
    if name.startswith("bridge.global_"):  # computed from the sender alone
        return name.removeprefix("bridge.global_")[0]
    return name[-1]  # a message is at the positions of its receiver, at which it is added


@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_metadata_name_block_strand_and_stretch(make_model: Make, make_sequence: MakeSequence, rc_blocks: str) -> None:
    model = make_model(rc_blocks=rc_blocks)
    with capture(model) as acts:
        model(model.one_hot(make_sequence(LENGTH)))
    forward = [(0, 24), (24, 48), (48, 60)]
    reverse = forward if rc_blocks == "aligned" else [(36, 60), (12, 36), (0, 12)]
    for name, seen in acts.items():
        for t, act in enumerate(seen):
            assert act.name == name
            if name.startswith("stem."):
                strand = name.removeprefix("stem.")
                assert act.where == Locus(strand, 0, LENGTH, descending=strand == "reverse")
                continue
            if name.startswith("head."):
                assert act.where == Locus("both", 0, LENGTH)
                continue
            if name.startswith("fusion."):
                assert act.where == Locus("both", *forward[t], block=t)
                continue
            on_reverse = (subject(name) == "b") == (t % 2 == 0)
            strand, stretch = ("reverse", reverse[t]) if on_reverse else ("forward", forward[t])
            own_order = on_reverse and name.startswith("branch_")  # the bridge works in the order of the sequence
            assert act.where == Locus(strand, *stretch, descending=own_order, block=t), name


# What hooking does not change


def test_hooked_and_unhooked_outputs_are_equal_to_the_bit(model: CrossDNA, x: Tensor) -> None:
    plain = model(x)
    with capture(model) as acts:
        hooked = model(x)
    assert torch.equal(plain, hooked)
    assert torch.equal(acts["head.out"][0].value, plain)
    assert torch.equal(model(x), plain)


def test_an_edit_that_returns_its_input_changes_nothing(model: CrossDNA, x: Tensor) -> None:
    plain, embedded = model(x), model.represent(x, reverse_complement(x))
    calls = []

    def keep(value: Tensor, where: Any) -> Tensor:
        calls.append(where)
        return value

    with intervene(model, {"*": keep}):
        assert torch.equal(model(x), plain)
        assert torch.equal(model.represent(x, reverse_complement(x)), embedded)
    assert len(calls) > len(NAMES)
    assert torch.equal(model(x), plain)


def test_neither_touches_weights_or_mode(model: CrossDNA, x: Tensor) -> None:
    state = copy.deepcopy(model.state_dict())
    with intervene(model, {"bridge.*": lambda value, where: value * 2}), capture(model):
        model(x)
    assert not model.training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("enter", [capture, lambda model: intervene(model, {"*": lambda value, where: value})])
def test_hooks_are_gone_after_the_body_raised(
    model: CrossDNA, x: Tensor, enter: Callable[[nn.Module], AbstractContextManager[Any]]
) -> None:
    def body() -> None:
        with enter(model):
            model(x)
            assert forward_hooks(model)  # so that the check below has something to miss
            raise KeyError("from the body")

    with pytest.raises(KeyError, match="from the body"):
        body()
    assert not forward_hooks(model)


def test_hooks_are_gone_after_an_edit_raised(model: CrossDNA, x: Tensor) -> None:
    plain = model(x)

    def fail(value: Tensor, where: Any) -> Tensor:
        raise ArithmeticError("from the edit")

    with pytest.raises(ArithmeticError, match="from the edit"), capture(model), intervene(model, {"fusion.out": fail}):
        model(x)
    assert not forward_hooks(model)
    assert torch.equal(model(x), plain)


def test_hooks_are_gone_when_one_of_several_patterns_is_wrong(model: CrossDNA) -> None:
    with pytest.raises(ValueError), capture(model, "stem.*", "nowhere"):
        pass
    with pytest.raises(ValueError), intervene(model, {"stem.*": lambda value, where: value, "nowhere": lambda v, w: v}):
        pass
    assert not forward_hooks(model)


def test_other_people_s_hooks_stay(model: CrossDNA, x: Tensor) -> None:
    seen = []
    handle = model.fusion.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with capture(model), intervene(model, {"*": lambda value, where: value}):
        model(x)
    assert forward_hooks(model) == {"fusion": 1}
    assert len(seen) == 3
    handle.remove()


# Capture


def test_capture_records_the_value_itself_and_only_inside_the_with(model: CrossDNA, x: Tensor) -> None:
    with capture(model, "head.out") as acts:
        assert acts["head.out"] == []
        first = model(x)
        second = model(x[:1])
    model(x)
    assert [act.value is out for act, out in zip(acts["head.out"], (first, second), strict=True)] == [True, True]


def test_capture_takes_names_and_patterns_each_once(model: CrossDNA, x: Tensor) -> None:
    with capture(model, "fusion.*", "fusion.out", "head.pooled") as acts:
        model(x)
    assert list(acts) == [*(name for name in hook_names(model) if name.startswith("fusion.")), "head.pooled"]
    assert len(acts) == 4
    assert len(acts["fusion.out"]) == 3
    with capture(model) as everything:
        pass
    assert list(everything) == hook_names(model)


def test_an_uncaptured_name_lists_near_matches(model: CrossDNA) -> None:
    with capture(model, "fusion.*") as acts:
        pass
    with pytest.raises(KeyError, match=r"No captured hook matches 'fusion.gates'.*Near matches: .*fusion\.gate"):
        acts["fusion.gates"]


@pytest.mark.parametrize(
    "enter", [lambda m, name: capture(m, name), lambda m, name: intervene(m, {name: lambda v, w: v})]
)
def test_an_unknown_pattern_lists_near_matches(model: CrossDNA, enter: Callable[..., Any]) -> None:
    with (
        pytest.raises(ValueError, match=r"No hook matches 'bridge.mesage_b_to_a'.*Near.*bridge\.message_b_to_a"),
        enter(model, "bridge.mesage_b_to_a"),
    ):
        pass
    with pytest.raises(ValueError, match=f"'0123456789'. There are {len(NAMES)}, such as "), enter(model, "0123456789"):
        pass


@pytest.mark.parametrize("pattern", [3, None, ["fusion.out"]])
def test_a_pattern_must_be_a_string(model: CrossDNA, pattern: object) -> None:
    with pytest.raises(TypeError, match=f"pattern must be a string.*{type(pattern).__name__}"):
        capture(model, pattern).__enter__()  # type: ignore[arg-type]


def test_captured_values_stay_in_the_graph(model: CrossDNA, x: Tensor) -> None:
    with capture(model, "fusion.out") as acts:
        x = x.clone().requires_grad_()
        out = model(x)
    (gradient,) = torch.autograd.grad(out.sum(), acts["fusion.out"][1].value)
    assert gradient.abs().sum() > 0


# Edit


def test_zero_messages_are_those_of_a_bridge_without_weights(model: CrossDNA, x: Tensor) -> None:
    silent = copy.deepcopy(model)
    for linear in ("project_b_to_a", "project_a_to_b", "pool_b_to_a", "pool_a_to_b"):
        for parameter in getattr(silent.bridge, linear).parameters():
            parameter.zero_()
    with intervene(model, {"bridge.message_*": lambda value, where: torch.zeros_like(value)}):
        edited = model(x)
    assert torch.equal(edited, silent(x))
    assert not torch.equal(edited, model(x))


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_of_any_point_reaches_the_output(model: CrossDNA, x: Tensor, name: str) -> None:
    plain = model(x)
    with intervene(model, {name: lambda value, where: value * 0.5 + 0.1}):
        assert not torch.equal(model(x), plain)


def test_an_edit_can_act_on_one_block_alone(model: CrossDNA, x: Tensor) -> None:
    plain = model.represent(x, reverse_complement(x))
    with intervene(model, {"fusion.out": lambda value, where: value + 1 if where.block == 1 else value}):
        edited = model.represent(x, reverse_complement(x))
    assert torch.equal(edited[:, 24:48], plain[:, 24:48] + 1)
    assert torch.equal(edited[:, :24], plain[:, :24])
    assert torch.equal(edited[:, 48:], plain[:, 48:])


def test_edits_of_one_point_apply_in_the_order_given() -> None:
    net = nn.Sequential(nn.Identity())
    one = torch.ones(1)
    add, double = (lambda value, where: value + 1), (lambda value, where: value * 2)
    with intervene(net, {"0": add, "*": double}):
        assert net(one).item() == (1 + 1) * 2
    with intervene(net, {"*": double, "0": add}):
        assert net(one).item() == 1 * 2 + 1
    with intervene(net, {"0": add}), intervene(net, {"0": double}):
        assert net(one).item() == (1 + 1) * 2


def test_capture_inside_an_edit_sees_the_edited_value_and_outside_the_original(model: CrossDNA, x: Tensor) -> None:
    with capture(model, "fusion.out") as plain:
        model(x)
    with (
        capture(model, "fusion.out") as outside,
        intervene(model, {"fusion.out": lambda value, where: -value}),
        capture(model, "fusion.out") as inside,
    ):
        model(x)
    for before, out, into in zip(plain["fusion.out"], outside["fusion.out"], inside["fusion.out"], strict=True):
        assert torch.equal(out.value, before.value)
        assert torch.equal(into.value, -before.value)


def test_an_edit_must_keep_the_shape(model: CrossDNA, x: Tensor) -> None:
    width = model.config.d_model
    with (
        pytest.raises(
            ValueError, match=rf"edit of 'head\.pooled' must keep.*\(2, {width}\), but returned \(2, {width - 1}\)"
        ),
        intervene(model, {"head.pooled": lambda value, where: value[:, 1:]}),
    ):
        model(x)
    # One that would broadcast unnoticed.
    with (
        pytest.raises(ValueError, match=r"edit of 'fusion\.gate' must keep the shape"),
        intervene(model, {"fusion.gate": lambda value, where: value[:1, :1]}),
    ):
        model(x)
    assert not forward_hooks(model)


@pytest.mark.parametrize("returned", [None, 1.0, [torch.zeros(2, 12)]])
def test_an_edit_must_return_a_tensor(model: CrossDNA, x: Tensor, returned: object) -> None:
    with (
        pytest.raises(TypeError, match=rf"edit of 'head\.pooled' must return a tensor.*{type(returned).__name__}"),
        intervene(model, {"head.pooled": lambda value, where: returned}),  # type: ignore[dict-item,return-value]
    ):
        model(x)
    assert not forward_hooks(model)


def test_an_edit_must_be_callable(model: CrossDNA) -> None:
    with (
        pytest.raises(TypeError, match=r"`edits\['head.out'\]` must be a function of \(value, where\), got Tensor"),
        intervene(model, {"head.out": torch.zeros(1)}),  # type: ignore[dict-item]
    ):
        pass
    assert not forward_hooks(model)


def test_gradients_flow_through_an_edit(model: CrossDNA, x: Tensor) -> None:
    scale = torch.ones((), requires_grad=True)
    with intervene(model, {"bridge.message_b_to_a": lambda value, where: value * scale}):
        model(x).sum().backward()
    assert scale.grad is not None
    assert scale.grad != 0


# Models that know nothing of hooks


def test_a_model_without_hook_points_offers_its_submodules() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 4)))
    assert hook_names(net) == ["0", "1", "1.0", "1.1"]
    x = torch.tensor([[1.0, -2.0]])
    with capture(net, "1.*") as acts:
        out = net(x)
    assert list(acts) == ["1.0", "1.1"]
    assert acts["1.1"][0].value is out
    assert acts["1.0"][0].where is None
    with intervene(net, {"1.0": lambda value, where: torch.zeros_like(value)}):
        assert torch.equal(net(x)[0], net[1][1].bias)
    assert not forward_hooks(net)


def test_one_hook_point_is_enough_to_be_offered_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 3)
            self.hook_mine = HookPoint()

        def forward(self, x: Tensor) -> Tensor:
            return self.hook_mine(self.linear(x), "here")

    net = Net()
    assert hook_names(net) == ["mine"]
    with capture(net) as acts:
        net(torch.ones(1, 2))
    assert acts["mine"][0].where == "here"


def test_a_hook_point_is_the_identity() -> None:
    value = torch.ones(3)
    assert HookPoint()(value) is value
    assert HookPoint()(value, "anywhere") is value


def test_a_hook_of_others_counts_whatever_its_attributes_are_called(make_model: Callable) -> None:
    class Silencing:
        thread, changes = threading.Thread(), False

        def __call__(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
            return 0 * output

    model = make_model(targets=["y"])
    plain = predict("ACGTTGCAAC", model)
    model.branch_a.layers[0].gate.register_forward_hook(Silencing())
    assert np.abs(predict("ACGTTGCAAC", model) - plain).max() > 1e-5
    assert "hooks are active" in ism("ACGTTGCAAC", model, end=3).certificate.settings["reuse"]


def test_replicas_in_other_threads_are_refused() -> None:
    """As `torch.nn.DataParallel` makes them, which needs several GPUs."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    failed: list[BaseException] = []

    def replicated() -> None:
        replica = model[0]._replicate_for_data_parallel()
        replica.weight, replica.bias = model[0].weight, model[0].bias
        try:
            replica(torch.ones(1, 2))
        except RuntimeError as error:
            failed.append(error)

    with capture(model, "0") as acts:
        thread = threading.Thread(target=replicated)
        thread.start()
        thread.join()
        assert not acts["0"]
    assert "torch.nn.DataParallel computes in several" in str(failed[0])
