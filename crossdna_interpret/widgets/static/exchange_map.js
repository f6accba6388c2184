// What crosses between the strands: arcs between the rails of a ladder, or a heat map; a brushed region is silenced.

const RAIL = 92; // between the rails of a ladder
const LADDER = 138;
const HEAT = 420;

function render({ model, el }) {
  const choice = (name, label, options) => {
    const node = html("select", { "aria-label": label, title: label, class: "cdi-select" });
    for (const [value, text] of options) node.append(html("option", { value }, text));
    node.value = model.get(name);
    node.addEventListener("change", () => {
      model.set(name, node.value);
      model.save_changes();
    });
    model.on(`change:${name}`, () => (node.value = model.get(name)));
    return node;
  };
  const shape = choice("mode", "kind of drawing", [["arcs", "arcs"], ["map", "heat map"]]);
  const direction = choice("direction", "direction", [
    ["both", "both directions"], ["reverse_to_forward", "reverse → forward"], ["forward_to_reverse", "forward → reverse"],
  ]);
  const source = choice("source", "source of messages", [["", "all sources"], ...model.get("sources").map((name) => [name, name])]);
  model.on("change:sources", () => {
    source.replaceChildren(html("option", { value: "" }, "all sources"), ...model.get("sources").map((name) => html("option", { value: name }, name)));
    source.value = model.get("source");
  });
  const side = choice("side", "what a brushed region does", [["receiver", "brush: received there"], ["sender", "brush: sent from there"]]);
  const threshold = html("input", { type: "range", min: "0", max: "0.9", step: "0.02", "aria-label": "smallest term drawn, as a share of the largest", title: "smallest term drawn, as a share of the largest", class: "cdi-range" });
  threshold.value = model.get("threshold");
  threshold.addEventListener("input", () => {
    model.set("threshold", Number(threshold.value));
    model.save_changes();
  });
  if (model.get("live") === false) source.hidden = side.hidden = true; // a page without Python cannot answer these
  const canvas = html("canvas", { class: "cdi-canvas", role: "img" });
  const help = "Strand exchange. Drag along the sequence to silence the messages of a region; Escape ends that.";
  const { root, readout } = frame(el, "exchange", help, canvas, threshold, shape, direction, source, side);
  const note = html("div", { class: "cdi-note-line", "aria-live": "polite" });
  root.append(note);
  let anchor = -1;
  let hover = null;
  let pointed = null; // { position } of the arcs, or { way, line, column } of the map
  let heat = null; // geometry of the map as last drawn

  const known = () => model.get("terms").byteLength > 0;
  const ways = () => (model.get("direction") === "both" ? [0, 1] : [model.get("direction") === "reverse_to_forward" ? 0 : 1]);

  function draw(width) {
    const isMap = model.get("mode") === "map";
    const count = ways().length;
    const height = isMap ? Math.min(HEAT, (width - LEFT - RIGHT) / count) + 44 : count * LADDER + 30;
    const pen = prepared(canvas, model, width, height);
    const ink = getComputedStyle(root).color;
    pen.fillStyle = pen.strokeStyle = ink;
    pen.font = "11px sans-serif";
    canvas.setAttribute("aria-label", labelOf(model, known()));
    if (!known()) {
      heat = null;
      pen.fillText(model.get("hint") || labelOf(model, false), LEFT + 8, 40);
      note.textContent = readout.textContent = "";
      return;
    }
    if (isMap) drawMap(pen, width, height, ink);
    else drawArcs(pen, width, height, ink);
    note.textContent = model.get("note");
    tell();
  }

  function drawArcs(pen, width, height, ink) {
    heat = null;
    const scale = ruler(model, width);
    const sequence = model.get("sequence");
    const colors = PALETTES[model.get("palette")];
    const terms = floats(model, "terms"); // direction, receiver, sender, value; the largest first
    const largest = model.get("largest") || 1;
    const selection = selectionOf(model);
    const brushed = selection.length ? scale.edges(...selection) : null;
    if (brushed) {
      pen.fillStyle = "rgba(120,120,160,0.22)";
      pen.fillRect(brushed[0], 0, brushed[1] - brushed[0], height - 26);
    }
    ways().forEach((way, place) => {
      const top = 24 + place * LADDER;
      // The strand that is read from left to right on screen is the upper rail.
      const rail = (strand) => top + ((strand === 0) !== scale.flipped ? 0 : RAIL);
      pen.lineWidth = 0.7;
      pen.strokeStyle = ink;
      for (const y of [top, top + RAIL]) {
        pen.beginPath();
        pen.moveTo(LEFT, y);
        pen.lineTo(width - RIGHT, y);
        pen.stroke();
      }
      pen.save();
      pen.beginPath();
      pen.rect(LEFT, 0, width - LEFT - RIGHT, height); // arcs that begin or end outside the window leave it here
      pen.clip();
      for (let i = terms.length - 4; i >= 0; i -= 4) {
        if (terms[i] !== way) continue;
        const size = Math.abs(terms[i + 3]) / largest;
        if (size < model.get("threshold")) continue;
        const [x0, x1] = [scale.x(terms[i + 2]), scale.x(terms[i + 1])];
        if (Math.max(x0, x1) < LEFT || Math.min(x0, x1) > width - RIGHT) continue;
        const [y0, y1] = [rail(1 - way), rail(way)];
        const touched = hover !== null && (terms[i + 1] === hover || terms[i + 2] === hover);
        pen.globalAlpha = hover === null || touched ? 0.25 + 0.65 * size : 0.06;
        pen.strokeStyle = pen.fillStyle = terms[i + 3] > 0 ? RAISES : LOWERS;
        pen.lineWidth = 0.5 + 3 * size;
        pen.beginPath();
        pen.moveTo(x0, y0);
        pen.bezierCurveTo(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1);
        pen.stroke();
        pen.beginPath();
        pen.arc(x0, y0, 1 + 1.6 * size, 0, 7);
        pen.fill();
      }
      pen.restore();
      const size = Math.min(11, scale.unit * 1.35);
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.font = `bold ${size.toFixed(1)}px sans-serif`;
      for (const position of scale.shown) {
        const base = scale.letter(sequence[position]);
        for (const [letter, y] of [[base, top - 8], [COMPLEMENT[base], top + RAIL + 8]]) {
          pen.fillStyle = colors[letter];
          if (size >= 5) pen.fillText(letter, scale.x(position), y);
          else pen.fillRect(scale.x(position) - scale.unit / 2, y - 3, Math.max(0.5, scale.unit), 6);
        }
      }
      pen.font = "11px sans-serif";
      pen.fillStyle = ink;
      for (const [y, ends] of [[top, ["5′", "3′"]], [top + RAIL, ["3′", "5′"]]]) {
        pen.fillText(ends[0], LEFT - 12, y);
        pen.fillText(ends[1], width - RIGHT + 11, y);
      }
      pen.save();
      pen.translate(14, top + RAIL / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(way === 0 ? "reverse → fwd" : "fwd → reverse", 0, 0);
      pen.restore();
    });
    pen.textBaseline = "top";
    counting(pen, height - 16);
    for (const value of positionTicks(scale)) pen.fillText(String(value), scale.x(value), height - 16);
    const cursor = cursorOf(model);
    const pointed = cursor < 0 ? null : scale.edges(cursor, cursor + 1);
    if (pointed) {
      pen.strokeStyle = ink;
      pen.lineWidth = 0.8;
      pen.strokeRect(pointed[0], 8, pointed[1] - pointed[0], height - 30);
    }
  }

  function drawMap(pen, width, height, ink) {
    const values = floats(model, "map");
    const cells = model.get("cells");
    const length = model.get("sequence").length;
    const chosen = ways();
    const side_ = height - 44;
    const dark = isDark(root);
    const limit = model.get("limit") || 1;
    heat = { boxes: [], size: side_ };
    chosen.forEach((way, place) => {
      const x0 = LEFT + place * (side_ + 60);
      const image = new ImageData(cells, cells);
      for (let i = 0; i < cells * cells; i++) {
        const color = diverging(values[way * cells * cells + i] / limit, dark, "orangeBlue", 0.7);
        image.data.set([...color, 255], 4 * i);
      }
      const small = document.createElement("canvas");
      small.width = small.height = cells;
      small.getContext("2d").putImageData(image, 0, 0);
      pen.imageSmoothingEnabled = cells > side_;
      pen.drawImage(small, x0, 8, side_, side_);
      pen.strokeStyle = pen.fillStyle = ink;
      pen.strokeRect(x0, 8, side_, side_);
      heat.boxes.push({ way, x0, y0: 8 });
      pen.textAlign = "center";
      pen.textBaseline = "top";
      for (const value of ticks(0, length - 1, 5)) {
        if (!Number.isInteger(value)) continue;
        const at = ((value + 0.5) / length) * side_;
        pen.fillText(String(value), x0 + at, side_ + 11);
        pen.textAlign = "right";
        if (place === 0) pen.fillText(String(value), x0 - 5, 3 + at);
        pen.textAlign = "center";
      }
      pen.fillText(`sent by the ${way === 0 ? "reverse" : "forward"} strand at (0-based)`, x0 + side_ / 2, side_ + 26);
      pen.save();
      pen.translate(place === 0 ? 12 : x0 - 18, 8 + side_ / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(`received by the ${way === 0 ? "forward" : "reverse"} strand at (0-based)`, 0, -6);
      pen.restore();
    });
  }

  // What the pointer is on, in words: made anew whenever something changes, so that it never speaks of what was.
  function reading() {
    if (!pointed) return "";
    const sequence = model.get("sequence");
    if ("position" in pointed) {
      const { position } = pointed;
      const received = floats(model, "received");
      if (position >= sequence.length) return "";
      if (model.get("stale") || received.length !== 4 * sequence.length) return `${sequence[position]} at ${position}: not computed yet`;
      const at = (row) => signed(received[row * sequence.length + position]);
      return `${sequence[position]} at ${position}: forward strand receives ${at(0)}, reverse ${at(1)}; sent by reverse ${at(2)}, by forward ${at(3)}`;
    }
    const { way, line, column } = pointed;
    const cells = model.get("cells");
    if (line >= cells || column >= cells) return "";
    const direction = way === 0 ? "reverse → forward" : "forward → reverse";
    const place = (index) => (cells === sequence.length ? `${index}` : `${edge(index)} to ${edge(index + 1) - 1}`);
    const number = floats(model, "map")[way * cells * cells + line * cells + column];
    const value = model.get("stale") ? "not computed yet" : signed(number, 4);
    return `${direction}: sent at ${place(column)}, received at ${place(line)}: ${value}`;
  }

  const edge = (index) => Math.floor((index * model.get("sequence").length) / model.get("cells")); // as the sums were made

  function tell() {
    readout.textContent = reading() || labelOf(model, known());
  }

  function brush(one, other) {
    const range = [Math.min(one, other), Math.max(one, other) + 1];
    model.set("selection", range);
    model.save_changes();
    return range;
  }

  const positionOf = (event) => (heat ? -1 : ruler(model, root.clientWidth).at(event.offsetX));
  canvas.addEventListener("pointerdown", (event) => {
    root.focus();
    anchor = positionOf(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (heat) {
      const box = heat.boxes.find((b) => event.offsetX >= b.x0 && event.offsetX < b.x0 + heat.size && event.offsetY >= b.y0 && event.offsetY < b.y0 + heat.size);
      const cell = (offset) => Math.floor((offset / heat.size) * model.get("cells"));
      pointed = box ? { way: box.way, line: cell(event.offsetY - box.y0), column: cell(event.offsetX - box.x0) } : null;
      if (pointed) setCursor(model, edge(pointed.column));
      return tell();
    }
    const position = positionOf(event);
    setCursor(model, position);
    pointed = position < 0 ? null : { position };
    if (anchor >= 0 && position >= 0) brush(anchor, position);
    else if (position !== hover) {
      hover = position < 0 ? null : position;
      draw(root.clientWidth);
    }
    tell();
  });
  canvas.addEventListener("pointerup", (event) => {
    const position = positionOf(event);
    if (anchor >= 0 && position >= 0) silence(...brush(anchor, position));
    anchor = -1;
  });
  canvas.addEventListener("pointerleave", () => {
    hover = pointed = null;
    setCursor(model, -1);
    draw(root.clientWidth);
  });
  function silence(start, end) {
    if (model.get("editable")) model.send({ type: "silence", start, end });
  }
  root.addEventListener("keydown", (event) => {
    if (event.target !== root) return;
    const scale = ruler(model, root.clientWidth);
    const cursor = cursorOf(model);
    if (event.key === "Escape") {
      model.set("selection", []);
      model.save_changes();
      if (model.get("editable")) model.send({ type: "silence" });
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const next = moved(scale, cursor, event.key === "ArrowLeft" ? -1 : 1);
      if (event.shiftKey) {
        const [start, end] = selectionOf(model).length ? selectionOf(model) : [Math.max(cursor, 0), cursor + 1];
        brush(start < next ? start : end - 1, next); // from the end that lies away from where it goes
      }
      setCursor(model, next);
    } else if (event.key === "Enter" && selectionOf(model).length) silence(...selectionOf(model));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  navigate(model, canvas, () => root.clientWidth);
  const names = ["sequence", "stale", "terms", "map", "largest", "view", "cursor", "selection", "flipped", "palette", "mode", "direction", "source", "threshold", "note", "label", "received", "hint"];
  return redrawn(model, root, names, draw);
}

export default { render };
