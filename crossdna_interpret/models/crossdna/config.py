"""Config of a CrossDNA model. It is read from a published `config.json` or from that of this package."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from crossdna_interpret.models.crossdna.blocks import RcBlocks

__all__ = ["CrossDNAConfig"]

# Keys of published configs that do not affect inference.
_NO_EFFECT = {
    "": {
        "pretrain", "for_representation", "mask_token_id", "pad_token_id", "drop_path_rates", "alphabet_size",
        "model_type", "architectures", "transformers_version", "torch_dtype", "dtype", "auto_map", "_name_or_path",
    },
    "comba_cfg": {"use_gate", "mode", "correction_factor", "hidden_size"},
    "transformer_cfg": {"max_position_embeddings", "fuse_swiglu", "hidden_act", "hidden_size"},
    "transformer_cfg.attn": {"qkv_bias"},
}  # fmt: skip

# Published key -> field. `use_s_scan`, `use_bridge` and `use_short_conv` are read separately.
_PUBLISHED: dict[str, dict[str, str | None]] = {
    "": {
        "d_model": "d_model", "block_size": "block_size", "depth": "depth", "dropout": "dropout",
        "gate_freeze_steps": "gate_freeze_steps", "gate_temp": "gate_temp", "use_bridge": "use_bridge",
        "use_s_scan": None, "transformer_cfg": None, "comba_cfg": None,
    },
    "comba_cfg": {
        "num_heads": "comba_heads", "head_dim": "comba_head_dim", "expand_v": "expand_v", "conv_size": "conv_size",
        "norm_eps": "comba_norm_eps", "use_short_conv": None,
    },
    "transformer_cfg": {"hidden_ratio": "hidden_ratio", "norm_eps": "transformer_norm_eps", "attn": None},
    "transformer_cfg.attn": {
        "num_heads": "attention_heads", "num_kv_heads": "kv_heads", "window_size": "window_size",
        "rope_theta": "rope_theta",
    },
}  # fmt: skip


@dataclass(frozen=True)
class CrossDNAConfig:
    """Dimensions and switches of a CrossDNA model. The defaults are the released 8.1M configuration.

    Attributes:
        d_model: width H of the features.
        depth: layers in each branch. (The released configuration has 6.)
        block_size: positions per block, l. None is one block of the whole length.
        comba_heads, comba_head_dim, expand_v: heads n, key size d, and value size d * expand_v of Comba.
        conv_size: taps of Comba's causal convolution. None is SiLU without convolution.
        attention_heads, kv_heads: number of query heads and of key/value heads. The latter must divide the former.
        window_size: positions that a query sees, including its own.
        rope_theta: base of the rotary embedding.
        hidden_ratio: the MLP is int(H * hidden_ratio * 2 / 3) wide, rounded up to a multiple of 256.
        use_bridge: whether the branches exchange information.
        gate_temp: temperature of the fusion gate.
        gate_freeze_steps: training steps during which the fusion gate is fixed at one half.
        rc_blocks: which reverse-strand block meets a forward block. See `blocks.block_pairs`.
        dropout: dropout rate after the stem, in training only.
        comba_norm_eps, transformer_norm_eps: epsilon of the RMS norms.
    """

    d_model: int = 128
    depth: int = 6
    block_size: int | None = 1024
    comba_heads: int = 8
    comba_head_dim: int = 64
    expand_v: float = 1.0
    conv_size: int | None = 4
    attention_heads: int = 8
    kv_heads: int | None = None
    window_size: int = 512
    rope_theta: float = 10000.0
    hidden_ratio: float = 4.0
    use_bridge: bool = True
    gate_temp: float = 2.0
    gate_freeze_steps: int = 0
    rc_blocks: RcBlocks = "aligned"
    dropout: float = 0.15
    comba_norm_eps: float = 1e-5
    transformer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        positive = ["d_model", "depth", "comba_heads", "comba_head_dim", "attention_heads", "window_size"]
        positive += [name for name in ("block_size", "conv_size", "kv_heads") if getattr(self, name) is not None]
        for name in positive:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"`{name}` must be an integer of at least 1, but got {value!r}.")
        for name in ("expand_v", "rope_theta", "hidden_ratio", "gate_temp", "comba_norm_eps", "transformer_norm_eps"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be a number above 0, but got {value!r}.")
        if self.comba_value_dim < 1:
            raise ValueError(f"`expand_v` must leave values of at least size 1, but {self.expand_v} gives none.")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be a number from 0 to below 1, but got {self.dropout!r}.")
        if not isinstance(self.gate_freeze_steps, int):
            raise ValueError(f"`gate_freeze_steps` must be an integer, but got {self.gate_freeze_steps!r}.")
        if not isinstance(self.use_bridge, bool):
            raise ValueError(f"`use_bridge` must be true or false, but got {self.use_bridge!r}.")
        if self.d_model % self.attention_heads or (self.d_model // self.attention_heads) % 2:
            raise ValueError(
                f"`attention_heads` must divide `d_model` into heads of even size, but got {self.attention_heads} "
                f"heads for {self.d_model}."
            )
        if self.attention_heads % self.key_value_heads:
            raise ValueError(f"`kv_heads` must divide the {self.attention_heads} heads, but got {self.kv_heads}.")
        if self.rc_blocks not in get_args(RcBlocks):
            raise ValueError(f"`rc_blocks` must be one of {get_args(RcBlocks)}, but got {self.rc_blocks!r}.")

    @property
    def key_value_heads(self) -> int:
        """Key/value heads of the attention."""
        return self.kv_heads or self.attention_heads

    @property
    def comba_value_dim(self) -> int:
        """Value size d_v of one Comba head."""
        return int(self.comba_head_dim * self.expand_v)

    @property
    def mlp_width(self) -> int:
        """Inner width of the MLP."""
        return -(-int(self.d_model * self.hidden_ratio * 2 / 3) // 256) * 256

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict that `from_dict` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CrossDNAConfig:
        """Create a config from the output of `to_dict`.

        Raises:
            ValueError: an unknown key (the message lists near matches), or a value out of range.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in fields:
                near = difflib.get_close_matches(key, fields)
                raise ValueError(f"`config` has the unknown key {key!r}; near matches: {near or fields}.")
        return cls(**values)

    @classmethod
    def from_published(cls, published: Mapping[str, Any], *, rc_blocks: RcBlocks = "mirrored") -> CrossDNAConfig:
        """Read a published `config.json`. Keys without effect on inference are ignored.

        Args:
            published: the parsed file.
            rc_blocks: published weights were trained with "mirrored" pairing.

        Raises:
            ValueError: an unknown or missing key, a feature that no published model uses, or a value out of range.
        """
        values: dict[str, Any] = {"rc_blocks": rc_blocks}
        sections = {section: _section(published, section) for section in _PUBLISHED}
        for section, content in sections.items():
            for key, value in content.items():
                path = f"{section}.{key}".lstrip(".")
                if key in _PUBLISHED[section]:
                    field = _PUBLISHED[section][key]
                    if field is not None:
                        values[field] = value
                elif key not in _NO_EFFECT[section]:
                    raise ValueError(f"`config` has the unknown key {path!r}; it could change what the model computes.")
        missing = [name for name in ("d_model", "depth", "comba_heads", "attention_heads") if name not in values]
        if missing:
            raise ValueError(f"`config` lacks what gives {', '.join(missing)}.")
        if published.get("alphabet_size", 5) != 5:
            raise ValueError(f"`config` key 'alphabet_size' must be 5 (ACGTN), but got {published['alphabet_size']}.")
        if sections["transformer_cfg.attn"].get("qkv_bias"):
            raise ValueError("`config` key 'transformer_cfg.attn.qkv_bias' must be false: attention has no biases.")
        if not published.get("use_s_scan", True):
            values["block_size"] = None
        if not sections["comba_cfg"].get("use_short_conv", True):
            values["conv_size"] = None
        return cls(**values)


def _section(published: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    section: Any = published
    for key in path.split(".") if path else []:
        section = section.get(key, {})
        if not isinstance(section, Mapping):
            raise ValueError(f"`config` key {path!r} must be an object, but got {section!r}.")
    return section
