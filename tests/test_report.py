"""The report: self-contained, escaped, and with the numbers of the API."""

from __future__ import annotations

import io
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.strand_symmetry import symmetrized
from crossdna_interpret.report import sequences as report_module
from crossdna_interpret.report import write_report

SEQUENCE = "ACGTTGCAAGGCTTAACCGGATAT"
HOSTILE = "<script>alert('x')</script>&\"'"


class Ordinary(nn.Module):
    """A small convolutional network that knows nothing about strands."""

    name, device = "ordinary", torch.device("cpu")

    def __init__(self, targets: tuple[str, ...] = ("liver", "retina")) -> None:
        super().__init__()
        self.targets = targets
        self.convolution, self.head = nn.Conv1d(5, 8, 5, padding=2), nn.Linear(8, len(targets))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.convolution(x)).mean(2))


def text_of(report: tuple[Path, Path]) -> str:
    """A page without its script, with all white space as single spaces."""
    return " ".join(report[0].read_text(encoding="utf-8").partition("<script")[0].split())


def table_of(report: tuple[Path, Path]) -> pd.DataFrame:
    return pd.read_csv(report[1], sep="\t")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")  # random weights integrate badly
def test_the_page_is_self_contained_and_names_are_escaped(tmp_path: Path, model: CrossDNA) -> None:
    page, _ = write_report({HOSTILE: "ACGTTGCAACGGTNNACGTTGAC", "plain": "acguugcaaggcuu"}, tmp_path / "r.html", model)
    html = page.read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>", html) == ['<script type="module">']
    assert html.count("</script") == 1
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&#34;&#39;" in html
    before_script = html.partition("<script")[0]
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", before_script)
    assert len(sources) == 2 * 2 + 1 + 2  # two pictures a sequence, the table, and a link to each section
    assert all(source.startswith(("data:image/svg+xml;base64,", "#s")) or source == "r.tsv" for source in sources)
    assert "@import" not in html
    assert "url(" not in html
    assert html.count('["exchange_map", {') == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_the_table_holds_the_numbers_of_the_api(
    tmp_path: Path, make_model: Callable[..., CrossDNA], make_sequence: Callable[..., str]
) -> None:
    model = make_model(targets=("one", "two"))
    sequence = make_sequence(30, n_at=(4,))
    page, table_path = write_report({"x": sequence}, tmp_path / "r.html", model, target="two")
    table = pd.read_csv(table_path, sep="\t")
    result = cdi.ism(sequence, model, target="two")
    attribution = cdi.integrated_gradients(sequence, model, target="two")
    two = table[table["target"] == "two"]
    assert len(two) == 29 * 3 + 4
    assert set(table["target"]) == {"one", "two"}
    for row in two.itertuples():
        base = "ACGT".index(row.alt)
        assert row.ref == sequence[row.position]
        np.testing.assert_allclose(row.delta, result.delta[row.position, base], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(row.attribution_forward, attribution.forward[row.position].sum(), atol=1e-5)
        np.testing.assert_allclose(row.attribution_reverse, attribution.reverse[row.position].sum(), atol=1e-5)
    html = page.read_text(encoding="utf-8")
    assert f"{result.reference[1]:.3f}" in html
    assert f"{cdi.predict(cdi.reverse_complement(sequence), model)[0, 1]:.3f}" in html
    assert result.certificate.model_hash in html


@pytest.mark.slow
def test_a_known_locus_shows_what_was_measured(tmp_path: Path) -> None:
    locus = cdi.example()
    page, _ = write_report({locus.name: locus.sequence}, tmp_path / "r.html", loci={locus.name: locus})
    html = page.read_text(encoding="utf-8")
    assert f"Measured: {locus.measured:.3f}" in html
    assert f"{locus.chrom}:{locus.start}-{locus.end}" in html
    assert "eLife 10:e67403" in html


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ({}, ValueError, "`sequences` must hold at least one sequence"),
        ({"a": "ACGT", "b": "ACGX"}, ValueError, "has 'X' at position 3"),
        ({"a": 7}, TypeError, "must be a string"),
    ],
)
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_nothing_is_written_when_a_sequence_is_bad(
    tmp_path: Path, model: CrossDNA, sequences: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        write_report(sequences, tmp_path / "r.html", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_each_row_has_the_attribution_of_its_own_target(tmp_path: Path, make_model: Callable[..., CrossDNA]) -> None:
    for model in (make_model(targets=("liver", "retina")), Ordinary().double()):
        table = table_of(write_report({"e": SEQUENCE}, tmp_path / "two.html", model, target="retina"))
        assert set(table["target"]) == {"liver", "retina"}
        for target, rows in table.groupby("target"):
            own = cdi.integrated_gradients(SEQUENCE, model, target=target)
            mutated = cdi.ism(SEQUENCE, model, target=target).to_dataframe()
            mutated = mutated[mutated["target"] == target]
            at = rows["position"].to_numpy()
            close = {"rtol": 1e-5, "atol": 1e-6}
            np.testing.assert_allclose(rows["delta"], mutated["delta"], **close)
            np.testing.assert_allclose(rows["attribution"], own.importance[at], **close)
            np.testing.assert_allclose(rows["attribution_forward"], own.forward.sum(1)[at], **close)
            if own.by_strand:
                np.testing.assert_allclose(rows["attribution_reverse"], own.reverse.sum(1)[at], **close)
            else:
                assert rows["attribution_reverse"].isna().all()


def test_the_table_of_many_targets_has_the_one_that_is_explained(tmp_path: Path) -> None:
    model = Ordinary(tuple(f"t{number}" for number in range(11)))
    table = table_of(write_report({"e": SEQUENCE[:12]}, tmp_path / "many.html", model, target="t7"))
    assert set(table["target"]) == {"t7"}
    own = cdi.integrated_gradients(SEQUENCE[:12], model, target="t7").importance
    np.testing.assert_allclose(table["attribution"], own[table["position"]], rtol=1e-5, atol=1e-6)
    delta = cdi.ism(SEQUENCE[:12], model, target="t7").delta
    expected = [delta[row.position, "ACGT".index(row.alt)] for row in table.itertuples()]
    np.testing.assert_allclose(table["delta"], expected, rtol=1e-5, atol=1e-6)


def test_an_ordinary_model_is_not_reported_as_one_of_two_strands(tmp_path: Path) -> None:
    page, _ = write_report({"e": SEQUENCE}, tmp_path / "r.html", Ordinary(), target="liver")
    text = page.read_text(encoding="utf-8").partition("<script")[0]
    assert "CrossDNA" not in text
    assert "strand" not in text.partition("<style>")[0] + text.partition("</style>")[2].replace("read as a strand", "")
    assert "their sum, over the bases of the baseline too, differs from it by" in " ".join(text.split())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_that_orientations_agree_by_construction_is_no_evidence(
    tmp_path: Path, make_model: Callable[..., CrossDNA]
) -> None:
    model = make_model(block_size=None)
    one, other = cdi.predict([SEQUENCE, cdi.reverse_complement(SEQUENCE)], model)[:, 0]
    text = text_of(write_report({"e": SEQUENCE}, tmp_path / "r.html", model))
    assert (
        f"has the prediction {other:.3f}, which differs by {other - one:+.3f}. If activity does not depend on" in text
    )
    assert "no evidence" not in text
    model.load_state_dict(symmetrized(model.state_dict(), keep="both"))
    text = text_of(write_report({"e": SEQUENCE}, tmp_path / "r.html", model))
    assert "This is built into the model" in text
    assert "no evidence that the prediction is right" in text
    assert "The difference of" not in text
    assert "how far to trust" not in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.ShuffleWarning")
def test_a_sequence_outside_of_the_training_range_is_marked(tmp_path: Path) -> None:
    inside, outside = cdi.example().sequence, "ACG"
    with warnings.catch_warnings():
        warnings.simplefilter("error", cdi.OutsideTrainingWarning)  # the page says it
        report = write_report({"in": inside, "out": outside}, tmp_path / "r.html")
    problem = cdi.outside_training(cdi.load_model(), outside)
    assert problem is not None
    text = text_of(report)
    assert "1 of 2 sequences is outside the training data of the model. Its prediction is an extrapolation" in text
    first, second = text.partition("<h2>in</h2>")[2].split("<h2>out</h2>")
    assert problem not in first
    assert f"outside the training data of the model: {problem}. The prediction is an extrapolation." in second
    table = table_of(report)
    assert set(table.loc[table["name"] == "out", "outside_training"]) == {problem}
    assert table.loc[table["name"] == "in", "outside_training"].isna().all()
    text = text_of(write_report({"in": inside}, tmp_path / "r.html"))
    assert "training data" not in text


@pytest.mark.parametrize(
    ("out", "table"),
    [("a.html", "a.tsv"), ("a.HTM", "a.tsv"), ("sample.1", "sample.1.tsv"), ("page", "page.tsv"),
     ("a.b.html", "a.b.tsv"), ("ü \u4e2d #1?.html", "ü \u4e2d #1?.tsv")],
)  # fmt: skip
def test_the_table_is_named_after_the_page(tmp_path: Path, out: str, table: str) -> None:
    result = write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / out, Ordinary(), target=0)
    assert result == (tmp_path / out, tmp_path / table)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out, table])
    assert f'href="{quote(table)}"' in result[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("out", ["x.tsv", "x.TSV"])
def test_the_page_cannot_take_the_place_of_its_table(tmp_path: Path, out: str) -> None:
    with pytest.raises(ValueError, match=r"`out` is the page and must not end in \.tsv"):
        write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / out, Ordinary(), target=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["library.tsv", "library.html"])
@pytest.mark.parametrize(
    "content", ["sequence\tactivity\nACGT\t1.5\n", "name\tposition\n", "<html></html>", ">a\nACGT\n"]
)
def test_files_that_are_no_reports_are_left_alone(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FileExistsError, match=rf"{name} exists and is not .*report, so it is not overwritten"):
        write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / "library.html", Ordinary(), target=0)
    assert (tmp_path / name).read_text() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    first = write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / "r.html", Ordinary(), target=0)
    second = write_report({"other": "ACGTTGCAAGGCTTC"}, tmp_path / "r.html", Ordinary(), target=1)
    assert first == second
    assert "other" in text_of(second)
    assert set(table_of(second)["name"]) == {"other"}
    (tmp_path / "r.tsv").write_bytes(b"")  # made beforehand, as mktemp does
    write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / "r.html", Ordinary(), target=0)
    (tmp_path / "r.tsv").unlink()
    (tmp_path / "r.tsv").mkdir()
    with pytest.raises(OSError, match="must be a file, but there is a folder"):
        write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / "r.html", Ordinary(), target=0)


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_what_is_finished_when_it_is_interrupted_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    sequences = {"one": "ACGTTGCAAGGCTT", "two": "GGCATTGGCCATAG", "three": "TTGACATTGGACAT"}
    whole = write_report(sequences, tmp_path / "whole.html", Ordinary(), target=0)
    done: list[str] = []

    def interrupted(sequence: str, *args: object, **options: object) -> cdi.Mutagenesis:
        if sequence == "TTGACATTGGACAT":
            raise error
        return cdi.ism(sequence, *args, **options)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(report_module, "ism", interrupted)
    with pytest.raises(error):
        write_report(sequences, tmp_path / "r.html", Ordinary(), target=0, finished=done.append)
    assert done == ["one", "two"]
    written = tmp_path / "r.html", tmp_path / "r.tsv"
    assert "This page has 2 of 3 sequences" in text_of(written)
    assert "This page has" not in text_of(whole)
    expected = table_of(whole)
    pd.testing.assert_frame_equal(table_of(written), expected[expected["name"] != "three"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.tsv", "whole.html", "whole.tsv"]


def test_writing_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [0.0], []
    monkeypatch.setattr(report_module.time, "monotonic", lambda: clock[0])

    def write() -> None:
        clock[0] += 0.1 * len(written)  # a longer page takes longer
        written.append(clock[0])

    def work() -> float:
        with report_module._Throttled(write) as writer:
            for _ in range(100):
                clock[0] += 1
                changed = clock[0]
                writer.changed()
            return changed

    changed = work()
    assert written[0] == 1
    assert sum(0.1 * number for number in range(len(written) - 1)) <= 0.1 * changed
    assert len(written) > 5
    assert written[-1] >= changed  # the last change is written in any case


def test_an_interruption_before_the_end_leaves_an_earlier_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = write_report({"earlier": "ACGTTGCAAGGCTT"}, tmp_path / "r.html", Ordinary(), target=0)
    monkeypatch.setattr(report_module, "ism", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / "r.html", Ordinary(), target=0)
    assert "earlier" in text_of(earlier)
    assert set(table_of(earlier)["name"]) == {"earlier"}


@pytest.mark.slow
def test_progress_is_shown_through_all_analyses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    class Slow(Ordinary):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.4)
            return super().forward(x)

    screen = Screen()
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    write_report({"one": "ACGTTGCAAGGCTT", "two": "GGCATTGGCCATAG"}, tmp_path / "r.html", Slow(), target=0)
    shown = screen.getvalue()
    assert re.search(r"report: +\d+%.*/8 .*sequence [12] of 2, integrated gradients", shown)
    assert "sequence 2 of 2, ism" in shown
    assert shown.endswith("\r")  # cleared at the end


def test_names_and_descriptions_are_shown_whole_and_as_text(tmp_path: Path) -> None:
    long, foreign = "n" * 3000, "gène_中"
    names = {long: "ACGTTGCAAGGCTT", foreign: "ACGTTGCAAGGCTT", 'a\tb\n"c"': "ACGTTGCAAGGCTT"}
    described = {foreign: "chr1:10-16 <b>l'œil</b> & more"}
    report = write_report(names, tmp_path / "r.html", Ordinary(("<i>x</i>",)), descriptions=described)
    html = report[0].read_text(encoding="utf-8")
    assert f"<h2>{long}</h2>" in html
    assert f"<h2>{foreign}</h2>\n<p>chr1:10-16 &lt;b&gt;l&#39;œil&lt;/b&gt; &amp; more</p>" in html
    assert "target &lt;i&gt;x&lt;/i&gt;." in html
    assert list(table_of(report)["name"].unique()) == list(names)


def test_sequences_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="`sequences` must be a mapping from name to sequence, but got str"):
        write_report("ACGT", tmp_path / "r.html", Ordinary(), target=0)  # type: ignore[arg-type]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, model: CrossDNA) -> None:
    with pytest.raises(FileNotFoundError, match="in a folder that does not exist"):
        write_report({"a": "ACGT"}, tmp_path / "none" / "r.html", model)


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_what_arcs_and_messages_add_up_to_is_said(tmp_path: Path, make_model: Callable) -> None:
    model = make_model(targets=["y"])
    exchange = cdi.strand_exchange("ACGTTGCAAGGCTT", model)
    text = text_of(write_report({"e": "ACGTTGCAAGGCTT"}, tmp_path / "r.html", model))
    terms, constant = exchange.contributions.sum(dtype=float), exchange.bias.sum(dtype=float)
    assert f"add up to {terms:+.3f}. The constant part of the messages," in text
    assert f"which is not drawn, adds {constant:+.3f}" in text
    assert terms + constant == pytest.approx(exchange.effects.both - exchange.effects.none, abs=1e-4)
    assert "means over 8 shuffles" in text
