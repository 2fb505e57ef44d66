"use strict";
// Saves a figure as SVG or its numbers as CSV: no network, nothing but what is in the page.

const SHOWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "font-family",
  "font-size", "font-weight", "text-anchor", "dominant-baseline"];
const xml = (name, attributes = {}, text = null) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
};

/** RFC 4180: fields in quotes where they hold a quote, a comma or a line end; lines end in CRLF. */
function csvText({ columns, rows }) {
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

/** An empty drawing of this size on the page's background. */
function sheet(width, height) {
  const root = xml("svg", { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${height}`, width, height });
  root.append(xml("rect", { width, height, fill: css("--surface") }));
  return root;
}

/** A copy of an SVG element that looks the same without this page's style. */
function standalone(original) {
  const { x, y, width, height } = original.viewBox.baseVal;
  const copy = original.cloneNode(true);
  const [from, to] = [original, copy].map((root) => [root, ...root.querySelectorAll("*")]);
  from.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of SHOWN) to[i].setAttribute(name, style.getPropertyValue(name));
    to[i].removeAttribute("class");
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", Math.round(width));
  copy.setAttribute("height", Math.round(height));
  copy.prepend(xml("rect", { x, y, width, height, fill: css("--surface") }));
  return copy;
}

/** A table of strips as a drawing: every word and mark where it stands on the screen. */
function drawnTable(table) {
  const box = table.getBoundingClientRect();
  const root = sheet(Math.ceil(box.width) + 24, Math.ceil(box.height) + 24);
  const place = (r) => ({ x: r.left - box.left + 12, y: r.top - box.top + 12, width: r.width, height: r.height });
  const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) root.append(...words(node, place));
    else if (node.matches(".key")) root.append(key(node, place(node.getBoundingClientRect())));
    else if (node.matches("i")) root.append(mark(node, place(node.getBoundingClientRect())));
    else if (node.matches(".rug path")) root.append(rug(node, place(node.ownerSVGElement.getBoundingClientRect())));
  }
  return root;
}

function mark(node, { x, y, width, height }) {
  const style = getComputedStyle(node);
  const border = parseFloat(style.borderTopWidth) || 0;
  const line = parseFloat(style.borderLeftWidth) || 0;
  if (line && !border) return xml("rect", { x, y, width: line, height, fill: style.borderLeftColor, opacity: style.opacity });
  return xml("rect", { x: x + border / 2, y: y + border / 2, width: Math.max(0, width - border), height: Math.max(0, height - border),
    rx: style.borderTopLeftRadius.endsWith("%") ? width / 2 : parseFloat(style.borderTopLeftRadius) || 0,
    fill: style.backgroundColor, stroke: border ? style.borderTopColor : "none", "stroke-width": border, opacity: style.opacity });
}

/** The dot before a name in a legend. */
function key(node, { x, y, height }) {
  const style = getComputedStyle(node, "::before");
  const [border, left, size] = [style.borderTopWidth, style.marginLeft, style.width].map((length) => parseFloat(length) || 0);
  return xml("circle", { cx: x + left + size / 2, cy: y + height / 2, r: (size - border) / 2, fill: style.backgroundColor,
    stroke: border ? style.borderTopColor : "none", "stroke-width": border });
}

/** The draws behind a value, in a box of 100 by 10 units that is stretched to its place. */
function rug(path, { x, y, width, height }) {
  const style = getComputedStyle(path);
  return xml("path", { d: path.getAttribute("d"), transform: `translate(${x} ${y}) scale(${width / 100} ${height / 10})`, fill: "none",
    stroke: style.stroke, opacity: style.opacity, "vector-effect": "non-scaling-stroke" });
}

/** The words of a text node, each where it stands; none of what only screen readers get. */
function words(node, place) {
  const style = getComputedStyle(node.parentElement);
  if (node.parentElement.closest(".sr, .save") || style.visibility === "hidden") return [];
  return [...node.data.matchAll(/\S+/g)].flatMap((found) => {
    const range = document.createRange();
    range.setStart(node, found.index);
    range.setEnd(node, found.index + found[0].length);
    const box = range.getBoundingClientRect();
    if (!box.width) return [];
    const { x, y, height } = place(box);
    return [xml("text", { x, y: y + height * 0.78, fill: style.color, "font-family": style.fontFamily, "font-size": style.fontSize,
      "font-weight": style.fontWeight }, found[0])];
  });
}

/** Text without the escapes that keep Plotly from reading markup in it. */
const unescaped = (value) => typeof value === "string" ? value.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&") : value;

/** A Plotly figure's specification as a table: its traces one after the other. */
function plotTable({ data, layout }) {
  const [ofRows, ofColumns] = layout.meta?.axes ?? [layout.yaxis, layout.xaxis].map((axis) => axis?.title?.text ?? "");
  const matched = data.find((trace) => trace.meta?.role === "matched");
  const value = layout.coloraxis?.colorbar?.title?.text || "value";
  const more = layout.meta?.columns ?? [];
  const rows = data.filter((trace) => trace.hoverinfo !== "skip").flatMap((trace) => {
    const extra = (point) => (Array.isArray(point) ? point : point === undefined ? [] : [point]).map(unescaped);
    if (!trace.z) return trace.x.map((x, i) => [trace.name ?? "", x, trace.y[i], ...extra(trace.customdata?.[i])]);
    const z = trace.z.int16 ? matrix(trace.z).map((row) => row.map((cell) => cell && Number(cell.toPrecision(4)))) : trace.z;
    return z.flatMap((row, r) => row.flatMap((cell, c) => {
      if (cell === null) return [];
      const place = Array.isArray(trace.text) ? [trace.text[r][c]] : [trace.y?.[r] ?? r, trace.x?.[c] ?? c];
      const isMatched = matched ? [matched.x.some((x, i) => x === trace.x[c] && matched.y[i] === trace.y[r]) ? "yes" : "no"] : [];
      return [[...place, cell, ...extra(trace.customdata?.[r]?.[c]), ...isMatched]];
    }));
  });
  const heat = data.some((trace) => trace.z);
  const first = !heat ? ["series", ofColumns, ofRows]
    : Array.isArray(data[0].text) ? ["component", value] : [ofRows, ofColumns, value];
  return { columns: [...first, ...more, ...(matched ? ["matched pair"] : [])], rows };
}

async function svgOf(figure) {
  const plot = figure.querySelector(".plot")?.plot;
  if (plot) {
    await ready;
    if (!plot.drawn) plot.draw();
    const { clientWidth: width, clientHeight: height } = plot.element;
    const layout = { ...plot.element.layout, paper_bgcolor: css("--surface"), autosize: false, width, height };
    const url = await Plotly.toImage({ data: plot.element.data, layout }, { format: "svg", width, height });
    return decodeURIComponent(url.slice(url.indexOf(",") + 1));
  }
  const drawing = figure.querySelector("svg:not(.rug)");
  return new XMLSerializer().serializeToString(drawing ? standalone(drawing) : drawnTable(figure.querySelector("table")));
}

function tableOf(figure) {
  const plot = figure.querySelector(".plot")?.plot;
  return figure.numbers?.() ?? (plot ? plotTable(plot.spec) : JSON.parse(figure.dataset.table));
}

/** Give the text to the reader as a file. */
function offer(text, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Two buttons for a figure: `data-save` names its files, `data-label` says what it shows; a plot has both itself. */
function saveButtons(figure, within = figure) {
  const plot = figure.querySelector(".plot");
  const label = figure.dataset.label ?? plot?.ariaLabel ?? figure.querySelector("svg").getAttribute("aria-label");
  const file = (ending) => [within.closest("[data-file]")?.dataset.file ?? "circuitkd", figure.dataset.save ?? plot.dataset.figure]
    .join(" ").replace(/[^\w.]+/g, "-").replace(/^-|-$/g, "").toLowerCase() + ending;
  const button = (kind, save) => {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: kind, title: `Save as ${kind}` });
    made.setAttribute("aria-label", `Save as ${kind}: ${label}`);
    made.addEventListener("click", (event) => {
      event.stopPropagation();
      save();
    });
    return made;
  };
  const bar = Object.assign(document.createElement("div"), { className: "save" });
  bar.append(
    button("SVG", async () => offer(await svgOf(figure), "image/svg+xml", file(".svg"))),
    button("CSV", () => offer(csvText(tableOf(figure)), "text/csv;charset=utf-8", file(".csv"))));
  figure.prepend(bar);
}

document.querySelectorAll("figure[data-save], figure > .plot").forEach((found) => saveButtons(found.closest("figure")));
