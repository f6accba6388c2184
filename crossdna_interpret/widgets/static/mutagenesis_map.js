// Every substitution as a heat map: a row for each base, a column for each position; a click applies a mutation.

const ROW = 18;
const TOP = 6;

function render({ model, el }) {
  const canvas = html("canvas", { class: "cdi-canvas", role: "img" });
  const help = "Mutagenesis map. Arrow keys move, Enter applies the substitution.";
  const { root, readout } = frame(el, "map", help, canvas);
  let row = -1;
  const height = TOP + 4 * ROW + 24;

  const known = (delta) => delta.length > 0 && delta.length === 4 * model.get("sequence").length;
  const baseOf = (scale, at) => (scale.flipped ? COMPLEMENT[BASES[at]] : BASES[at]);

  function draw(width) {
    const scale = ruler(model, width);
    const pen = prepared(canvas, model, width, height);
    const ink = getComputedStyle(root).color;
    const delta = floats(model, "delta");
    const sequence = model.get("sequence");
    const dark = isDark(root);
    const limit = model.get("limit") || 1;
    if (known(delta)) {
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
          pen.fillStyle = `rgb(${diverging(delta[4 * position + base] / limit, dark, "redBlue", 0.8).join(",")})`;
          pen.fillRect(x, y, Math.max(scale.unit + 0.3, 0.6), ROW + 0.3);
        }
      }
    } else {
      pen.fillStyle = ink;
      pen.font = "12px sans-serif";
      pen.fillText(labelOf(model, false), LEFT + 8, TOP + 2 * ROW);
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
    counting(pen, TOP + 4 * ROW + 8);
    for (const value of positionTicks(scale)) {
      pen.fillRect(scale.x(value), TOP + 4 * ROW + 1, 1, 4);
      pen.fillText(String(value), scale.x(value), TOP + 4 * ROW + 8);
    }
    const cursor = cursorOf(model);
    const edges = cursor < 0 ? null : scale.edges(cursor, cursor + 1);
    if (edges) {
      const [x, right] = edges;
      pen.strokeStyle = ink;
      pen.strokeRect(x, TOP, right - x, 4 * ROW);
      if (row >= 0) {
        pen.lineWidth = 2;
        pen.strokeRect(x, TOP + row * ROW, right - x, ROW);
      }
    }
    canvas.setAttribute("aria-label", `Heat map of ${3 * sequence.length} substitutions, ${labelOf(model, known(delta))}`);
    tell();
  }

  function tell() {
    const cursor = cursorOf(model);
    const sequence = model.get("sequence");
    const delta = floats(model, "delta");
    const scale = ruler(model, root.clientWidth);
    if (!known(delta)) {
      readout.textContent = ""; // the drawing says so
      return;
    }
    if (cursor < 0 || row < 0) {
      const colors = `blue lowers, red raises, full colour at ${(model.get("limit") || 1).toPrecision(2)}`;
      readout.textContent = `${labelOf(model, true)}: ${colors}`;
      return;
    }
    const base = baseOf(scale, row);
    const own = sequence[cursor] === base;
    const value = model.get("stale") ? "not computed yet" : signed(delta[4 * cursor + BASES.indexOf(base)]);
    readout.textContent = own ? `${base} at ${cursor} is the sequence's own` : `${sequence[cursor]}${cursor}${base}: ${value}`;
  }

  function apply() {
    const cursor = cursorOf(model);
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
    const cursor = cursorOf(model);
    if (event.key === "ArrowLeft") setCursor(model, moved(scale, cursor, -1));
    else if (event.key === "ArrowRight") setCursor(model, moved(scale, cursor, 1));
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

export default { render };
