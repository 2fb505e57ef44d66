"use strict";
// Small drawings in the panel of a component.

/** Dots of effects by example, a row for each side, on one axis that holds 0. */
function effectStrip(sides, examples) {
  const all = sides.flatMap((s) => s.values).filter((value) => value !== null);
  let [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const room = (high - low || 1) * 0.04;
  [low, high] = [low - room, high + room];
  const [left, width, row] = [58, 470, 46];
  const height = sides.length * row + 26;
  const x = (value) => left + (width * (value - low)) / (high - low);
  const figure = svg("svg", { class: "effects", viewBox: `0 0 ${left + width + 12} ${height}`, role: "img" });
  const means = sides.map((s) => s.values.reduce((sum, value) => sum + value, 0) / s.values.length);
  figure.setAttribute("aria-label", sides.map((s, i) => `${s.side} ${s.name}: mean effect ${number(means[i], 3)} logits, from ${number(Math.min(...s.values))} to ${number(Math.max(...s.values))}`).join("; "));
  for (const tick of ticksBetween(low, high)) {
    figure.append(svg("path", { class: tick === 0 ? "zero" : "rule", d: `M${x(tick)} 4V${height - 20}` }));
    figure.append(svg("text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, number(tick, Math.abs(tick) < 1 && tick !== 0 ? 2 : 0)));
  }
  sides.forEach(({ side, name, values }, i) => {
    const middle = 8 + (i + 0.5) * row;
    const group = svg("g", { class: side });
    group.append(svg("text", { class: "name", x: left - 8, y: middle + 4, "text-anchor": "end" }, name));
    values.forEach((value, k) => {
      const dot = svg("circle", { cx: x(value).toFixed(1), cy: (middle + ((k * 7) % 23) - 11).toFixed(1), r: 3 });
      dot.append(svg("title", {}, `${examples[k]}: ${number(value, 3)} logits`));
      group.append(dot);
    });
    group.append(svg("path", { class: "mean", d: `M${x(means[i])} ${middle - 17}V${middle + 17}` }));
    figure.append(group);
  });
  return figure;
}

/** Round numbers between two ends, 0 among them. */
function ticksBetween(low, high) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

/** A row of cells, one a position, coloured by recovery; the last ones are all positions, and a head's two halves. */
function patchingRow({ side, name, places, values, halves }) {
  const labels = [...places, "all", ...(halves.length ? ["QK", "OV"] : [])];
  const shown = [...values, ...halves];
  const cell = Math.min(34, Math.max(15, 560 / (labels.length + 2)));
  const offset = (i) => 58 + i * cell + (i >= places.length ? 8 : 0);
  const longest = Math.max(...labels.map((text) => label(text).length));
  const height = 28 + longest * 4.7;
  const figure = svg("svg", { class: `cells ${side}`, viewBox: `0 0 ${offset(labels.length) + 34} ${height + 26}`, width: offset(labels.length) + 34, role: "img" });
  figure.setAttribute("aria-label", `${side} ${name}: ${labels.map((text, i) => `${text} ${number(shown[i])}`).join(", ")}`);
  figure.append(svg("text", { class: "name", x: 50, y: height + 14, "text-anchor": "end" }, name));
  const colours = scaleColours("--diverging");
  labels.forEach((text, i) => {
    const [x, y] = [offset(i) + cell / 2 - 2, height - 6];
    figure.append(svg("text", { x, y, transform: `rotate(-48 ${x} ${y})` }, label(text)));
    const fill = shown[i] === null ? "none" : shade((shown[i] + 1) / 2, colours);
    const square = svg("rect", { x: offset(i), y: height, width: cell - 1, height: 20, rx: 2, fill });
    square.append(svg("title", {}, `${name} at ${text}: recovery ${number(shown[i], 3)}`));
    figure.append(square);
  });
  return figure;
}
