// What all views share; Python puts it before each view's own module, since a widget's module cannot import another.

const PALETTES = {
  colorblind: { A: "#009E73", C: "#0072B2", G: "#E69F00", T: "#D55E00", N: "#9A9A9A" },
  classic: { A: "#109648", C: "#255C99", G: "#F7B32B", T: "#D62839", N: "#9A9A9A" },
};
const RAISES = "#D55E00";
const LOWERS = "#0072B2";
const COMPLEMENT = { A: "T", C: "G", G: "C", T: "A", N: "N" };
const BASES = "ACGT";

// Letters as outlines on a square of 100 by 100, so that they can be stretched to any height.
const GLYPHS = {
  A: "M0 100L36 0H64L100 100H76L69 78H31L24 100ZM38 58H62L50 20Z",
  C: "M98 34C92 12 74 0 52 0C20 0 0 20 0 50C0 80 20 100 52 100C75 100 92 88 98 66L74 59C71 72 64 79 52 79C34 79 25 69 25 50C25 31 34 21 52 21C64 21 71 28 74 41Z",
  G: "M97 32C90 11 74 0 52 0C20 0 0 20 0 50C0 80 20 100 52 100C73 100 88 94 100 84V45H52V64H76V73C70 77 62 79 53 79C35 79 25 69 25 50C25 31 35 21 53 21C64 21 71 27 74 38Z",
  T: "M0 0H100V20H61V100H39V20H0Z",
  N: "M0 0H28L74 66V0H100V100H73L26 34V100H0Z",
};

const LEFT = 62;
const RIGHT = 22;

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function floats(model, name) {
  const data = model.get(name);
  if (!data || !data.byteLength) return new Float32Array(0);
  return new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
}

function isDark(node) {
  const theme = document.body.dataset.jpThemeLight;
  if (theme !== undefined) return theme === "false";
  const [r, g, b] = (getComputedStyle(node).color.match(/\d+/g) || [0, 0, 0]).map(Number);
  return r + g + b > 3 * 128; // light ink
}

// The positions of the sequence on screen, half-open. Whatever `view` says, they lie within the sequence: a window of a
// longer sequence must neither squash this one nor show nothing.
function windowOf(model) {
  const length = model.get("sequence").length;
  const [first, last] = model.get("view");
  const [start, end] = [Math.max(0, first), Math.min(length, last)];
  return end > start ? [start, end] : [0, length];
}

// Likewise for what was pointed at or selected.
function cursorOf(model) {
  const cursor = model.get("cursor");
  return cursor < model.get("sequence").length ? cursor : -1;
}

function selectionOf(model) {
  const [start, end] = model.get("selection");
  const length = model.get("sequence").length;
  return start < length ? [start, Math.min(end, length)] : [];
}

// The same window in places along the screen: flipped, those count along the other strand.
function placesOf(model) {
  const length = model.get("sequence").length;
  const flipped = model.get("flipped");
  const [start, end] = windowOf(model);
  return { length, flipped, low: flipped ? length - end : start, high: flipped ? length - start : end };
}

// Where positions lie on screen, from left to right.
function ruler(model, width) {
  const { length, flipped, low, high } = placesOf(model);
  const unit = (width - LEFT - RIGHT) / (high - low);
  const turn = (index) => (flipped ? length - 1 - index : index); // its own inverse
  const shown = [];
  for (let i = Math.floor(low); i < Math.ceil(high); i++) shown.push(turn(i));
  return {
    length, low, high, unit, flipped, turn, shown, width,
    x: (position) => LEFT + (turn(position) + 0.5 - low) * unit,
    // Left and right edge of positions (half-open), no further than the drawing reaches; null if they lie outside.
    edges: (start, end) => {
      const [one, other] = flipped ? [turn(end - 1), turn(start) + 1] : [start, end];
      const [from, to] = [Math.max(one, low), Math.min(other, high)];
      return to > from ? [LEFT + (from - low) * unit, LEFT + (to - low) * unit] : null;
    },
    at: (pixel) => {
      const index = Math.floor((pixel - LEFT) / unit + low);
      const inside = pixel >= LEFT && pixel <= width - RIGHT && index >= 0 && index < length;
      return inside ? turn(index) : -1;
    },
    letter: (base) => (flipped ? COMPLEMENT[base] : base), // of the strand that is drawn as the upper one
  };
}

function ticks(low, high, count) {
  const span = high - low || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found.map((value) => (Math.abs(value) < step * 1e-9 ? 0 : Number(value.toPrecision(12))));
}

// Whole numbers among the positions on screen, to write below an axis.
function positionTicks(scale) {
  const shown = scale.shown;
  if (!shown.length) return [];
  const low = Math.min(shown[0], shown[shown.length - 1]);
  const high = Math.max(shown[0], shown[shown.length - 1]);
  const count = Math.max(2, Math.floor((scale.width - LEFT - RIGHT) / 70));
  return ticks(low, high, count).filter(Number.isInteger);
}

// One step along the screen from the cursor, or onto the first position.
function moved(scale, cursor, by) {
  if (cursor < 0) return scale.turn(0);
  return scale.turn(Math.min(Math.max(scale.turn(cursor) + by, 0), scale.length - 1));
}

// What every view consists of: a line to read, with controls, above what is drawn.
function frame(el, kind, label, drawing, ...controls) {
  const root = html("div", { class: `cdi cdi-${kind}`, tabindex: "0", role: "application", "aria-label": label });
  const readout = html("div", { class: "cdi-readout", "aria-live": "polite" });
  root.append(html("div", { class: "cdi-bar" }, readout, ...controls), drawing);
  el.append(root);
  return { root, readout };
}

// A canvas of so many pixels of the page, emptied, and a pen for it.
function prepared(canvas, model, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.style.opacity = model.get("stale") ? "0.55" : "1";
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

// From what lowers over the colour of paper to what raises, for -1 to 1: red, green and blue.
const SCALES = {
  redBlue: { light: [[33, 102, 172], [178, 24, 43]], dark: [[90, 160, 225], [240, 110, 95]] },
  orangeBlue: { light: [[33, 102, 172], [190, 80, 10]], dark: [[90, 160, 225], [240, 140, 60]] },
};
function diverging(value, dark, scale, power) {
  const paper = dark ? 34 : 247;
  const full = SCALES[scale][dark ? "dark" : "light"][value < 0 ? 0 : 1];
  const share = Math.min(1, Math.abs(value)) ** power;
  return full.map((channel) => Math.round(paper + (channel - paper) * share));
}

// What is drawn, in words; numbers of the sequence before, or of another target, are not passed off as this one's.
function labelOf(model, known) {
  if (!known) return "not computed yet";
  return model.get("stale") ? `${model.get("label")} (out of date)` : model.get("label");
}

const signed = (value, digits = 3) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

// The window that all linked views show, in places along the screen.
function zoom(model, factor, center) {
  const { length, low, high } = placesOf(model);
  const middle = center === undefined ? (low + high) / 2 : center;
  const span = Math.min(length, Math.max(Math.min(8, length), (high - low) * factor));
  const start = Math.min(Math.max(0, middle - ((middle - low) / (high - low)) * span), length - span);
  setView(model, start, start + span);
}

function pan(model, positions) {
  const { length, low, high } = placesOf(model);
  const shift = Math.min(Math.max(-low, positions), length - high);
  setView(model, low + shift, high + shift);
}

// Python is told, for it decides what is shown of the next sequence. All positions are written as [0, 0], which stays
// all of them whatever the length.
function setView(model, low, high) {
  const { length, flipped } = placesOf(model);
  const span = Math.round(high - low); // whole positions: no letter is cut at an edge
  const start = Math.min(Math.max(0, Math.round(low)), length - span);
  const first = flipped ? length - start - span : start;
  model.set("view", span >= length ? [0, 0] : [first, first + span]);
  model.save_changes();
}

// Where the pointer is concerns the screen alone: Python need not be told.
function setCursor(model, position) {
  if (model.get("cursor") !== position) model.set("cursor", position);
}

// Zoom with Ctrl and the wheel, pan with Shift and the wheel (or sideways): the bare wheel scrolls the page.
function navigate(model, node, widthOf) {
  node.addEventListener(
    "wheel",
    (event) => {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      const scale = ruler(model, widthOf());
      if (event.ctrlKey || event.metaKey) {
        const center = (event.offsetX - LEFT) / scale.unit + scale.low;
        zoom(model, event.deltaY > 0 ? 1.25 : 0.8, center);
      } else if (sideways) {
        pan(model, sideways / scale.unit / 2);
      } else return;
      event.preventDefault();
    },
    { passive: false },
  );
}

function zoomButtons(model) {
  const make = (text, title, work) => {
    const button = html("button", { type: "button", title, "aria-label": title, class: "cdi-button" }, text);
    button.addEventListener("click", work);
    return button;
  };
  return [
    make("+", "zoom in", () => zoom(model, 0.5)),
    make("−", "zoom out", () => zoom(model, 2)),
    make("⟷", "show all", () => setView(model, 0, model.get("sequence").length)),
  ];
}

// Redraw at most once a frame, when something changes, when the width does, and when the view becomes visible.
function redrawn(model, root, names, draw) {
  let asked = false;
  let retries = 0;
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (!root.isConnected || root.clientWidth === 0) {
        // Lab hides everything for a moment while it changes themes; what is hidden for long is told by the observer.
        if (retries++ < 20) setTimeout(ask, 200);
        return;
      }
      retries = 0;
      const started = performance.now();
      draw(root.clientWidth);
      root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
      root.dataset.milliseconds = (performance.now() - started).toFixed(2);
    });
  };
  for (const name of names) model.on(`change:${name}`, ask);
  const observer = new ResizeObserver(ask);
  observer.observe(root);
  const themes = new MutationObserver(ask);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  ask();
  return () => {
    observer.disconnect();
    themes.disconnect();
    for (const name of names) model.off(`change:${name}`, ask);
  };
}

// Said at every axis, clear of the first number: most tools of the field count from 1.
const COUNTING = "0-based";

function counting(pen, y) {
  pen.textAlign = "right";
  pen.fillText(COUNTING, LEFT - 16, y);
  pen.textAlign = "center";
}

function drawAxis(group, scale, y) {
  group.append(svg("text", { x: LEFT - 16, y: y + 15, "text-anchor": "end", class: "cdi-tick" }, COUNTING));
  group.append(svg("line", { x1: LEFT, x2: scale.width - RIGHT, y1: y, y2: y, class: "cdi-axis" }));
  for (const value of positionTicks(scale)) {
    const x = scale.x(value);
    group.append(svg("line", { x1: x, x2: x, y1: y, y2: y + 4, class: "cdi-axis" }));
    group.append(svg("text", { x, y: y + 15, "text-anchor": "middle", class: "cdi-tick" }, String(value)));
  }
}
