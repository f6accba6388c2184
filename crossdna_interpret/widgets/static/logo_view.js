// Both strands of a sequence as letters, as tall as they matter; can be edited by click and by key.

const TRACKS = { split: 84, whole: 132 }; // heights
const GAP = 16;

function render({ model, el }) {
  const canvas = svg("svg", { class: "cdi-canvas", role: "img" });
  const help = "Sequence logo. Arrow keys move, A C G T substitute, Delete deletes, Insert changes to inserting.";
  const { root, readout } = frame(el, "logo", help, canvas, ...zoomButtons(model));
  const chooser = html("div", { class: "cdi-chooser", hidden: "", role: "menu" });
  root.append(chooser);

  let anchor = -1; // where a drag or a selection by keys began
  let dragged = false;
  let inserting = false;
  const editable = () => model.get("editable");
  const send = (message) => editable() && model.send(message);
  const scaleNow = () => ruler(model, root.clientWidth);

  function tracks() {
    const reverse = floats(model, "reverse");
    return { forward: floats(model, "forward"), reverse, split: reverse.length > 0 };
  }

  function draw(width) {
    const sequence = model.get("sequence");
    const wild = model.get("wild");
    const scale = ruler(model, width);
    const colors = PALETTES[model.get("palette")];
    const { forward, reverse, split } = tracks();
    const [upper, lower] = scale.flipped && split ? [reverse, forward] : [forward, reverse];
    let low = 0;
    let high = 0;
    for (const position of scale.shown) {
      for (const heights of split ? [upper, lower] : [upper]) {
        const value = heights[position] || 0;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    const span = high - low || 1;
    const brackets = model.get("brackets");
    const TRACK = split ? TRACKS.split : TRACKS.whole;
    const top = brackets.length ? 44 : 18;
    const perUnit = TRACK / span;
    const lines = [{ heights: upper, base: (b) => scale.letter(b), zero: top + high * perUnit }];
    if (split) {
      const zero = top + TRACK + GAP + high * perUnit;
      lines.push({ heights: lower, base: (b) => COMPLEMENT[scale.letter(b)], zero });
    }
    const rows = split ? 0 : 34; // both strands in plain letters, where heights are not told apart by strand
    const bottom = top + (split ? 2 * TRACK + GAP : TRACK) + 8 + rows;
    canvas.setAttribute("viewBox", `0 0 ${width} ${bottom + 24}`);
    canvas.setAttribute("width", width);
    canvas.setAttribute("height", bottom + 24);
    const group = svg("g");

    const mark = (start, end, kind, attributes = {}) => {
      const edges = scale.edges(start, end);
      if (!edges) return;
      const [x, right] = edges;
      const box = { x, width: right - x, y: top - 6, height: bottom - top + 6, class: kind };
      group.append(svg("rect", { ...box, ...attributes }));
    };
    const selection = selectionOf(model);
    if (selection.length) mark(...selection, "cdi-selection");
    for (const position of scale.shown) {
      if (wild && wild[position] !== sequence[position]) mark(position, position + 1, "cdi-edited", { "data-at": position });
    }
    const cursor = cursorOf(model);
    if (cursor >= 0) mark(cursor, cursor + 1, inserting ? "cdi-cursor cdi-inserting" : "cdi-cursor");
    lines.forEach((line, track) => {
      group.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: line.zero, y2: line.zero, class: "cdi-axis" }));
      drawLetters(group, scale, sequence, line, perUnit, colors, track);
      for (const value of ticks(low, high, 3)) {
        const y = line.zero - value * perUnit;
        group.append(svg("text", { x: LEFT - 18, y: y + 3, "text-anchor": "end", class: "cdi-tick" }, String(value)));
      }
      const ends = track === 0 ? ["5′", "3′"] : ["3′", "5′"];
      group.append(svg("text", { x: LEFT - 4, y: line.zero + 3, "text-anchor": "end", class: "cdi-end" }, ends[0]));
      group.append(svg("text", { x: width - RIGHT + 4, y: line.zero + 3, class: "cdi-end" }, ends[1]));
      if (split) {
        const name = (track === 0) !== scale.flipped ? "forward strand" : "reverse strand";
        const y = track === 0 ? top - 6 : top + TRACK + GAP - 2;
        group.append(svg("text", { x: width - RIGHT, y, "text-anchor": "end", class: "cdi-note" }, name));
      }
    });
    if (!split) drawPlain(group, scale, sequence, wild, top + TRACK + 20, colors, width);
    else drawWild(group, scale, sequence, wild, top + TRACK + GAP / 2 + 3);
    drawBrackets(group, scale, brackets, top - 22);
    drawAxis(group, scale, bottom);
    const zoomed = scale.shown.length < sequence.length;
    const [start, end] = windowOf(model);
    const part = zoomed ? ` · ${start} to ${end - 1} of ${sequence.length} positions` : "";
    const words = labelOf(model, forward.length > 0);
    const room = Math.floor((width - LEFT - RIGHT - 90) / 6.2) - part.length; // letters, clear of a strand's name
    const long = words.length > room;
    const label = svg("text", { x: LEFT, y: top - 6, class: "cdi-note" }, (long ? `${words.slice(0, room - 1)}…` : words) + part);
    if (long) label.append(svg("title", {}, words));
    group.append(label);
    canvas.replaceChildren(group);
    canvas.style.opacity = model.get("stale") ? "0.55" : "1";
    canvas.setAttribute("aria-label", `${sequence.length} bases, ${labelOf(model, forward.length > 0)}`);
    tell();
  }

  function drawLetters(group, scale, sequence, line, perUnit, colors, track) {
    if (scale.unit < 3) {
      const paths = {};
      for (const position of scale.shown) {
        const height = (line.heights[position] || 0) * perUnit;
        if (!height) continue;
        const base = line.base(sequence[position]);
        const x = scale.x(position) - scale.unit * 0.46;
        paths[base] = (paths[base] || "") + `M${x.toFixed(2)} ${line.zero}v${(-height).toFixed(2)}h${(scale.unit * 0.92).toFixed(2)}V${line.zero}Z`;
      }
      for (const [base, d] of Object.entries(paths)) group.append(svg("path", { d, fill: colors[base] }));
      return;
    }
    for (const position of scale.shown) {
      const height = (line.heights[position] || 0) * perUnit;
      const base = line.base(sequence[position]);
      const x = scale.x(position) - scale.unit * 0.46;
      const y = line.zero - height;
      const stretch = height / 100; // a negative one hangs upside down
      group.append(svg("path", {
        d: GLYPHS[base], fill: colors[base], "data-at": position, "data-base": base, "data-track": track,
        "fill-rule": "evenodd",
        transform: `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${((scale.unit * 0.92) / 100).toFixed(4)} ${stretch.toFixed(5)})`,
      }));
    }
  }

  function drawPlain(group, scale, sequence, wild, y, colors, width) {
    const size = Math.min(12, scale.unit * 1.3);
    for (const [row, end] of [[0, "5′"], [1, "3′"]]) {
      group.append(svg("text", { x: LEFT - 4, y: y + row * 13, "text-anchor": "end", class: "cdi-end" }, end));
      group.append(svg("text", { x: width - RIGHT + 4, y: y + row * 13, class: "cdi-end" }, row ? "5′" : "3′"));
    }
    if (size >= 5) {
      for (const position of scale.shown) {
        const base = scale.letter(sequence[position]);
        for (const [row, letter] of [[0, base], [1, COMPLEMENT[base]]]) {
          group.append(svg("text", {
            x: scale.x(position), y: y + row * 13, "text-anchor": "middle", class: "cdi-plain", fill: colors[letter],
            "font-size": size.toFixed(1), "data-plain": position,
          }, letter));
        }
      }
    }
    drawWild(group, scale, sequence, wild, y - 12);
  }

  function drawWild(group, scale, sequence, wild, y) {
    if (!wild || scale.unit < 4) return;
    for (const position of scale.shown) {
      if (wild[position] === sequence[position]) continue;
      const text = wild[position] === "-" ? "ins" : scale.letter(wild[position]);
      group.append(svg("text", {
        x: scale.x(position), y, "text-anchor": "middle", class: "cdi-wild", "data-wild": position,
        "font-size": Math.min(10, scale.unit * 1.1).toFixed(1),
      }, text));
    }
  }

  function drawBrackets(group, scale, brackets, y) {
    let last = -Infinity;
    const placed = brackets
      .map((one) => ({ ...one, edges: [scale.x(one.start), scale.x(one.end - 1)].sort((a, b) => a - b) }))
      .filter((one) => one.edges[1] > LEFT && one.edges[0] < scale.width - RIGHT)
      .sort((a, b) => a.edges[0] - b.edges[0]);
    for (const one of placed) {
      const [from, to] = [Math.max(LEFT, one.edges[0] - scale.unit / 2), Math.min(scale.width - RIGHT, one.edges[1] + scale.unit / 2)];
      group.append(svg("path", { d: `M${from} ${y + 4}v-4H${to}v4`, class: "cdi-bracket" }));
      const arrow = one.strand === "+" ? " ›" : one.strand === "-" ? "‹ " : "";
      const text = one.strand === "-" ? arrow + one.name : one.name + arrow;
      const middle = (from + to) / 2;
      const wide = text.length * 5.5;
      if (middle - wide / 2 > last) {
        group.append(svg("text", { x: middle, y: y - 4, "text-anchor": "middle", class: "cdi-note" }, text));
        last = middle + wide / 2 + 4;
      }
    }
  }

  let notice = ""; // shown until the pointer or the keys do something else
  model.on("change:cursor", forget);

  function forget() {
    notice = "";
  }

  function tell() {
    if (notice) {
      readout.textContent = notice;
      return;
    }
    const position = cursorOf(model);
    if (position < 0) {
      readout.textContent = model.get("hint");
      return;
    }
    const sequence = model.get("sequence");
    const { forward, reverse, split } = tracks();
    const wild = model.get("wild");
    const base = sequence[position];
    const was = wild && wild[position] !== base ? (wild[position] === "-" ? ", put in" : `, wild type ${wild[position]}`) : "";
    // What is out of date was of another base, or of another place.
    const known = forward.length === sequence.length && !model.get("stale");
    const value = (heights) => signed(heights[position]);
    const numbers = split ? `forward ${value(forward)}, reverse ${value(reverse)}` : value(forward);
    readout.textContent = `${base} at ${position}${was}: ${known ? numbers : "not computed yet"}${inserting ? " · inserting" : ""}`;
  }

  function choose(position, x, y) {
    chooser.replaceChildren();
    if (!editable()) return;
    const sequence = model.get("sequence");
    const scale = scaleNow();
    for (const base of BASES) {
      const shown = scale.letter(base);
      const button = html("button", { type: "button", role: "menuitem", "data-to": base, class: "cdi-choice" }, shown);
      button.style.color = PALETTES[model.get("palette")][shown];
      if (base === sequence[position]) button.disabled = true;
      button.addEventListener("click", () => {
        send({ type: "edit", start: position, end: position + 1, string: base });
        hide();
        root.focus();
      });
      chooser.append(button);
    }
    const remove = html("button", { type: "button", role: "menuitem", class: "cdi-choice", "aria-label": "delete this base" }, "⌫");
    remove.addEventListener("click", () => {
      send({ type: "edit", start: position, end: position + 1, string: "" });
      hide();
      root.focus();
    });
    chooser.append(remove);
    chooser.hidden = false;
    chooser.style.left = `${Math.min(x, root.clientWidth - chooser.offsetWidth - 4)}px`;
    chooser.style.top = `${y}px`;
  }

  function hide() {
    chooser.hidden = true;
  }

  // The chooser is about one base, at one place on screen: it does not outlive either.
  for (const name of ["sequence", "view", "flipped", "editable"]) model.on(`change:${name}`, hide);
  const hideFromOutside = (event) => chooser.contains(event.target) || hide();
  document.addEventListener("pointerdown", hideFromOutside, true);
  root.addEventListener("focusout", (event) => root.contains(event.relatedTarget) || hide());

  // Typing edits what is pointed at, and not the notebook: a pointer that moves over the view brings the focus along,
  // and takes it back where it was when it leaves. A click or the Tab key lets the focus stay. A view that appears or
  // scrolls under a pointer at rest changes nothing.
  let previous = null;
  root.addEventListener("pointermove", (event) => {
    const moves = event.pointerType === "mouse" && !event.buttons && (event.movementX || event.movementY);
    const focused = document.activeElement;
    if (!moves || !editable() || focused === root || chooser.contains(focused)) return;
    previous = focused;
    root.focus({ preventScroll: true });
  });
  root.addEventListener("pointerdown", () => {
    previous = null;
  });
  root.addEventListener("pointerleave", () => {
    if (previous && document.activeElement === root) {
      root.blur();
      if (previous.isConnected) previous.focus({ preventScroll: true });
    }
    previous = null;
  });

  function select(one, other) {
    model.set("selection", one < 0 || other < 0 ? [] : [Math.min(one, other), Math.max(one, other) + 1]);
    model.save_changes();
  }

  canvas.addEventListener("pointermove", (event) => {
    const position = scaleNow().at(event.offsetX);
    setCursor(model, position);
    if (anchor >= 0 && position >= 0 && position !== anchor) dragged = true;
    if (dragged && position >= 0) select(anchor, position);
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    hide();
    root.focus();
    anchor = scaleNow().at(event.offsetX);
    dragged = false;
  });
  canvas.addEventListener("pointerup", (event) => {
    const position = scaleNow().at(event.offsetX);
    if (!dragged && position >= 0 && position === anchor) {
      if (selectionOf(model).length) select(-1, -1);
      choose(position, event.offsetX + 6, canvas.offsetTop + event.offsetY + 8);
    }
    anchor = -1;
    dragged = false;
  });
  canvas.addEventListener("pointerleave", () => {
    if (anchor < 0 && chooser.hidden) setCursor(model, -1);
  });
  navigate(model, canvas, () => root.clientWidth);

  root.addEventListener("keydown", (event) => {
    if (event.target !== root && event.key !== "Escape") return;
    forget();
    const sequence = model.get("sequence");
    const scale = scaleNow();
    const cursor = cursorOf(model);
    const selection = selectionOf(model);
    const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
    const edit = (start, end, string) => {
      hide();
      send({ type: "edit", start, end, string });
    };
    const step = (by) => {
      const next = moved(scale, cursor, by);
      if (event.shiftKey) {
        if (anchor < 0) anchor = cursor < 0 ? next : cursor;
        select(anchor, next);
      } else {
        anchor = -1;
        if (selection.length) select(-1, -1);
      }
      setCursor(model, next);
      const index = scale.turn(next);
      if (index < scale.low) pan(model, index - scale.low - 2);
      if (index + 1 > scale.high) pan(model, index + 1 - scale.high + 2);
    };
    if ((event.ctrlKey || event.metaKey) && (key === "Z" || key === "Y")) send({ type: key === "Y" || event.shiftKey ? "redo" : "undo" });
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (key === "ArrowLeft") step(-1);
    else if (key === "ArrowRight") step(1);
    else if (key === "Home") step(-sequence.length);
    else if (key === "End") step(sequence.length);
    else if (key === "+" || key === "=") zoom(model, 0.5, cursor < 0 ? undefined : scale.turn(cursor) + 0.5);
    else if (key === "-") zoom(model, 2, cursor < 0 ? undefined : scale.turn(cursor) + 0.5);
    else if (key === "0") setView(model, 0, sequence.length);
    else if (key === "Insert") {
      inserting = !inserting;
      draw(root.clientWidth);
    } else if (key === "Escape") {
      hide();
      inserting = false;
      select(-1, -1);
      draw(root.clientWidth);
    } else if (key === "Delete" || key === "Backspace") {
      if (selection.length) edit(...selection, "");
      else if (cursor >= 0) edit(cursor, cursor + 1, "");
    } else if (key.length === 1 && "ACGTUN".includes(key) && cursor >= 0) {
      const base = scale.letter(key === "U" ? "T" : key);
      const place = inserting && scale.flipped ? cursor + 1 : cursor; // before the base, as it is read on screen
      edit(place, inserting ? place : cursor + 1, base);
      if (!inserting && !event.repeat) setCursor(model, moved(scale, cursor, 1));
    } else if (key.length === 1 && key !== " " && editable()) {
      hide(); // neither an edit, nor a command to the notebook
      const base = "ACGTUN".includes(key);
      notice = base ? "point at a base to change it" : `${event.key} is no base: type A, C, G, T or N`;
      tell();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const names = ["sequence", "wild", "forward", "reverse", "stale", "view", "cursor", "selection", "flipped", "palette", "brackets", "label", "hint"];
  const stop = redrawn(model, root, names, draw);
  return () => {
    stop();
    document.removeEventListener("pointerdown", hideFromOutside, true);
    for (const name of ["sequence", "view", "flipped", "editable"]) model.off(`change:${name}`, hide);
    model.off("change:cursor", forget);
  };
}

export default { render };
