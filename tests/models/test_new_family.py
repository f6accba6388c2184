"""A family of models that the package does not know: defined here, registered, and used in every analysis.

Three variants differ in what they take: one-hot channels of four bases, ids of a vocabulary with special tokens, and
tokens of several bases cut by byte-pair encoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models import families, protocols
from crossdna_interpret.models.checkpoints import Checkpoint, check_keys, write_checkpoint
from crossdna_interpret.models.families import Family, register
from crossdna_interpret.models.fingerprint import fingerprint
from crossdna_interpret.models.inputs import Bpe, Inputs, OneHot, TokenIds
from crossdna_interpret.models.protocols import Embeddings, capability, declare
from crossdna_interpret.report import write_report
from crossdna_interpret.session import Session
from crossdna_interpret.widgets.explorer import Explorer

WIDTH = 6
PAD, CLS, SEP, MASK = 0, 1, 2, 3
VOCABULARY = {"A": 7, "C": 8, "G": 9, "T": 10, "N": 11}
MOTIF = "TAATCC"


def tokenizer() -> tokenizers.Tokenizer:
    """Byte pairs of DNA in which the motif is frequent."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ACGT"), 20)) + MOTIF for _ in range(50)]
    result = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=40, special_tokens=["[PAD]", "[CLS]", "[SEP]", "[MASK]"],
                                             initial_alphabet=list("ACGTN"), show_progress=False)  # fmt: skip
    result.train_from_iterator(texts, trainer)
    return result


INPUTS: dict[str, Callable[[], Inputs]] = {
    "one-hot": lambda: OneHot("ACGT", unknown=0.25),
    "ids": lambda: TokenIds(VOCABULARY, before=(CLS,), after=(SEP,), longest=512),
    "bpe": lambda: Bpe(tokenizer(), padding=PAD, before=(CLS,), after=(SEP,), unknown=MASK),
}


class Toy(nn.Module):
    """Two scores from a convolution over bases or tokens."""

    def __init__(self, kind: str, targets: tuple[str, ...]) -> None:
        super().__init__()
        self.kind, self.targets, self.name = kind, targets, f"toy-{kind}"
        self.inputs = INPUTS[kind]()
        self.training_range = None
        if kind != "one-hot":
            self.embedding = nn.Embedding(64, 4)
        self.conv = nn.Conv1d(4, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, len(targets))

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        return self.of_channels(x) if self.kind == "one-hot" else self.of_embeddings(self.embedding(x), known)

    def of_embeddings(self, embedded: Tensor, known: Tensor | None = None) -> Tensor:
        if known is not None:
            embedded = embedded * known.unsqueeze(-1)
        return self.of_channels(embedded.transpose(1, 2), known)

    def of_channels(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        hidden = self.conv(x).tanh()
        if known is not None:
            hidden = hidden * known.unsqueeze(1)
        return self.head(hidden.sum(2))


class ToyEmbeddings:
    def __init__(self, model: Toy) -> None:
        self.model = model

    def table(self) -> Tensor:
        return self.model.embedding.weight

    def scores(self, embedded: Tensor, *rest: Tensor) -> Tensor:
        return self.model.of_embeddings(embedded, *rest)


def load(checkpoint: Checkpoint) -> Toy:
    model = Toy(checkpoint.config["config"]["kind"], tuple(checkpoint.config["targets"]))
    model.load_state_dict(check_keys(checkpoint.tensors(), model.state_dict()))
    return model.eval().requires_grad_(False)


def recognises(config: Mapping[str, Any]) -> bool:
    return config.get("family") == "toy"


TOY = Family(
    name="toy",
    model=Toy,
    recognises=recognises,
    load=load,
    offers={
        Inputs: lambda model: model.inputs,
        Embeddings: lambda model: None if model.kind == "one-hot" else ToyEmbeddings(model),
    },
)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(TOY)
    yield
    families._families.pop("toy")
    protocols._offers.pop(Toy)


@pytest.fixture(params=list(INPUTS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of the family."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Toy(request.param, ("first", "second"))
    return write_checkpoint(
        tmp_path / "toy",
        family="toy",
        name=f"toy-{request.param}",
        targets=list(model.targets),
        config={"kind": request.param},
        training_range=None,
        provenance={},
        state=model.state_dict(),
        card="# A toy\n",
    )


@pytest.fixture
def model(folder: Path) -> Toy:
    loaded = cdi.load_model(folder, dtype="float64")
    assert isinstance(loaded, Toy)
    return loaded


SEQUENCE = "ACGTTGCATAATCCNGGATTAGCATC"


def by_hand(model: Toy, sequence: str) -> np.ndarray:
    """Scores (2,) without anything of the package but the weights."""
    letters = list(sequence)
    if model.kind == "one-hot":
        rows = [[0.25] * 4 if base == "N" else [float(base == each) for each in "ACGT"] for base in letters]
        vectors = torch.tensor(rows, dtype=torch.float64)
    else:
        own = [VOCABULARY[base] for base in letters]
        if model.kind == "bpe":
            own = tokenizer().encode(sequence).ids
        vectors = model.embedding.weight[[CLS, *own, SEP]]
    hidden = nn.functional.conv1d(vectors.T[None], model.conv.weight, model.conv.bias, padding=1).tanh()
    return (hidden.sum(2) @ model.head.weight.T + model.head.bias)[0].numpy()


def mutated(sequence: str, position: int, base: str) -> str:
    return sequence[:position] + base + sequence[position + 1 :]


def turned(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def test_it_is_loaded_like_any_other(folder: Path) -> None:
    loaded = cdi.load_model(folder)
    assert (loaded.name, loaded.targets) == (cdi.load_model(str(folder)).name, ("first", "second"))
    assert loaded.dtype == torch.float32
    with pytest.raises(ValueError, match="`backend` must be 'auto' or 'torch' for a model of toy, but got 'fla'"):
        cdi.load_model(folder, backend="fla")


def test_predictions_are_those_of_the_model(model: Toy) -> None:
    sequences = [SEQUENCE, "ACG", "N" * 7, SEQUENCE.lower()]
    expected = np.stack([by_hand(model, sequence.upper()) for sequence in sequences])
    np.testing.assert_allclose(cdi.predict(sequences, model, batch_size=3), expected, rtol=0, atol=1e-12)
    both = (expected + np.stack([by_hand(model, turned(sequence.upper())) for sequence in sequences])) / 2
    np.testing.assert_allclose(cdi.predict(sequences, model, rc_average=True), both, rtol=0, atol=1e-12)


def test_mutagenesis_and_scans_score_the_edited_strings(model: Toy, tmp_path: Path) -> None:
    result = cdi.ism(SEQUENCE, model, target="second", cache=tmp_path)
    for position, base in ((0, "T"), (9, "G"), (14, "C"), (25, "A")):
        expected = by_hand(model, mutated(SEQUENCE, position, base))
        np.testing.assert_allclose(result.predictions[position, "ACGT".index(base)], expected, rtol=0, atol=1e-12)
    assert len(list(tmp_path.glob("*.scores"))) == 1
    again = cdi.ism(SEQUENCE, model, target="second", cache=tmp_path)
    np.testing.assert_array_equal(again.predictions, result.predictions)
    assert "cache" not in again.certificate.settings
    deleted = cdi.deletion_scan(SEQUENCE, model, width=4, target=0)
    np.testing.assert_allclose(deleted.scores.predictions[3], by_hand(model, SEQUENCE[:3] + SEQUENCE[7:]), atol=1e-12)
    inserted = cdi.insertion_scan(SEQUENCE, model, insert=MOTIF, target=0)
    expected = by_hand(model, SEQUENCE[:5] + MOTIF + SEQUENCE[5:])
    np.testing.assert_allclose(inserted.scores.predictions[5], expected, atol=1e-12)
    pairs = cdi.pairwise_ism(SEQUENCE, model, regions=((1, 3), (8, 10)), target=1)
    assert np.isfinite(pairs.strongest).all()
    scores = cdi.score_edits(SEQUENCE, [(2, 4, "GGG"), (0, 1, "")], model, target=0)
    edited = [SEQUENCE[:2] + "GGG" + SEQUENCE[4:], SEQUENCE[1:]]
    expected = np.stack([by_hand(model, each) for each in edited])
    np.testing.assert_allclose(scores.predictions, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rc_average", [False, True])
def test_gradients_add_up(model: Toy, rc_average: bool) -> None:
    result = cdi.integrated_gradients(SEQUENCE, model, target="second", rc_average=rc_average)
    assert result.completeness_error < 1e-2
    assert not result.by_strand
    total = result.values.sum() + result.baseline_prediction
    expected = by_hand(model, SEQUENCE)[1]
    if rc_average:
        expected = (expected + by_hand(model, turned(SEQUENCE))[1]) / 2
    assert result.prediction == pytest.approx(expected, abs=1e-12)
    assert total == pytest.approx(expected, abs=1e-2 * abs(expected - result.baseline_prediction) + 1e-9)
    own = alphabet.one_hot(alphabet.encode(SEQUENCE))[:4].T.astype(bool)
    assert (result.values[SEQUENCE.index("N")] == 0).all()
    assert cdi.input_gradient(SEQUENCE, model, target=0, rc_average=rc_average).values[~own].any() == 0


def test_the_gradient_of_a_base_is_that_of_the_model(model: Toy) -> None:
    """By finite differences of the model's own input, along the line from nothing to the sequence."""
    result = cdi.integrated_gradients(SEQUENCE, model, target=0, baseline="zeros", steps=64, max_steps=512)
    total = by_hand(model, SEQUENCE)[0] - result.baseline_prediction
    assert result.values.sum() == pytest.approx(total, rel=1e-3)
    if model.kind == "bpe":
        _, spans = model.inputs.tokens(SEQUENCE)
        assert max(end - start for start, end in spans) > 1
        for start, end in spans:  # a token's value is shared evenly by its bases
            known = [at for at in range(start, end) if SEQUENCE[at] != "N"]
            assert len(set(np.round(result.values[known].sum(1), 6))) <= 1
        assert result.certificate.settings["values"] == "of tokens, shared evenly by their known bases"
        with pytest.raises(ValueError, match="`baseline` must be 'zeros'"):
            cdi.integrated_gradients(SEQUENCE, model, target=0, baseline="shuffle")


def test_orientation_compares_both_strands(model: Toy) -> None:
    result = cdi.orientation([SEQUENCE, SEQUENCE[::-1]], model, target=0)
    assert result.forward[0] == pytest.approx(by_hand(model, SEQUENCE)[0], abs=1e-12)
    assert result.reverse[0] == pytest.approx(by_hand(model, turned(SEQUENCE))[0], abs=1e-12)
    assert result.exchanged is None
    assert result.shifts == ()


def test_motifs_are_found_planted_and_designed(model: Toy) -> None:
    motif = cdi.Motif("M1", "CRX", np.eye(4)[["ACGT".index(base) for base in MOTIF]].T)
    seqlets = cdi.find_seqlets(cdi.ism(SEQUENCE, model, target=0))
    assert set(cdi.annotate(seqlets, [motif]).table["name"]) <= {"CRX"}
    sites = cdi.scan(cdi.ism(SEQUENCE, model, target=0), [motif], p=1e-3)
    assert sites.table["start"].tolist() == [8, 15]  # on the other strand
    assert np.isfinite(cdi.site_effects(sites, model, target=0).table["necessity"]).all()
    effect = cdi.marginalize(motif, model, backgrounds=["ACGT" * 10, "TGCA" * 10], target=0)
    assert np.isfinite(effect.to_dataframe().select_dtypes(float)).all(axis=None)
    path = cdi.design(SEQUENCE, model, max_edits=2, target=0)
    assert path.predictions[-1] >= path.predictions[0]


def test_what_needs_two_strands_says_that_it_does(model: Toy) -> None:
    with pytest.raises(TypeError, match="has no two strands with a bridge"):
        cdi.strand_exchange(SEQUENCE, model, target=0)


def test_it_has_a_report_and_an_explorer(model: Toy, tmp_path: Path) -> None:
    write_report({"one": SEQUENCE}, tmp_path / "report.html", model, target="first")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert model.name in page
    session = Session(SEQUENCE, model, background=False)
    explorer = Explorer(session)
    session.apply((3, 4, "A"))
    assert session.prediction == pytest.approx(by_hand(model, mutated(SEQUENCE, 3, "A"))[0], abs=1e-6)
    assert mutated(SEQUENCE, 3, "A") in explorer.to_html(timeout=None)
    explorer.close()


def test_a_longer_sequence_than_it_takes_is_refused_before_any_work(model: Toy) -> None:
    if model.kind != "ids":
        pytest.skip("the others take any length")
    with pytest.raises(ValueError, match="`seq` must have at most 512 bases, which toy-ids takes, but has 600"):
        cdi.ism("ACGTAC" * 100, model, target=0)


def test_another_family_of_that_name_is_refused() -> None:
    register(TOY)  # again is nothing
    with pytest.raises(ValueError, match="`family` 'toy' is the name of another family"):
        register(dataclasses.replace(TOY, backends=("none",)))


def test_a_checkpoint_of_no_family_is_refused(folder: Path) -> None:
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text.replace('"family": "toy"', '"family": "unheard of"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"of no known family: its config names 'unheard of'. Known families: .*toy"):
        cdi.load_model(folder)


def test_a_class_that_was_defined_again_replaces_the_family() -> None:
    def family(unknown: float) -> Family:
        class Again(nn.Module):
            """As a cell of a notebook defines it each time."""

        return Family("again", Again, lambda config: False, lambda checkpoint: Again(), {Inputs: lambda m: unknown})

    first, second = family(0.0), family(0.5)
    register(first)
    register(second)
    assert [each for each in families.families() if each.name == "again"] == [second]
    assert capability(second.model(), Inputs) == 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TokenIds({"A": 5, "C": 6, "G": 7, "T": 8, "N": 9}), TokenIds({"A": 5, "C": 6, "G": 7, "T": 8, "N": 9}, (3,))),
        (OneHot("ACGT"), OneHot("TGCA")),
        (OneHot("ACGT"), OneHot("ACGT", unknown=0.25)),
    ],
)
def test_what_a_family_declares_is_a_part_of_the_fingerprint(one: Inputs, other: Inputs) -> None:
    """Otherwise cached scores of one input would be used for another."""

    class Declared(nn.Module):
        pass

    hashes = []
    for inputs in (one, other, one):
        declare(Declared, {Inputs: lambda model, inputs=inputs: inputs})
        hashes.append(fingerprint(Declared()).digest)
    assert hashes[0] == hashes[2] != hashes[1]


def test_two_targets_of_one_name_are_refused() -> None:
    """A number would give the scores of the other one."""

    class Twice(nn.Module):
        name, targets, device, dtype = "twice", ("a", "b", "a"), torch.device("cpu"), torch.float32

    with pytest.raises(ValueError, match="`model` twice must have targets with different names, but has 'a' twice"):
        cdi.predict("ACGT", Twice())


class Dinucleotides:
    """A tokenizer of two bases, but of one where both are alike: sequences of one length differ in tokens."""

    def encode(self, sequence: str) -> Any:
        offsets, at = [], 0
        while at < len(sequence):
            end = at + (1 if sequence[at : at + 2] in ("AA", "CC", "GG", "TT") or at + 1 == len(sequence) else 2)
            offsets.append((at, end))
            at = end
        ids = [1 + sum((ord(base) % 7) * 9**k for k, base in enumerate(sequence[i:j])) for i, j in offsets]
        return type("Encoding", (), {"ids": ids, "offsets": offsets})

    def to_str(self) -> str:
        return "dinucleotides"


class Padded(nn.Module):
    """A model of tokens that may ignore which of them are padding."""

    name, targets, device, dtype = "padded", ("y",), torch.device("cpu"), torch.float32

    def __init__(self, *, masked: bool, longest: int | None = None) -> None:
        super().__init__()
        self.masked, self.longest = masked, longest
        self.table = nn.Embedding(200, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        shares = mask / mask.sum(1, keepdim=True) if self.masked else torch.full(ids.shape, 1 / ids.shape[1])
        return (self.table(ids) * shares[..., None]).sum((1, 2))[:, None]


declare(Padded, {Inputs: lambda model: Bpe(Dinucleotides(), longest=model.longest)})


@pytest.mark.parametrize("sequence", ["AAAAAAAAAAAAAAAAAA", "GCGCGCTGCGCGAGCGCG", "ACGTTTGCAGGACCATAC"])
def test_a_model_that_ignores_padding_is_noticed(sequence: str) -> None:
    """Also where the sequence itself has the most tokens, and is never padded in the probe."""
    with pytest.warns(cdi.UnstableModelWarning, match="between alone and in a batch"):
        cdi.ism(sequence, Padded(masked=False).eval())
    cdi.ism(sequence, Padded(masked=True).eval())


def test_a_sequence_near_the_most_tokens_is_scored() -> None:
    """What has too many tokens is a random sequence of the check, which is left out then."""
    sequence = "ACACACACACACACACACAC"
    model = Padded(masked=True, longest=10).eval()
    expected = model(
        *Bpe(Dinucleotides()).batch(alphabet.encode(sequence)[None], device=model.device, dtype=model.dtype)
    )
    np.testing.assert_allclose(cdi.predict(sequence, model), expected.detach().numpy())
    assert len(cdi.score_edits(sequence, [(0, 2, "GT"), (2, 4, "GT")], model).delta) == 2


def test_a_model_of_tokens_that_takes_no_probe_is_still_explained(tmp_path: Path) -> None:
    """Random sequences make more tokens than the model takes, so none can be compared with the sequence in a batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Toy("bpe", ("first", "second")).eval().requires_grad_(False)
    sequence = MOTIF * 6
    longest = max(len(model.inputs.tokens(mutated(sequence, at, base))[0]) for at in range(36) for base in "ACGT")
    model.inputs = dataclasses.replace(model.inputs, longest=longest)
    random = "".join(np.random.default_rng(0).choice(list("ACGT"), 36))
    with pytest.raises(ValueError, match="tokens; the model takes"):
        model.inputs.tokens(random)
    result = cdi.ism(sequence, model, target=0)
    assert result.predictions[3, 0, 0] == pytest.approx(by_hand(model, mutated(sequence, 3, "A"))[0], abs=1e-6)
