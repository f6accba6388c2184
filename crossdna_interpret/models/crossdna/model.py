"""CrossDNA: two strand branches, the bridge between them, their fusion, and a head.

N  sequences    L  positions of a sequence    H  channels (d_model)
T  targets      l  positions of a block       5  bases, in the order ACGTN
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models import spans
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.models.crossdna.branch import Branch
from crossdna_interpret.models.crossdna.bridge import Fusion, TokenBridge
from crossdna_interpret.models.crossdna.comba import Backend, Comba
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.memory import blocks_together, memory_estimate
from crossdna_interpret.models.crossdna.plain import plain_problem
from crossdna_interpret.models.hooks import HookPoint, hooked, hooks_for_all, hooks_of
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.parallel import for_each, threads_to_spread_over

__all__ = ["LOG_LIKELIHOOD", "CrossDNA", "Head"]

LOG_LIKELIHOOD = "log_likelihood"


class Stem(nn.Module):
    """One convolution for each strand: (N, 5, L) twice -> (N, L, H) twice, each in the order of its own strand."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        width = config.d_model
        self.conv_forward = nn.Conv1d(len(alphabet.ALPHABET), width, 9, padding=4)
        self.conv_reverse = nn.Conv1d(len(alphabet.ALPHABET), width, 9, padding=4)
        for conv in (self.conv_forward, self.conv_reverse):
            # Only one channel in five is 1, while the default initialization assumes dense input. This standard
            # deviation gives features of unit variance. The weights of the four bases sum to zero, so that a part
            # common to all positions does not dominate.
            nn.init.normal_(conv.weight, std=(0.75 * conv.kernel_size[0]) ** -0.5)
            with torch.no_grad():
                conv.weight -= conv.weight[:, :4].mean(1, keepdim=True)
                conv.weight[:, 4] = 0
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(config.dropout)
        self.hook_forward = HookPoint()  # (N, L, H)
        self.hook_reverse = HookPoint()  # (N, L, H), in reverse-complement order

    def conv(self, of: spans.Strand) -> nn.Conv1d:
        """The convolution that reads a strand."""
        return self.conv_forward if of == "forward" else self.conv_reverse

    def forward(self, x_forward: Tensor, x_reverse: Tensor) -> tuple[Tensor, Tensor]:
        length = x_forward.shape[-1]
        forward = self.dropout(F.gelu(self.conv_forward(x_forward)).transpose(1, 2).contiguous())
        reverse = self.dropout(F.gelu(self.conv_reverse(x_reverse)).transpose(1, 2).contiguous())
        return (
            self.hook_forward(forward, spans.whole("forward", length)),
            self.hook_reverse(reverse, spans.whole("reverse", length)),
        )


class Head(nn.Module):
    """Mean over positions, then a linear layer: (N, L, H) -> (N, T)."""

    def __init__(self, width: int, targets: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, targets)
        self.dropout = nn.Dropout(dropout)
        self.hook_pooled = HookPoint()  # (N, H)
        self.hook_out = HookPoint()  # (N, T)

    def forward(self, fused: Tensor) -> Tensor:
        where = spans.Locus("both", 0, fused.shape[1])
        pooled = self.hook_pooled(fused.mean(1), where)
        return self.hook_out(self.linear(self.dropout(pooled)), where)


class CrossDNA(nn.Module):
    """The published CrossDNA model, differentiable with respect to its one-hot input through both strand paths.

    Args:
        config: dimensions and switches.
        targets: names of the outputs of a regression head. Without names, the model is a language model with one
            target, "log_likelihood": the mean log-probability of the observed bases in one pass, without N.

    Example:
        >>> config = CrossDNAConfig(d_model=8, depth=1, comba_heads=2, comba_head_dim=4, attention_heads=2)
        >>> model = CrossDNA(config, targets=["activity"]).eval()
        >>> model.embed("ACGTN").shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, config: CrossDNAConfig, targets: Sequence[str] = ()) -> None:
        super().__init__()
        if isinstance(targets, str):
            raise TypeError(f"`targets` must be a list of names, but got the string {targets!r}.")
        self.config = config
        self.name = "crossdna"
        self.training_range: TrainingRange | None = None
        self.change_errors: dict[str, ChangeErrors] = {}
        self.stem = Stem(config)
        self.branch_a, self.branch_b = Branch(config), Branch(config)
        self.bridge = TokenBridge(config) if config.use_bridge else None
        self.fusion = Fusion(config)
        self.lm_head = nn.Linear(config.d_model, len(alphabet.ALPHABET))
        self.head = Head(config.d_model, len(targets)) if targets else None
        self.targets: tuple[str, ...] = tuple(targets) or (LOG_LIKELIHOOD,)
        self._built_of = {name: type(module) for name, module in self.named_modules()}

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.stem.conv_forward.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and scores."""
        return self.stem.conv_forward.weight.dtype

    def set_backend(self, backend: Backend) -> None:
        """Choose the implementation of the recurrence: "torch", "fla" (CUDA), or "auto" (fla if it can run)."""
        for module in self.modules():
            if isinstance(module, Comba):
                module.backend = backend

    def memory_estimate(self, n: int, length: int, *, gradients: bool = False) -> int:
        """Approximate bytes, without the weights, to score a batch of `n` sequences of `length` bases."""
        return memory_estimate(self.config, n, length, self.dtype.itemsize, gradients=gradients)

    def operations(self, length: int) -> float:
        """Floating-point operations of the products with weights in a forward pass over `length` bases."""
        return 2.0 * length * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim == 2)

    def bypass_problem(self) -> str | None:
        """Reason why an analysis may not compute scores from the parts of the model, without `forward`, or None."""
        if type(self).forward is not CrossDNA.forward:
            return f"{type(self).__name__} has a `forward` of its own"
        if "forward" in vars(self):
            return "the model has a `forward` of its own"
        if hooks_of(self) or hooks_for_all():
            return "hooks are active on the model as a whole"
        return None

    def plain_problem(self, *parts: str) -> str | None:
        """Reason why a faster path cannot replace `forward`, such as adapters, hooks or overridden methods, or None.

        Args:
            parts: submodules to check. The default is all.
        """
        for name in vars(CrossDNA):
            if not name.startswith("__") and getattr(type(self), name) is not getattr(CrossDNA, name):
                return f"{type(self).__name__} has a `{name}` of its own"
        return plain_problem(self, {**self._built_of, "": type(self)}, parts)

    def pairs(self, length: int, *, first: int | None = None) -> list[blocks.BlockPair]:
        """Blocks of a sequence of `length` positions, as pairs of spans that meet in the bridge.

        `first` is the length of the first block. By default it is as long as the others.
        """
        return blocks.block_pairs(length, self.config.block_size, self.config.rc_blocks, first=first)

    def branches(
        self, x_forward: Tensor, x_reverse: Tensor, pairs: Sequence[blocks.BlockPair]
    ) -> list[tuple[Tensor, Tensor, blocks.BlockPair]]:
        """For each pair, the outputs (N, l, H) of branch A and branch B, each in its reading direction."""
        outputs: list[tuple[Tensor, Tensor, blocks.BlockPair]] = []
        read = self._reader(x_forward, x_reverse)
        for alike in self._alike(pairs, x_forward.shape[0]):
            a, b = read(alike)
            outputs += zip(a.chunk(len(alike)), b.chunk(len(alike)), alike, strict=True)
        return sorted(outputs, key=lambda each: each[2].index)

    def _reader(
        self, x_forward: Tensor, x_reverse: Tensor
    ) -> Callable[[Sequence[blocks.BlockPair]], tuple[Tensor, Tensor]]:
        """Function that computes both branches for k similar pairs as one batch (k N, l, H).

        This is possible because blocks do not exchange state.
        """
        length = x_forward.shape[-1]
        features = dict(zip(("forward", "reverse"), self.stem(x_forward, x_reverse), strict=True))

        def features_at(at: spans.Locus) -> Tensor:
            return features[at.strand][:, at.own_slice(length)]

        def read(alike: Sequence[blocks.BlockPair]) -> tuple[Tensor, Tensor]:
            first = alike[0]
            a = self.branch_a(torch.cat([features_at(pair.branch_a) for pair in alike]), first.branch_a)
            b = self.branch_b(torch.cat([features_at(pair.branch_b) for pair in alike]), first.branch_b)
            return a, b

        return read

    def _alike(self, pairs: Sequence[blocks.BlockPair], n: int, threads: int = 1) -> Iterator[list[blocks.BlockPair]]:
        """Group pairs with the same size and reading directions. With hooks, each pair is alone and in order.

        There are at least as many groups as threads, if there are enough pairs.
        """
        # A captured graph must work for any number of sequences, so it must not depend on n.
        if len(pairs) == 1 or hooked(self) or torch.compiler.is_compiling():
            yield from ([pair] for pair in pairs)
            return
        groups: dict[tuple[int, bool], list[blocks.BlockPair]] = {}
        for pair in pairs:
            groups.setdefault((pair.forward.end - pair.forward.start, pair.a_is_forward), []).append(pair)
        for (size, _), group in groups.items():
            together = min(blocks_together(n, size), -(-len(group) // threads))
            yield from (group[first : first + together] for first in range(0, len(group), together))

    def represent(
        self, x_forward: Tensor, x_reverse: Tensor, pairs: Sequence[blocks.BlockPair] | None = None
    ) -> Tensor:
        """Fused representation (N, L, H) from the channels (N, 5, L) of both strands, each read 5' to 3'.

        `pairs` can replace the model's own blocks, to study their effect. They must cover the sequence in order.
        """
        fused = self.fused_blocks(x_forward, x_reverse, pairs)
        return fused[0] if len(fused) == 1 else torch.cat(fused, dim=1)

    def fused_blocks(
        self, x_forward: Tensor, x_reverse: Tensor, pairs: Sequence[blocks.BlockPair] | None = None
    ) -> list[Tensor]:
        """As `represent`, but a list of blocks (N, l, H) in the order of `pairs`."""
        pairs = self.pairs(x_forward.shape[-1]) if pairs is None else pairs
        fused: dict[int, Tensor] = {}
        read = self._reader(x_forward, x_reverse)

        def keep(alike: list[blocks.BlockPair], merged: Tensor) -> None:
            fused.update(zip((pair.index for pair in alike), merged.chunk(len(alike)), strict=True))

        def merged(alike: list[blocks.BlockPair]) -> Tensor:
            with torch.set_grad_enabled(gradients):  # grad mode is per thread
                return self.merge(*read(alike), alike[0])

        gradients, threads = torch.is_grad_enabled(), threads_to_spread_over()
        groups = self._alike(pairs, x_forward.shape[0], threads)
        if threads > 1:
            for_each(groups, merged, keep)
        else:
            for alike in groups:
                keep(alike, merged(alike))
        return [fused[pair.index] for pair in pairs]

    def merge(self, a: Tensor, b: Tensor, pair: blocks.BlockPair) -> Tensor:
        """Fused block (N, l, H) from the outputs of both branches, each in its reading direction."""
        a, b = blocks.flip(a, pair.branch_a), blocks.flip(b, pair.branch_b)
        if self.bridge is not None:
            a, b = self.bridge(a, b, pair)
        return self.fusion(a, b, pair)

    def forward_strands(
        self, x_forward: Tensor, x_reverse: Tensor, pairs: Sequence[blocks.BlockPair] | None = None
    ) -> Tensor:
        """Scores (N, T) as a function of the channels (N, 5, L) of each strand, for attribution by strand.

        The log-likelihood takes the observed bases from `x_forward`. So this direct path counts as forward strand.
        `pairs` as in `represent`.
        """
        fused = self.represent(x_forward, x_reverse, pairs)
        if self.head is not None:
            return self.head(fused)
        log_probability = self.lm_head(fused)[..., :4].log_softmax(-1)
        observed = x_forward.transpose(1, 2)
        count = observed.shape[1] - observed[..., 4].sum(-1)
        total = (observed[..., :4] * log_probability).sum((1, 2))
        return (total / count.clamp(min=1)).unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, T) of one-hot sequences (N, 5, L), channel order ACGTN.

        Raises:
            ValueError: `x` has another shape.
        """
        if x.ndim != 3 or x.shape[1] != len(alphabet.ALPHABET) or x.shape[2] == 0:
            raise ValueError(f"`x` must be channels of shape (N, 5, L), in the order ACGTN, but got {tuple(x.shape)}.")
        return self.forward_strands(x, strand.reverse_complement(x))

    def one_hot(self, seqs: str | Sequence[str]) -> Tensor:
        """One-hot input (N, 5, L) from strings of equal length, in the model's dtype and on its device.

        Raises:
            ValueError: the strings differ in length, or one is not DNA.
        """
        normal = alphabet.normalize_many(seqs)
        lengths = {len(seq) for seq in normal}
        if len(lengths) > 1:
            raise ValueError(f"`seqs` must be of equal length, but got lengths {sorted(lengths)}.")
        ids = torch.from_numpy(np.stack([alphabet.encode(seq) for seq in normal])).to(self.device)
        return F.one_hot(ids, len(alphabet.ALPHABET)).transpose(1, 2).to(self.dtype)

    @torch.no_grad()
    def embed(self, seqs: str | Sequence[str]) -> Tensor:
        """Fused representation (N, L, H) of strings of equal length, in sequence order.

        The module's mode applies: `load_model` returns a model in evaluation mode, but a new model has active dropout.
        """
        x = self.one_hot(seqs)
        return self.represent(x, strand.reverse_complement(x))

    def token_logits(self, seqs: str | Sequence[str]) -> Tensor:
        """Masked-language-model logits (N, L, 5) over ACGTN for strings of equal length. N marks a masked position.

        The module's mode applies, as in `embed`.
        """
        with torch.no_grad():
            return self.lm_head(self.embed(seqs))
