"""The report: self-contained, escaped, and with the numbers of the API."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.report import write_report

HOSTILE = "<script>alert('x')</script>&\"'"


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")  # random weights integrate badly
def test_the_page_is_self_contained_and_names_are_escaped(tmp_path: Path, model: CrossDNA) -> None:
    page, _ = write_report({HOSTILE: "ACGTTGCANNAC", "plain": "acgu"}, tmp_path / "r.html", model)
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


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, model: CrossDNA) -> None:
    with pytest.raises(FileNotFoundError, match="in a folder that does not exist"):
        write_report({"a": "ACGT"}, tmp_path / "none" / "r.html", model)
