"use strict";
// Draws the embedded figures with Plotly, in the colours of the page's theme, when they are scrolled to.

const scaleColours = (scale = "--scale") => css(scale).split(",").map((colour) => colour.trim());

/** A packed matrix as rows of numbers, null where it had none. */
function matrix(packed) {
  const [rows, columns] = packed.shape;
  const view = new DataView(bytes(packed.int16).buffer);
  const value = (i) => {
    const whole = view.getInt16(2 * i, true);
    return whole === -32768 ? null : whole * packed.scale;
  };
  return Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => value(r * columns + c)));
}

/** The colour of a share from 0 to 1 on the sequential scale, as rgb(). */
function shade(share, colours = scaleColours()) {
  const at = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const low = Math.min(Math.floor(at), colours.length - 2);
  const channel = (colour, k) => parseInt(colour.slice(1 + 2 * k, 3 + 2 * k), 16);
  const mix = (k) => Math.round(channel(colours[low], k) + (at - low) * (channel(colours[low + 1], k) - channel(colours[low], k)));
  return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
}

function themedTrace(trace) {
  const role = trace.meta?.role;
  if (role === "matched") {
    return { ...trace, marker: { ...trace.marker, color: css("--mark"), line: { color: css("--halo"), width: 1 } } };
  }
  if (role) {
    const color = css(`--${role}`);
    const themed = { ...trace, marker: { ...trace.marker, color } };
    return trace.type === "scatter" ? { ...themed, line: { ...trace.line, color }, textfont: { ...trace.textfont, color } } : themed;
  }
  return trace.z?.int16 ? { ...trace, z: matrix(trace.z) } : trace;
}

function themedLayout(layout, marks) {
  const grid = { gridcolor: css("--line"), linecolor: css("--line") };
  const themed = {
    ...layout,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--muted") },
    hoverlabel: { bgcolor: css("--ink"), bordercolor: css("--ink"), font: { color: css("--surface"), size: 12.5 }, align: "left" },
    ...Object.fromEntries(Object.keys(layout).filter((key) => /^[xy]axis/.test(key)).map((key) => [key, { ...layout[key], ...grid }])),
    shapes: [...(layout.shapes ?? []).map((s) => ({ ...s, line: { ...s.line, color: css("--surface") } })), ...marks],
  };
  if (layout.coloraxis) {
    const colours = scaleColours(layout.meta?.diverging ? "--diverging" : "--scale");
    themed.coloraxis = { ...layout.coloraxis, colorscale: colours.map((c, i) => [i / (colours.length - 1), c]) };
  }
  return themed;
}

/** An axis with as many of its slanted names as a figure of this width has room for, the last one among them. */
function thinned(axis, width) {
  const { tickvals, ticktext, tickangle } = axis;
  const step = tickangle ? Math.ceil((tickvals.length * 16) / (width - 140)) : 1;
  const kept = (_, i) => (tickvals.length - 1 - i) % step === 0;
  return { ...axis, tickvals: tickvals.filter(kept), ticktext: ticktext.filter(kept) };
}

/** A rectangle or ring around a cell. */
function outline(x, y, half) {
  return {
    type: "rect", x0: x - half, x1: x + half, y0: y - half, y1: y + half, xref: "x", yref: "y",
    line: { color: css("--mark"), width: 2.5 }, layer: "above",
  };
}

const PAPER = 680; // pixels between the margins of a printed page
let printing = false;
addEventListener("beforeprint", () => { printing = true; });
addEventListener("afterprint", () => { printing = false; });

/** One place for a figure: holds its specification, draws it once seen, redraws it for a theme or a selection. */
class Plot {
  constructor(element, spec) {
    this.element = element;
    this.spec = spec;
    this.drawn = false;
    this.marks = () => [];
    this.onClick = () => {};
    this.size(); // before it is drawn, so that nothing moves when it is
  }

  size() {
    const { height, meta } = this.spec.layout;
    this.element.style.height = `${height}px`;
    this.element.style.maxWidth = meta?.width ? `${meta.width}px` : "";
  }

  show(spec) {
    this.spec = spec;
    if (this.drawn) this.draw();
    else this.size();
  }

  draw() {
    const first = !this.drawn;
    this.drawn = true;
    const { height, ...layout } = this.spec.layout;
    this.size();
    if (layout.xaxis.ticktext) layout.xaxis = thinned(layout.xaxis, this.element.clientWidth);
    const size = printing ? { width: Math.min(this.element.clientWidth, PAPER), height } : { autosize: true };
    Plotly.react(this.element, this.spec.data.map(themedTrace), themedLayout({ ...layout, ...size }, this.marks()), {
      displayModeBar: false, responsive: true, displaylogo: false, showTips: false,
    });
    if (first) this.element.on("plotly_click", (event) => this.onClick(event.points[0]));
  }

  refresh() {
    if (this.drawn) this.draw();
  }
}

const waiting = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((e) => e.isIntersecting)) {
    waiting.unobserve(entry.target);
    entry.target.plot.draw();
  }
}, { rootMargin: "400px" });
