"use strict";
// Attention patterns as SVG: rows (queries) attend to columns (keys). Tokens are text nodes, whatever they hold.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

/** Weights [query][key] of one head from packed patterns. */
function pattern(packed, head) {
  const [, queries, keys] = packed.shape;
  packed.bytes ??= bytes(packed.uint8);
  const size = packed.lower ? (queries * (queries + 1)) / 2 : queries * keys;
  let next = head * size;
  return Array.from({ length: queries }, (_, q) =>
    Array.from({ length: keys }, (_, k) => (packed.lower && k > q ? 0 : packed.bytes[next++] / 255)));
}

/** Attention weights as a table: every position with every one that it may attend to. */
function patternTable(tokens, weights) {
  const rows = weights.flatMap((row, q) => row.flatMap((weight, k) => (weight > 0 ? [[q, tokens[q], k, tokens[k], Number(weight.toFixed(3))]] : [])));
  return { columns: ["query position", "query token", "key position", "key token", "attention weight (0 to 1)"], rows };
}

/** A token as one short line. */
function label(token) {
  const shown = token.replace(/[\n\u010a]/g, "\u23ce").replace(/[\u0120\u2581]/g, " ").trim() || "\u2423";
  return shown.length > 16 ? `${shown.slice(0, 15)}\u2026` : shown;
}

/** The pattern of one head as an SVG element; `say` gets a sentence about the cell that is pointed at. */
function patternFigure(tokens, weights, describe, say) {
  const n = tokens.length;
  const cell = Math.round(Math.min(Math.max(430 / n, 11), 34));
  const longest = Math.max(...tokens.map((token) => label(token).length));
  const left = 14 + longest * 6.2;
  const top = 18 + longest * 4.6;
  const [width, height] = [left + n * cell + longest * 4 + 8, top + n * cell + 6];
  const figure = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": describe });
  const colours = scaleColours();
  figure.append(svg("rect", { class: "field", x: left, y: top, width: n * cell, height: n * cell }));
  weights.forEach((row, q) => row.forEach((weight, k) => {
    if (weight > 0.002) {
      figure.append(svg("rect", { x: left + k * cell, y: top + q * cell, width: cell - 1, height: cell - 1, rx: 1.5, fill: shade(weight, colours) }));
    }
  }));
  const rows = tokens.map((token, i) =>
    svg("text", { x: left - 7, y: top + (i + 0.5) * cell, "text-anchor": "end", "dominant-baseline": "central" }, label(token)));
  const columns = tokens.map((token, i) => {
    const [x, y] = [left + (i + 0.45) * cell, top - 6];
    return svg("text", { x, y, transform: `rotate(-48 ${x} ${y})` }, label(token));
  });
  figure.append(...rows, ...columns);
  figure.addEventListener("pointermove", (event) => {
    const box = figure.getBoundingClientRect();
    const at = (position, start) => Math.floor((position * (width / box.width) - start) / cell);
    const [k, q] = [at(event.clientX - box.left, left), at(event.clientY - box.top, top)];
    rows.forEach((node, i) => node.classList.toggle("on", i === q));
    columns.forEach((node, i) => node.classList.toggle("on", i === k));
    say(weights[q]?.[k] === undefined ? "" : `${describe}: \u201c${label(tokens[q])}\u201d attends ${weights[q][k].toFixed(2)} to \u201c${label(tokens[k])}\u201d`);
  });
  figure.addEventListener("pointerleave", () => [...rows, ...columns].forEach((node) => node.classList.remove("on")));
  return figure;
}
