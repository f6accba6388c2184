"""Adapters, hooks and replaced layers have their effect, also where a faster path would ignore them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.incremental import Incremental
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.protocols import ArbitraryChoices, StrandPaths, capability

SEQUENCE = "ACGTTGCAAGGCTTAACCGGATATACGATTGCA"


class LowRank(nn.Module):
    """A linear layer and a product of two small matrices; shows the layer's weight, as adapters of peft do."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.base = base
        self.down = nn.Parameter(0.3 * torch.randn(4, base.in_features, generator=generator))
        self.up = nn.Parameter(0.3 * torch.randn(base.out_features, 4, generator=generator))

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def linears(model: nn.Module) -> list[str]:
    """Names of all linear layers that take part in a score."""
    names = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    return [name for name in names if name != "lm_head"]


def replaced(model: CrossDNA, name: str) -> tuple[CrossDNA, CrossDNA]:
    """The model with an adapter in the place of a layer, and with that adapter merged into the weights."""
    adapted, merged = copy.deepcopy(model), copy.deepcopy(model)
    adapter = LowRank(adapted.get_submodule(name))
    parent, _, own = name.rpartition(".")
    setattr(adapted.get_submodule(parent), own, adapter)
    with torch.no_grad():
        merged.get_submodule(name).weight.add_(adapter.up @ adapter.down)
    return adapted.requires_grad_(False), merged


@pytest.mark.slow
def test_adapters_compute_what_they_would_merged(make_model: Callable) -> None:
    model = make_model(targets=["y"])
    plain = cdi.predict(SEQUENCE, model)
    names = linears(model)
    assert len(names) > 20
    for name in names:
        adapted, merged = replaced(model, name)
        expected = cdi.predict(SEQUENCE, merged)
        assert np.abs(expected - plain).max() > 1e-6, name
        np.testing.assert_allclose(cdi.predict(SEQUENCE, adapted), expected, rtol=0, atol=2e-6, err_msg=name)
        by_adapted, by_merged = (cdi.input_gradient(SEQUENCE, each) for each in (adapted, merged))
        np.testing.assert_allclose(by_adapted.values, by_merged.values, rtol=0, atol=2e-5, err_msg=name)
    adapted, merged = replaced(model, "branch_a.layers.1.mlp.gate_up_proj")
    result = cdi.ism(SEQUENCE, adapted, end=9)
    np.testing.assert_allclose(result.predictions, cdi.ism(SEQUENCE, merged, end=9).predictions, rtol=0, atol=1e-5)
    assert "branch_a.layers.1.mlp.gate_up_proj is a LowRank" in result.certificate.settings["reuse"]
    with pytest.raises(RuntimeError, match="LowRank, not a Linear"):
        cdi.ism(SEQUENCE, adapted, end=9, compile=True)


def test_an_exchange_with_adapters_is_not_taken_apart(make_model: Callable) -> None:
    model = make_model(targets=["y"])
    adapted, _ = replaced(model, "bridge.project_a_to_b")
    for analysis in (cdi.strand_exchange, cdi.ablate_exchange, cdi.exchange_ism):
        with pytest.raises(ValueError, match=r"bridge\.project_a_to_b is a LowRank.*Merge adapters"):
            analysis(SEQUENCE, adapted)
    before_the_bridge, merged = replaced(model, "branch_a.layers.0.gate")
    one, other = (cdi.strand_exchange(SEQUENCE, each) for each in (before_the_bridge, merged))
    np.testing.assert_allclose(one.contributions, other.contributions, rtol=0, atol=1e-5)


def test_forward_hooks_fire_on_every_layer_that_takes_part(make_model: Callable) -> None:
    model = make_model(targets=["y"])
    seen: set[str] = set()
    taking_part = {
        name
        for name, module in model.named_modules()
        if name not in ("", "lm_head") and any(True for _ in module.parameters(recurse=False))
    }
    for name in taking_part:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.add(name))
    cdi.predict(SEQUENCE, model)
    assert seen == taking_part


@pytest.mark.slow
@pytest.mark.parametrize("how", ["forward hook", "pre-hook", "own forward", "weight norm", "hook for all modules"])
def test_what_changes_a_layer_from_outside_counts(how: str, make_model: Callable) -> None:
    model = make_model(targets=["y"])
    plain = cdi.ism(SEQUENCE, model, end=6)
    for name in (
        "bridge.gate",
        "branch_b.layers.0.attention.qkv_proj",
        "branch_a.layers.1.comba.o_proj",
        "fusion.gate",
    ):
        changed, expected = copy.deepcopy(model), copy.deepcopy(model)
        layer = changed.get_submodule(name)
        handle = None
        if how == "forward hook":
            layer.register_forward_hook(lambda module, inputs, output: 2 * output)
        elif how == "pre-hook":
            layer.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
        elif how == "own forward":
            layer.forward = lambda x, layer=layer: 2 * nn.Linear.forward(layer, x)
        elif how == "weight norm":
            layer.requires_grad_(True)
            nn.utils.parametrizations.weight_norm(layer)
            with torch.no_grad():
                layer.parametrizations.weight.original0.mul_(2)
        else:
            handle = register_module_forward_hook(
                lambda module, inputs, output, layer=layer: 2 * output if module is layer else None
            )
        with torch.no_grad():
            target = expected.get_submodule(name)
            target.weight.mul_(2)
            if target.bias is not None and how in ("forward hook", "own forward", "hook for all modules"):
                target.bias.mul_(2)
        try:
            result = cdi.ism(SEQUENCE, changed, end=6)
        finally:
            if handle is not None:
                handle.remove()
        right = cdi.ism(SEQUENCE, expected, end=6)
        assert np.abs(right.predictions - plain.predictions).max() > 1e-6
        np.testing.assert_allclose(result.predictions, right.predictions, rtol=0, atol=1e-5, err_msg=name)


def test_a_replaced_part_is_computed_in_full(make_model: Callable) -> None:
    class Half(nn.Module):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: Tensor) -> Tensor:
            return self.part(x) / 2

    model = make_model(targets=["y"])
    model.branch_a.layers[1].mlp = Half(model.branch_a.layers[1].mlp)
    result = cdi.ism(SEQUENCE, model, end=4)
    edited = [SEQUENCE[:2] + base + SEQUENCE[3:] for base in "ACGT"]
    np.testing.assert_allclose(result.predictions[2], cdi.predict(edited, model), rtol=0, atol=1e-6)
    assert "mlp is a Half, not a GatedMLP" in result.certificate.settings["reuse"]


def test_a_subclass_with_methods_of_its_own_is_computed_in_full(make_model: Callable) -> None:
    class Doubled(CrossDNA):
        def represent(self, *channels: Tensor, **options: object) -> Tensor:
            return 2 * super().represent(*channels, **options)

    model = make_model(targets=["y"])
    doubled = Doubled(model.config, ["y"]).eval().requires_grad_(False)
    doubled.load_state_dict(model.state_dict())
    result = cdi.ism(SEQUENCE, doubled, end=4)
    assert result.certificate.settings["reuse"] == "no: Doubled has a `represent` of its own"
    edited = [SEQUENCE[:2] + base + SEQUENCE[3:] for base in "ACGT"]
    np.testing.assert_allclose(result.predictions[2], cdi.predict(edited, doubled), rtol=0, atol=1e-6)


def test_kernels_do_not_read_weights_of_another_dtype(make_model: Callable, kernel_cache: object) -> None:
    model = make_model(targets=["y"])
    model.branch_a.layers[0].mixer_norm = nn.Parameter(
        model.branch_a.layers[0].mixer_norm.double(), requires_grad=False
    )
    edits = [(1, 2, "A"), (4, 5, "C")]
    result = cdi.score_edits(SEQUENCE, edits, model)
    right = cdi.predict([SEQUENCE[:a] + base + SEQUENCE[b:] for a, b, base in edits], model)
    np.testing.assert_allclose(result.predictions, right, rtol=0, atol=1e-5)
    with pytest.raises(RuntimeError, match=r"branch_a\.layers\.0\.mixer_norm is float64|C compiler"):
        cdi.score_edits(SEQUENCE, edits, model, compile=True)


def test_a_replaced_head_of_the_language_model_is_no_matter(make_model: Callable) -> None:
    model = make_model(targets=["y"])
    plain = cdi.predict(SEQUENCE, model)
    model.lm_head = nn.Sequential(model.lm_head)
    np.testing.assert_array_equal(cdi.predict(SEQUENCE, model), plain)


@pytest.mark.slow
def test_threads_share_readings_of_the_reference(make_model: Callable, make_sequence: Callable) -> None:
    """Many blocks and a small cache: several threads create, use and drop passes at the same time."""
    model = make_model(targets=["y"], block_size=16)
    sequence = make_sequence(300)
    scorer = Incremental(model, alphabet.encode(sequence), cache_bytes=1)
    edited = [sequence[:at] + "ACGT"[at % 4] + sequence[at + 1 :] for at in range(0, 300, 3)]
    expected = cdi.predict(edited, model)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda each: scorer.score(alphabet.encode(each)[None]).numpy()[0], edited * 3))
    np.testing.assert_allclose(results, np.tile(expected, (3, 1)), rtol=0, atol=1e-5)


def test_a_hook_for_all_modules_rules_out_paths_beside_forward(make_model: Callable) -> None:
    """Such a hook may change the model's own output, which these paths never compute."""
    model = make_model(targets=["y"])
    plain = cdi.integrated_gradients(SEQUENCE, model, steps=8, tolerance=1e6)
    hook = register_module_forward_hook(lambda module, inputs, output: 3 * output if module is model else None)
    try:
        assert capability(model, StrandPaths) is None
        assert capability(model, ArbitraryChoices) is None
        tripled = cdi.integrated_gradients(SEQUENCE, model, steps=8, tolerance=1e6)
    finally:
        hook.remove()
    assert not tripled.by_strand
    np.testing.assert_allclose(tripled.values, 3 * plain.values, atol=1e-4)
    assert capability(model, StrandPaths) is not None
