"""hooks: the coordinates of captured values are right. A change of the input shows which positions depend on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.crossdna.blocks import RcBlocks
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.hooks import Activation, capture
from crossdna_interpret.models.spans import Locus

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

LENGTH = 60  # three blocks of 24, the last one short
REACH = 4  # the stem's kernel is 9 wide


def positions_changed(before: Activation, after: Activation) -> set[int]:
    """Positions in the sequence at which two activations (1, l, H) differ, by their own `where`."""
    assert before.where == after.where
    differs = (before.value != after.value).any(-1)[0]
    return set(before.where.positions[differs.numpy()].tolist())


def causal_cone(where: Locus, touched: set[int]) -> set[int]:
    """Positions of a stretch that depend on the touched ones, when its strand is read 5' to 3' from its first index."""
    hit = touched & set(where.positions.tolist())
    if not hit:
        return set()
    if where.strand == "forward":
        return set(range(min(hit), where.end))
    return set(range(where.start, max(hit) + 1))


def mutated(x: Tensor, position: int) -> Tensor:
    """One-hot with the base at one position replaced by the next one."""
    result = x.clone()
    result[:, :4, position] = x[:, :4, position].roll(1, dims=1)
    return result


@pytest.mark.parametrize("position", [0, 3, 20, 23, 24, 27, 37, 47, 52, 59])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_a_base_changes_what_the_coordinates_say_it_can(
    make_model: Make, make_sequence: MakeSequence, rc_blocks: RcBlocks, position: int
) -> None:
    # float64, so that a weak influence at the far end of a block is still an influence.
    model = make_model(rc_blocks=rc_blocks).double()
    x = model.one_hot(make_sequence(LENGTH))
    with capture(model, "stem.*", "branch_*") as before:
        model(x)
    with capture(model, "stem.*", "branch_*") as after:
        model(mutated(x, position))
    touched = set(range(max(position - REACH, 0), min(position + REACH + 1, LENGTH)))
    for name in before:
        for old, new in zip(before[name], after[name], strict=True):
            expected = touched if name.startswith("stem.") else causal_cone(old.where, touched)
            assert positions_changed(old, new) == expected, (name, old.where)


@pytest.mark.parametrize("changed", ["forward", "reverse"])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_a_strand_s_input_reaches_that_strand_s_activations_alone(
    make_model: Make, make_sequence: MakeSequence, rc_blocks: RcBlocks, changed: str
) -> None:
    model = make_model(rc_blocks=rc_blocks).double()
    strands = {"forward": model.one_hot(make_sequence(LENGTH))}
    strands["reverse"] = reverse_complement(strands["forward"])
    with capture(model, "stem.*", "branch_*") as before:
        model.forward_strands(strands["forward"], strands["reverse"])
    other = model.one_hot(make_sequence(LENGTH, 9))
    strands[changed] = other if changed == "forward" else reverse_complement(other)
    with capture(model, "stem.*", "branch_*") as after:
        model.forward_strands(strands["forward"], strands["reverse"])
    for name in before:
        for old, new in zip(before[name], after[name], strict=True):
            assert torch.equal(old.value, new.value) is (old.where.strand != changed), (name, old.where)


@pytest.mark.parametrize("changed", ["forward", "reverse"])
@pytest.mark.parametrize("position", [3, 26, 30, 50])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_bridge_values_lie_at_the_positions_of_their_branch(
    make_model: Make, make_sequence: MakeSequence, rc_blocks: RcBlocks, position: int, changed: str
) -> None:
    # Each gate is computed position by position from the pair of branch outputs. Changing one base of one strand's
    # input therefore changes the gates at the same indices as that strand's branch output, once this is put in order.
    model = make_model(rc_blocks=rc_blocks).double()
    forward = model.one_hot(make_sequence(LENGTH))
    strands = {"forward": forward, "reverse": reverse_complement(forward)}
    with capture(model, "bridge.*") as before:
        model.forward_strands(**{f"x_{name}": value for name, value in strands.items()})
    strands[changed] = mutated(forward, position)
    if changed == "reverse":
        strands[changed] = reverse_complement(strands[changed])
    with capture(model, "bridge.*") as after:
        model.forward_strands(**{f"x_{name}": value for name, value in strands.items()})
    touched = set(range(position - REACH, position + REACH + 1))
    for t in range(3):
        own, other = ("a", "b") if before["bridge.gate_a"][t].where.strand == changed else ("b", "a")
        where = before[f"bridge.gate_{own}"][t].where
        cone = causal_cone(where, touched)
        assert positions_changed(before[f"bridge.gate_{own}"][t], after[f"bridge.gate_{own}"][t]) == cone
        # The other gate is about the other branch's stretch, which is elsewhere when blocks are mirrored.
        shift = before[f"bridge.gate_{other}"][t].where.start - where.start
        shifted = {p + shift for p in cone}
        assert positions_changed(before[f"bridge.gate_{other}"][t], after[f"bridge.gate_{other}"][t]) == shifted
        # What is computed from one branch alone changes with that branch alone.
        to_own, to_other = f"{other}_to_{own}", f"{own}_to_{other}"
        from_own = {f"context_{own}", f"global_{to_other}", f"message_{to_other}"}
        from_other = {f"context_{other}", f"global_{to_own}", f"message_{to_own}"}
        for name in from_own | from_other:
            old, new = before[f"bridge.{name}"][t], after[f"bridge.{name}"][t]
            assert torch.equal(old.value, new.value) is not (name in from_own and bool(cone)), (name, t)


@pytest.mark.parametrize("position", [3, 26, 30, 50])
def test_fusion_is_in_the_order_of_the_sequence(make_model: Make, make_sequence: MakeSequence, position: int) -> None:
    # Without a bridge the fusion works position by position, so causality of the forward strand is still to be seen.
    model = make_model(use_bridge=False).double()
    x = model.one_hot(make_sequence(LENGTH))
    with capture(model, "fusion.*") as before:
        model.forward_strands(x, reverse_complement(x))
    with capture(model, "fusion.*") as after:
        model.forward_strands(mutated(x, position), reverse_complement(x))
    touched = set(range(position - REACH, position + REACH + 1))
    for name in before:
        for old, new in zip(before[name], after[name], strict=True):
            cone = causal_cone(Locus("forward", old.where.start, old.where.end), touched)
            assert positions_changed(old, new) == cone, (name, old.where)
