"use strict";
// Ties a page together: which comparison is open, which pair is selected, which theme is on.

let COMPARISONS = []; // until they are unpacked

class View {
  constructor(section, data) {
    this.section = section;
    this.data = data;
    this.pair = null;
    this.plots = {};
    section.querySelectorAll("[data-figure]").forEach((element) => this.addPlot(element));
    this.panel = new Panel(section, data);
    this.table = new PairTable(section, (row, opener) => {
      this.select(row);
      this.panel.float(opener);
    });
    this.measures();
    this.listen();
    chooseViews(section, (name, view) => this.show(name, view));
    section.querySelectorAll(".flow").forEach(followRibbons);
    section.querySelectorAll("[id$='-fates']").forEach(fateTable);
    const head = this.table.rows.find((row) => row.dataset.kind === "head") ?? this.table.rows[0];
    if (head) this.select(head);
  }

  addPlot(element) {
    const name = element.dataset.figure;
    const found = name === "similarity" ? this.data.figures.similarity[0]?.figure : this.data.figures[name];
    if (!found) return;
    const spec = found.data ? found : Object.values(found)[0]; // of several views the first
    const plot = new Plot(element, spec);
    element.plot = plot;
    this.plots[name] = plot;
    const side = name.split("-").at(-1);
    if (/^(influence|head-probes)-/.test(name)) {
      plot.marks = () => this.cellMark(this.pair?.[side], plot.spec.layout.meta.heads);
      plot.onClick = (point) => this.inspect(side, point.text, element);
    } else if (name === "similarity") {
      plot.marks = () => this.matrixMark(plot.spec);
      plot.onClick = (point) => this.inspect("teacher", point.y, element);
    } else if (name === "robustness") {
      plot.onClick = (point) => this.inspect(point.data.meta.role, point.customdata, element);
    } else {
      plot.onClick = (point) => this.inspect(side, point.y, element);
    }
  }

  /** Show a view of all figures whose names begin so. */
  show(name, view) {
    for (const [key, plot] of Object.entries(this.plots)) {
      if (key === name || key.startsWith(`${name}-`)) plot.show(this.data.figures[key][view]);
    }
  }

  cellMark(component, heads) {
    const head = /^L(\d+)H(\d+)$/.exec(component ?? "");
    const mlp = /^MLP(\d+)$/.exec(component ?? "");
    if (!head && !mlp) return [];
    return [outline(head ? Number(head[2]) : heads + 1, Number((head ?? mlp)[1]), 0.5)];
  }

  matrixMark(spec) {
    const x = spec.data[0].x.indexOf(this.pair?.student);
    const y = spec.data[0].y.indexOf(this.pair?.teacher);
    if (x < 0 || y < 0) return [];
    const ring = { x: spec.data[0].x.length > 24 ? 0.9 : 0.5, y: spec.data[0].y.length > 24 ? 1.4 : 0.5 };
    return [{ ...outline(x, y, 0.5), x0: x - ring.x, x1: x + ring.x, y0: y - ring.y, y1: y + ring.y }];
  }

  /** Buttons for the types of component and the list of measures of the chosen type. */
  measures() {
    const part = this.section.querySelector("[data-kinds]").closest(".part");
    const kinds = [...new Set(this.data.figures.similarity.map((entry) => entry.kind))];
    const select = part.querySelector("[data-measures]");
    const names = { head: "Heads", mlp: "MLPs" };
    part.hidden = !kinds.length;
    const choose = (kind) => {
      for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.kind === kind));
      select.replaceChildren(...this.data.figures.similarity.flatMap((entry, i) =>
        entry.kind === kind ? [new Option(entry.measure + (entry.used ? " (used for matching)" : ""), i)] : []));
      show();
    };
    const show = () => this.plots.similarity?.show(this.data.figures.similarity[Number(select.value)].figure);
    const buttons = kinds.map((kind) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: names[kind] ?? kind });
      button.dataset.kind = kind;
      button.addEventListener("click", () => choose(kind));
      return button;
    });
    part.querySelector("[data-kinds]").replaceChildren(...buttons);
    select.addEventListener("change", show);
    if (kinds.length) choose(kinds[0]);
  }

  /** Show the pair of this row, or without one the component alone. */
  select(row, component = {}) {
    const kind = /^MLP/.test(Object.values(component)[0]) ? "mlp" : "head";
    this.pair = row ? { teacher: row.dataset.teacher, student: row.dataset.student, kind: row.dataset.kind } : { ...component, kind };
    this.table.mark(row);
    this.panel.show(this.pair);
    for (const name of Object.keys(this.plots).filter((key) => /^(influence|head-probes|similarity)/.test(key))) this.plots[name].refresh();
  }

  /** Open the panel of a component of one side; `opener` gets the focus back. */
  inspect(side, component, opener) {
    if (!this.data.components[side]?.names.includes(component)) return;
    this.select(this.table.find(side, component), { [side]: component });
    this.panel.float(opener);
  }

  /** Whatever names a component opens its panel, by a click, and by Enter or the space bar where it is no button. */
  listen() {
    for (const node of this.section.querySelectorAll(".circuits .node")) {
      const diagram = node.closest(".diagram");
      diagram.setAttribute("role", "group"); // an image may hold no buttons
      const side = diagram.classList.contains("teacher") ? "teacher" : "student";
      if (!this.data.components[side].names.includes(node.dataset.name)) continue;
      Object.assign(node.dataset, { side, component: node.dataset.name });
      for (const [key, value] of [["tabindex", "0"], ["role", "button"]]) node.setAttribute(key, value);
    }
    const open = (event) => {
      const node = event.target.closest("[data-component]");
      if (node) this.inspect(node.dataset.side, node.dataset.component, node);
      return node;
    };
    this.section.addEventListener("click", open);
    this.section.addEventListener("keydown", (event) => {
      if ((event.key === "Enter" || event.key === " ") && !event.target.closest("button") && open(event)) event.preventDefault();
    });
  }

  open(visible) {
    this.section.hidden = !visible;
    if (!visible) this.panel.close();
    for (const { element, drawn } of Object.values(this.plots)) {
      if (!visible) waiting.unobserve(element);
      else if (drawn) Plotly.Plots.resize(element);
      else if (window.Plotly) waiting.observe(element);
    }
  }

  retheme(everything) {
    for (const plot of Object.values(this.plots)) everything && window.Plotly ? plot.draw() : plot.refresh();
    if (this.pair) this.panel.show(this.pair);
  }
}

const sections = [...document.querySelectorAll(".comparison")];
const views = new Map();
let opened = -1;

/** Open one comparison; its view is made the first time. */
function open(index) {
  if (index === opened || !sections[index]) return;
  opened = index;
  if (!views.has(index)) views.set(index, new View(sections[index], COMPARISONS[index]));
  sections.forEach((section, i) => { section.hidden = i !== index; });
  for (const [i, view] of views) view.open(i === index);
  for (const row of document.querySelectorAll("[data-open]")) {
    row.toggleAttribute("aria-current", false);
    if (Number(row.dataset.open) === index) row.setAttribute("aria-current", "true");
  }
  for (const link of document.querySelectorAll("nav [data-part]")) link.href = `#c${index}-${link.dataset.part}`;
  for (const link of document.querySelectorAll(".all a.term")) link.hash = link.hash.replace(/^#c\d+/, `#c${index}`);
  for (const group of document.querySelectorAll(".students")) group.hidden = !group.dataset.members.split(" ").includes(String(index));
  choosers(index);
}

/** The selectors: all pairs, and the tasks of the open one's pair. */
function choosers(index) {
  const [pairs, tasks] = [document.getElementById("choose-pair"), document.getElementById("choose-task")];
  if (!pairs) return;
  const { pair, task } = COMPARISONS[index];
  const options = (values, chosen) => [...new Set(values)].map((v) => new Option(v, v, false, v === chosen));
  pairs.replaceChildren(...options(COMPARISONS.map((c) => c.pair), pair));
  tasks.replaceChildren(...options(COMPARISONS.filter((c) => c.pair === pair).map((c) => c.task), task));
  pairs.onchange = () => go(findComparison(pairs.value, task));
  tasks.onchange = () => go(findComparison(pair, tasks.value));
}

/** The comparison of this pair on this task, or else the pair's first. */
function findComparison(pair, task) {
  const exact = COMPARISONS.findIndex((c) => c.pair === pair && c.task === task);
  return exact >= 0 ? exact : COMPARISONS.findIndex((c) => c.pair === pair);
}

function go(index) {
  history.replaceState(null, "", `#c${index}`);
  open(index);
}

/** The comparison that the address names, or else the one that is open, or else the first. */
function addressed() {
  const target = /^#c(\d+)/.exec(location.hash);
  return target && sections[Number(target[1])] ? Number(target[1]) : Math.max(opened, 0);
}

function followAddress() {
  open(addressed());
  if (/^#c\d/.test(location.hash)) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/** Views need the numbers alone; then comes the library that draws figures. */
async function start() {
  COMPARISONS = JSON.parse(await unpacked("data"));
  addEventListener("hashchange", followAddress);
  followAddress();
  run(await unpacked("plotly"));
  views.get(opened)?.open(true);
}

document.querySelector(".overview")?.addEventListener("click", (event) => {
  const row = event.target.closest("[data-open]");
  if (!row || event.target.closest("a")) return;
  location.hash = `#c${row.dataset.open}`;
  followAddress();
});
addEventListener("beforeprint", () => views.get(opened)?.retheme(true));
addEventListener("afterprint", () => views.get(opened)?.retheme(false));
themeButton(() => views.forEach((view) => view.retheme(false)));
sections.forEach((section, i) => { section.hidden = i !== addressed(); }); // at once, so that nothing moves
const ready = start();
loadingUntil(ready);
ready.catch((error) => {
  document.documentElement.classList.add("undrawn");
  throw error;
});
