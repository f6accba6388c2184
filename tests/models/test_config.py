"""CrossDNAConfig: reading of published configs, and errors that name the key."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from crossdna_interpret.models.crossdna.config import CrossDNAConfig

# Differs from every default, so that a key read into the wrong field, or not at all, shows.
PUBLISHED: dict[str, Any] = {
    "alphabet_size": 5,
    "d_model": 96,
    "block_size": 200,
    "depth": 3,
    "drop_path_rates": [0.0, 0.05],
    "dropout": 0.25,
    "pretrain": True,
    "for_representation": False,
    "use_s_scan": True,
    "use_bridge": True,
    "gate_freeze_steps": 77,
    "gate_temp": 3.0,
    "transformer_cfg": {
        "hidden_size": 96,
        "norm_eps": 1e-4,
        "max_position_embeddings": 1024,
        "hidden_ratio": 5.0,
        "hidden_act": "swish",
        "fuse_swiglu": True,
        "attn": {"num_heads": 6, "num_kv_heads": 3, "qkv_bias": False, "window_size": 48, "rope_theta": 500.0},
    },
    "comba_cfg": {
        "hidden_size": 96,
        "expand_v": 2.0,
        "head_dim": 16,
        "num_heads": 5,
        "use_gate": True,
        "mode": "chunk",
        "use_short_conv": True,
        "correction_factor": 0.02,
        "conv_size": 7,
        "norm_eps": 1e-3,
    },
    "model_type": "crossdna",
    "mask_token_id": 3,
    "pad_token_id": 4,
    "architectures": ["CrossDNAForMaskedLM"],
}

EXPECTED = CrossDNAConfig(
    d_model=96, block_size=200, depth=3, dropout=0.25, gate_freeze_steps=77, gate_temp=3.0, use_bridge=True,
    transformer_norm_eps=1e-4, hidden_ratio=5.0, attention_heads=6, kv_heads=3, window_size=48, rope_theta=500.0,
    expand_v=2.0, comba_head_dim=16, comba_heads=5, conv_size=7, comba_norm_eps=1e-3, rc_blocks="mirrored",
)  # fmt: skip


def with_key(path: str, value: object) -> dict[str, Any]:
    """The published config with one dotted key set."""
    changed = copy.deepcopy(PUBLISHED)
    *sections, key = path.split(".")
    section = changed
    for name in sections:
        section = section[name]
    section[key] = value
    return changed


def without_key(path: str) -> dict[str, Any]:
    """The published config without one dotted key."""
    changed = copy.deepcopy(PUBLISHED)
    *sections, key = path.split(".")
    section = changed
    for name in sections:
        section = section[name]
    del section[key]
    return changed


def test_the_example_differs_from_every_default() -> None:
    defaults = CrossDNAConfig()
    same = [
        field.name
        for field in dataclasses.fields(EXPECTED)
        if getattr(EXPECTED, field.name) == getattr(defaults, field.name)
    ]
    assert same == ["use_bridge"]  # which has two values; the other one is tested below


def test_every_published_key_is_read_into_its_field() -> None:
    assert CrossDNAConfig.from_published(PUBLISHED) == EXPECTED


@pytest.mark.parametrize("case", ["one_block", "three_blocks", "frozen_gate"])
def test_the_reference_configs_are_read(shared: Path, case: str) -> None:
    published = json.loads((shared / "parity" / "crossdna" / case / "config.json").read_text())
    config = CrossDNAConfig.from_published(published)
    comba, transformer = published["comba_cfg"], published["transformer_cfg"]
    attention = transformer["attn"]
    top = ("d_model", "depth", "block_size", "dropout", "gate_temp", "gate_freeze_steps", "use_bridge")
    expected = {name: published[name] for name in top}
    expected |= {"comba_heads": comba["num_heads"], "comba_head_dim": comba["head_dim"], "expand_v": comba["expand_v"]}
    expected |= {"conv_size": comba["conv_size"], "comba_norm_eps": comba["norm_eps"]}
    expected |= {"attention_heads": attention["num_heads"], "kv_heads": attention["num_kv_heads"]}
    expected |= {"window_size": attention["window_size"], "rope_theta": attention["rope_theta"]}
    expected |= {"hidden_ratio": transformer["hidden_ratio"], "transformer_norm_eps": transformer["norm_eps"]}
    assert config.to_dict() == expected | {"rc_blocks": "mirrored"}


def test_the_reference_folder_holds_no_case_that_is_not_tested(shared: Path) -> None:
    cases = sorted(path.name for path in (shared / "parity" / "crossdna").iterdir() if path.is_dir())
    assert cases == ["frozen_gate", "one_block", "three_blocks"]


@pytest.mark.parametrize("section", ["", "comba_cfg.", "transformer_cfg.", "transformer_cfg.attn."])
def test_an_unknown_key_is_named_by_its_path(section: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown key '{section}novel'".replace(".", r"\.")):
        CrossDNAConfig.from_published(with_key(f"{section}novel", 1))


def test_a_key_known_elsewhere_is_unknown_here() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'comba_cfg\.window_size'"):
        CrossDNAConfig.from_published(with_key("comba_cfg.window_size", 5))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pretrain", False),
        ("for_representation", True),
        ("mask_token_id", 4),
        ("pad_token_id", 0),
        ("drop_path_rates", [0.9]),
        ("comba_cfg.use_gate", False),
        ("comba_cfg.mode", "fused_recurrent"),
        ("comba_cfg.correction_factor", 0.5),
        ("transformer_cfg.max_position_embeddings", 1),
        ("transformer_cfg.fuse_swiglu", False),
        ("transformer_cfg.hidden_act", "gelu"),
    ],
)
def test_keys_without_effect_are_passed_over(path: str, value: object) -> None:
    assert CrossDNAConfig.from_published(with_key(path, value)) == EXPECTED
    assert CrossDNAConfig.from_published(without_key(path)) == EXPECTED


def test_no_s_scan_is_one_block_of_the_whole_length() -> None:
    config = CrossDNAConfig.from_published(with_key("use_s_scan", False))
    assert config == dataclasses.replace(EXPECTED, block_size=None)
    assert CrossDNAConfig.from_published(without_key("use_s_scan")) == EXPECTED


def test_no_short_conv_is_no_convolution() -> None:
    config = CrossDNAConfig.from_published(with_key("comba_cfg.use_short_conv", False))
    assert config == dataclasses.replace(EXPECTED, conv_size=None)
    assert CrossDNAConfig.from_published(without_key("comba_cfg.use_short_conv")) == EXPECTED


def test_no_bridge() -> None:
    config = CrossDNAConfig.from_published(with_key("use_bridge", False))
    assert config == dataclasses.replace(EXPECTED, use_bridge=False)


def test_no_kv_heads_means_as_many_as_heads() -> None:
    for published in (
        with_key("transformer_cfg.attn.num_kv_heads", None),
        without_key("transformer_cfg.attn.num_kv_heads"),
    ):
        config = CrossDNAConfig.from_published(published)
        assert config.kv_heads is None
        assert config.key_value_heads == config.attention_heads
    assert EXPECTED.key_value_heads == 3


def test_pairing_of_published_weights_is_mirrored_unless_asked() -> None:
    assert CrossDNAConfig.from_published(PUBLISHED).rc_blocks == "mirrored"
    assert CrossDNAConfig.from_published(PUBLISHED, rc_blocks="aligned").rc_blocks == "aligned"
    assert CrossDNAConfig().rc_blocks == "aligned"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("d_model", "d_model"),
        ("depth", "depth"),
        ("comba_cfg", "comba_heads"),
        ("comba_cfg.num_heads", "comba_heads"),
        ("transformer_cfg", "attention_heads"),
        ("transformer_cfg.attn", "attention_heads"),
        ("transformer_cfg.attn.num_heads", "attention_heads"),
    ],
)
def test_what_the_shape_needs_must_be_there(path: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"lacks.*{named}"):
        CrossDNAConfig.from_published(without_key(path))


@pytest.mark.parametrize("path", ["comba_cfg", "transformer_cfg", "transformer_cfg.attn"])
@pytest.mark.parametrize("value", [None, 3, "x", [1]])
def test_a_section_must_be_an_object(path: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{path}' must be an object".replace(".", r"\.")):
        CrossDNAConfig.from_published(with_key(path, value))


@pytest.mark.parametrize(("path", "value"), [("alphabet_size", 4), ("transformer_cfg.attn.qkv_bias", True)])
def test_what_no_published_model_uses_is_refused(path: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{path}' must be".replace(".", r"\.")):
        CrossDNAConfig.from_published(with_key(path, value))


def test_dict_round_trip_through_json() -> None:
    for config in (EXPECTED, CrossDNAConfig(), CrossDNAConfig(block_size=None, conv_size=None, use_bridge=False)):
        assert CrossDNAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_from_dict_refuses_an_unknown_key_and_lists_near_matches() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'block_sizes'.*'block_size'"):
        CrossDNAConfig.from_dict(EXPECTED.to_dict() | {"block_sizes": 3})


BAD: list[tuple[str, Any]] = [
    *((name, value) for name in ("d_model", "depth", "comba_heads", "comba_head_dim", "attention_heads", "window_size",
                                 "block_size", "conv_size", "kv_heads") for value in (0, -1, 1.0, "4", True)),
    *((name, None) for name in ("d_model", "depth", "comba_heads", "comba_head_dim", "attention_heads", "window_size")),
    *((name, value) for name in ("expand_v", "rope_theta", "hidden_ratio", "gate_temp")
      for value in (0, -1.0, "2", None, float("nan"))),
    *(("rc_blocks", value) for value in ("Aligned", None, 0)),
    *(("dropout", value) for value in (-0.1, 1.5, "0.1", None)),
    *((name, value) for name in ("comba_norm_eps", "transformer_norm_eps") for value in (-1e-5, "1e-5", None)),
    *(("gate_freeze_steps", value) for value in ("0", None)),
    *(("use_bridge", value) for value in ("false", None)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must"):
        CrossDNAConfig(**{name: value})  # type: ignore[arg-type]


def test_every_field_has_a_bad_value() -> None:
    assert {name for name, _ in BAD} == {field.name for field in dataclasses.fields(CrossDNAConfig)}


def test_bad_values_in_a_published_config_are_refused_too() -> None:
    with pytest.raises(ValueError, match="`window_size` must be an integer of at least 1, but got 0"):
        CrossDNAConfig.from_published(with_key("transformer_cfg.attn.window_size", 0))


@pytest.mark.parametrize(("width", "heads"), [(12, 5), (12, 4), (10, 10)])
def test_heads_must_divide_the_width_into_even_sizes(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="`attention_heads` must divide `d_model` into heads of even size"):
        CrossDNAConfig(d_model=width, attention_heads=heads)


def test_kv_heads_must_divide_the_heads() -> None:
    with pytest.raises(ValueError, match="`kv_heads` must divide the 8 heads, but got 3"):
        CrossDNAConfig(kv_heads=3)


def test_values_of_comba_must_have_a_size() -> None:
    # int(4 * 0.2) is 0: heads without values would compute nothing.
    with pytest.raises(ValueError, match="`expand_v`"):
        CrossDNAConfig(comba_head_dim=4, expand_v=0.2)


@pytest.mark.parametrize(
    ("width", "ratio", "inner"),
    [
        (12, 4.0, 256),  # 32, rounded up
        (96, 4.0, 256),  # 256 as it is
        (97 * 2, 4.0, 768),  # 517, rounded up
        (128, 4.0, 512),  # 341, rounded up, in the released configuration
    ],
)
def test_mlp_width_is_rounded_up_to_a_multiple_of_256(width: int, ratio: float, inner: int) -> None:
    assert (
        CrossDNAConfig(d_model=width, hidden_ratio=ratio, attention_heads=2 if width % 4 == 0 else 1).mlp_width == inner
    )


def test_value_size_of_comba() -> None:
    assert EXPECTED.comba_value_dim == 32


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CrossDNAConfig().d_model = 3  # type: ignore[misc]
