"""Small results whose numbers are known, views of them, and what a page shows of a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crossdna_interpret.results import Attribution, Certificate, ExchangeEffects, Mutagenesis, StrandExchange
from crossdna_interpret.widgets.exchange_map import StrandExchangeMap
from crossdna_interpret.widgets.logo_view import LogoView
from crossdna_interpret.widgets.mutagenesis_map import MutagenesisMap
from crossdna_interpret.widgets.view import View

CERTIFICATE = Certificate("test", "toy", "0", "cpu", "float64", {})
SEQUENCE = "GATTACAGCCATTGACCGTN"
LENGTH = len(SEQUENCE)
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def attribution(sequence: str = SEQUENCE) -> Attribution:
    forward, reverse = np.zeros((2, len(sequence), 4))
    forward[:, 0] = np.linspace(-0.5, 1.5, len(sequence))
    reverse[:, 2] = np.linspace(0.4, -0.2, len(sequence))
    return Attribution(sequence, "activity", forward, reverse, 1.0, 0.0, "zeros", CERTIFICATE)


def mutagenesis(sequence: str = SEQUENCE) -> Mutagenesis:
    predictions = 1 + np.arange(len(sequence) * 4.0).reshape(-1, 4, 1) / 100
    for position, base in enumerate(sequence):
        if base != "N":
            predictions[position, "ACGT".index(base)] = 1.0
    return Mutagenesis(sequence, 0, ("activity",), "activity", np.ones(1), predictions, CERTIFICATE)


def exchange(sequence: str = SEQUENCE) -> StrandExchange:
    length = len(sequence)
    by_source = np.zeros((2, 2, length, length))
    by_source[0, 0, 4, 9], by_source[1, 1, 12, 3] = 0.5, -0.25
    return StrandExchange(
        sequence, "activity", ("same position", "global mean"), by_source, np.zeros((2, length)),
        np.ones((2, length, 2)), np.ones(length), np.arange(length), ExchangeEffects(1.25, 1.5, 0.75, 1.0), CERTIFICATE,
    )  # fmt: skip


VIEWS: dict[str, Callable[..., View]] = {
    "logo": lambda **traits: LogoView(mutagenesis(), **traits),
    "strands": lambda **traits: LogoView(attribution(), **traits),
    "map": lambda **traits: MutagenesisMap(mutagenesis(), **traits),
    "exchange": lambda **traits: StrandExchangeMap(exchange(), **traits),
}


def pixel(page: Any, position: int, inside: str) -> tuple[float, float]:
    """Where a position lies, of all of them."""
    box = page.locator(inside).bounding_box()
    unit = (box["width"] - 62 - 22) / LENGTH
    return box["x"] + 62 + (position + 0.5) * unit, box["y"]


def drawn(page: Any) -> None:
    """Wait until the requested change is on screen."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def put(page: Any, name: str, value: Any) -> None:
    page.evaluate("([name, value]) => document.getElementById('views').models[0].set(name, value)", [name, value])
    drawn(page)


def readout(page: Any) -> str:
    text: str = page.locator(".cdi-readout").inner_text()
    return text


def words(page: Any) -> list[str]:
    """What is written in a drawing, after it is drawn anew."""
    return page.evaluate(
        """() => {
          const texts = Array.from(document.querySelectorAll('svg text')).map((text) => text.textContent);
          const pen = CanvasRenderingContext2D.prototype, write = pen.fillText;
          pen.fillText = function (text, ...place) {
            texts.push(text);
            return write.call(this, text, ...place);
          };
          const model = document.getElementById('views').models[0];
          model.put('cursor', model.get('cursor') + 1);
          return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
            pen.fillText = write;
            done(texts);
          })));
        }"""
    )
