"use strict";
// Ties a page together: which comparison is open, which pair is selected, which theme is on.

const COMPARISONS = JSON.parse(document.getElementById("data").textContent);

class View {
  constructor(section, data) {
    this.section = section;
    this.data = data;
    this.pair = null;
    this.plots = {};
    section.querySelectorAll("[data-figure]").forEach((element) => this.addPlot(element));
    this.table = new PairTable(section, (row) => this.select(row));
    this.measures();
    section.querySelector("[data-example]")?.addEventListener("change", () => this.drawPatterns());
    const head = this.table.rows.find((row) => row.dataset.kind === "head") ?? this.table.rows[0];
    if (head) this.table.select(head);
  }

  addPlot(element) {
    const name = element.dataset.figure;
    const spec = name === "similarity" ? this.data.figures.similarity[0]?.figure : this.data.figures[name];
    if (!spec) return;
    const plot = new Plot(element, spec);
    element.plot = plot;
    this.plots[name] = plot;
    const side = name.replace("influence-", "");
    if (name.startsWith("influence-")) {
      plot.marks = () => this.cellMark(this.pair?.[side], plot.spec.layout.meta.heads);
      plot.onClick = (point) => this.table.find(side, point.text);
    } else if (name === "similarity") {
      plot.marks = () => this.matrixMark(plot.spec);
      plot.onClick = (point) => this.table.find("teacher", point.y);
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

  select(row) {
    this.pair = { teacher: row.dataset.teacher, student: row.dataset.student, kind: row.dataset.kind };
    const [similarity, teacher, student, agreement, contribution] = [2, 3, 4, 5, 6].map((i) => row.cells[i].textContent);
    this.section.querySelector(".selected h4").textContent = `${this.pair.teacher} \u2192 ${this.pair.student}`;
    this.summary = `Similarity ${similarity}, influence ${teacher} and ${student}, agreement ${agreement}, contribution ${contribution}.`;
    this.drawPatterns();
    for (const name of ["influence-teacher", "influence-student", "similarity"]) this.plots[name]?.refresh();
  }

  drawPatterns() {
    const place = this.section.querySelector(".attention");
    const say = (text) => { this.section.querySelector(".readout").textContent = text || this.summary; };
    say("");
    const example = this.data.patterns[Number(this.section.querySelector("[data-example]")?.value ?? 0)];
    if (!this.pair || !example) return place.replaceChildren();
    if (this.pair.kind !== "head") {
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = "MLPs work on each position by itself and have no attention pattern. Select a pair of heads to see one.";
      return place.replaceChildren(note);
    }
    place.replaceChildren(...["teacher", "student"].map((side) => {
      const [, layer, head] = /^L(\d+)H(\d+)$/.exec(this.pair[side]).map(Number);
      const { tokens, weights } = example[side];
      const describe = `${side === "teacher" ? "Teacher" : "Student"} ${this.pair[side]}`;
      const figure = document.createElement("figure");
      const caption = Object.assign(document.createElement("figcaption"), { className: side, textContent: describe });
      figure.append(caption, patternFigure(tokens, pattern(weights, layer * this.data.heads[side] + head), describe, say));
      return figure;
    }));
  }

  open(visible) {
    this.section.hidden = !visible;
    for (const { element, drawn } of Object.values(this.plots)) {
      if (!visible) waiting.unobserve(element);
      else if (drawn) Plotly.Plots.resize(element);
      else waiting.observe(element);
    }
  }

  retheme(everything) {
    for (const plot of Object.values(this.plots)) everything ? plot.draw() : plot.refresh();
    this.drawPatterns();
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

function followAddress() {
  const target = /^#c(\d+)/.exec(location.hash);
  open(target && sections[Number(target[1])] ? Number(target[1]) : Math.max(opened, 0));
  if (target) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

document.querySelector(".overview")?.addEventListener("click", (event) => {
  const row = event.target.closest("[data-open]");
  if (row && !event.target.closest("a")) location.hash = `#c${row.dataset.open}`;
});
addEventListener("hashchange", followAddress);
addEventListener("beforeprint", () => views.get(opened)?.retheme(true));
addEventListener("afterprint", () => views.get(opened)?.retheme(false));
themeButton(() => views.forEach((view) => view.retheme(false)));
followAddress();
