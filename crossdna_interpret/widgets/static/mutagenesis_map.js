// Every substitution as a heat map: a row for each base, a column for each position; a click applies a mutation.

const ROW = 18;
const TOP = 6;

function render({ model, el }) {
  const root = html("div", {
    class: "cdi cdi-map", tabindex: "0", role: "application",
    "aria-label": "Mutagenesis map. Arrow keys move, Enter applies the substitution.",
  });
  const bar = html("div", { class: "cdi-bar" });
  const readout = html("div", { class: "cdi-readout", "aria-live": "polite" });
  bar.append(readout);
  const canvas = html("canvas", { class: "cdi-canvas", role: "img" });
  root.append(bar, canvas);
  el.append(root);
  let row = -1;
  const height = TOP + 4 * ROW + 24;

  const letters = (scale) => [...BASES].map((base) => scale.letter(base)); // what is under each of A C G T on screen
  const baseOf = (scale, at) => (scale.flipped ? COMPLEMENT[BASES[at]] : BASES[at]);

  function draw(width) {
    const ratio = window.devicePixelRatio || 1;
    const scale = ruler(model, width);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.style.opacity = model.get("stale") ? "0.55" : "1";
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const ink = getComputedStyle(root).color;
    const delta = floats(model, "delta");
    const sequence = model.get("sequence");
    const dark = isDark(root);
    const limit = model.get("limit") || 1;
    if (delta.length === 4 * sequence.length) {
      for (const position of scale.shown) {
        const x = scale.x(position) - scale.unit / 2;
        for (let at = 0; at < 4; at++) {
          const base = BASES.indexOf(baseOf(scale, at));
          const y = TOP + at * ROW;
          if (BASES[base] === sequence[position]) {
            pen.fillStyle = ink;
            const size = Math.min(3, scale.unit / 3);
            pen.fillRect(x + scale.unit / 2 - size / 2, y + ROW / 2 - size / 2, size, size);
            continue;
          }
          pen.fillStyle = diverging(delta[4 * position + base] / limit, dark);
          pen.fillRect(x, y, Math.max(scale.unit + 0.3, 0.6), ROW + 0.3);
        }
      }
    } else {
      pen.fillStyle = ink;
      pen.font = "12px sans-serif";
      pen.fillText("not computed yet", LEFT + 8, TOP + 2 * ROW);
    }
    pen.fillStyle = ink;
    pen.font = "11px sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let at = 0; at < 4; at++) pen.fillText(BASES[at], LEFT - 6, TOP + (at + 0.5) * ROW);
    pen.save();
    pen.translate(12, TOP + 2 * ROW);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillText("mutated to", 0, 0);
    pen.restore();
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const shown = scale.shown;
    if (shown.length) {
      const [low, high] = [Math.min(shown[0], shown[shown.length - 1]), Math.max(shown[0], shown[shown.length - 1])];
      for (const value of ticks(low, high, Math.max(2, Math.floor((width - LEFT - RIGHT) / 70)))) {
        if (!Number.isInteger(value)) continue;
        pen.fillRect(scale.x(value), TOP + 4 * ROW + 1, 1, 4);
        pen.fillText(String(value), scale.x(value), TOP + 4 * ROW + 8);
      }
    }
    const cursor = model.get("cursor");
    if (cursor >= 0) {
      pen.strokeStyle = ink;
      pen.strokeRect(scale.x(cursor) - scale.unit / 2, TOP, scale.unit, 4 * ROW);
      if (row >= 0) {
        pen.lineWidth = 2;
        pen.strokeRect(scale.x(cursor) - scale.unit / 2, TOP + row * ROW, scale.unit, ROW);
      }
    }
    canvas.setAttribute("aria-label", `Heat map of ${3 * sequence.length} substitutions, ${model.get("label")}`);
    tell();
  }

  function tell() {
    const cursor = model.get("cursor");
    const sequence = model.get("sequence");
    const delta = floats(model, "delta");
    const scale = ruler(model, root.clientWidth);
    if (cursor < 0 || row < 0 || delta.length !== 4 * sequence.length) {
      const limit = model.get("limit");
      readout.textContent = `${model.get("label")}: blue lowers, red raises, full colour at ${limit ? limit.toPrecision(2) : "?"}`;
      return;
    }
    const base = baseOf(scale, row);
    const own = sequence[cursor] === base;
    readout.textContent = own ? `${base} at ${cursor} is the sequence's own` : `${sequence[cursor]}${cursor}${base}: ${signed(delta[4 * cursor + BASES.indexOf(base)])}`;
  }

  function apply() {
    const cursor = model.get("cursor");
    const base = row < 0 ? "" : baseOf(ruler(model, root.clientWidth), row);
    if (cursor < 0 || !base || base === model.get("sequence")[cursor] || !model.get("editable")) return;
    model.send({ type: "edit", start: cursor, end: cursor + 1, string: base });
  }

  const at = (event) => {
    const found = Math.floor((event.offsetY - TOP) / ROW);
    row = found >= 0 && found < 4 ? found : -1;
    return ruler(model, root.clientWidth).at(event.offsetX);
  };
  canvas.addEventListener("pointermove", (event) => {
    const before = row;
    setCursor(model, at(event));
    if (before !== row) draw(root.clientWidth);
  });
  canvas.addEventListener("pointerleave", () => {
    row = -1;
    setCursor(model, -1);
  });
  canvas.addEventListener("click", (event) => {
    setCursor(model, at(event));
    apply();
  });
  navigate(model, canvas, () => root.clientWidth);
  root.addEventListener("keydown", (event) => {
    const scale = ruler(model, root.clientWidth);
    const cursor = model.get("cursor");
    const last = model.get("sequence").length - 1;
    const step = (by) => setCursor(model, cursor < 0 ? scale.turn(0) : scale.turn(Math.min(Math.max(scale.turn(cursor) + by, 0), last)));
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowUp") row = Math.max(0, row < 0 ? 0 : row - 1);
    else if (event.key === "ArrowDown") row = Math.min(3, row + 1);
    else if (event.key === "Enter") apply();
    else return;
    draw(root.clientWidth);
    event.preventDefault();
    event.stopPropagation();
  });
  return redrawn(model, root, ["sequence", "stale", "delta", "limit", "view", "cursor", "flipped", "label"], draw);
}

// From blue over the colour of paper to red, for -1 to 1.
function diverging(value, dark) {
  const paper = dark ? [34, 34, 34] : [247, 247, 247];
  const full = value < 0 ? (dark ? [90, 160, 225] : [33, 102, 172]) : dark ? [240, 110, 95] : [178, 24, 43];
  const share = Math.min(1, Math.abs(value)) ** 0.8;
  return `rgb(${paper.map((from, i) => Math.round(from + (full[i] - from) * share)).join(",")})`;
}

export default { render };
