"use strict";
// The panel of one component and its counterpart in the other model. It stands below the table of pairs, and floats
// beside what the reader looks at once a component is selected.

const SIDES = ["teacher", "student"];
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const number = (value, digits = 2) =>
  value === null || value === undefined ? "n/a" : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "\u2212");

/** An element with attributes and children; text is text, whatever it holds. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A matrix unpacked once. */
function rowsOf(packed) {
  packed.rows ??= matrix(packed);
  return packed.rows;
}

class Panel {
  constructor(section, data) {
    this.box = section.querySelector(".selected");
    this.data = data;
    this.parts = data.components;
    this.part = (selector) => this.box.querySelector(selector);
    this.part("[data-example]")?.addEventListener("change", () => this.drawPatterns());
    this.part("[data-close]").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.floats) this.close();
    });
  }

  get floats() {
    return this.box.classList.contains("floating");
  }

  /** Show a pair {teacher, student, kind}; one of the two may be missing. */
  show(pair) {
    this.pair = pair;
    this.sides = SIDES.filter((side) => pair[side]);
    this.match = this.parts.pairs.find((p) => p.teacher === pair.teacher && p.student === pair.student);
    const names = this.sides.map((side) => element("span", { class: side }, pair[side]));
    this.part("h4").replaceChildren(...names.flatMap((name, i) => (i ? [" \u2192 ", name] : [name])));
    this.part(".told").replaceChildren(...this.fates(), ...this.others());
    this.drawPatterns();
    this.part(".details").replaceChildren(
      ...[this.numbers(), this.effects(), this.roles(), this.patching(), this.tests(), this.probes()].filter(Boolean));
  }

  float(opener) {
    this.opener = opener;
    if (!this.floats) this.box.parentElement.style.minHeight = `${this.box.offsetHeight}px`;
    this.box.classList.add("floating");
    this.part("[data-close]").hidden = false;
    this.box.scrollTop = 0;
    this.part("h4").focus({ preventScroll: true });
  }

  close() {
    if (!this.floats) return;
    this.box.classList.remove("floating");
    this.box.parentElement.style.minHeight = "";
    this.part("[data-close]").hidden = true;
    this.opener?.focus({ preventScroll: true });
  }

  /** What became of the teacher's component, or of all whose lookalike the student's is. */
  fates() {
    const { teacher, student } = this.pair;
    const known = this.parts.fates;
    const names = teacher ? [teacher] : Object.keys(known).filter((name) => known[name].student === student);
    return names.filter((name) => known[name]).map((name) => {
      const { fate, student: lookalike, reason } = known[name];
      const about = `${name}, most like ${lookalike}: ${reason.replace(/-(?=\d)/g, "\u2212")}.`;
      return element("p", { class: "verdict" }, element("span", { class: `fate fate-${fate}` }, fate), ` ${about}`);
    });
  }

  /** Buttons for the other teacher components that are matched to this student component. */
  others() {
    const { teacher, student } = this.pair;
    if (student && !teacher) return [element("p", { class: "note" }, "No teacher component is matched to it.")];
    if (!student) return [element("p", { class: "note" }, "It is matched to no student component.")];
    const others = this.parts.pairs.filter((p) => p.student === student && p.teacher !== teacher).map((p) => p.teacher);
    if (!others.length) return [];
    const buttons = others.flatMap((name, i) => [
      i ? ", " : "", element("button", { type: "button", class: "plain to", "data-side": "teacher", "data-component": name }, name)]);
    return [element("p", { class: "note" }, `${student} is also the match of `, ...buttons, ".")];
  }

  summary() {
    if (!this.match) return "";
    const influence = this.sides.map((side) => number(this.value(side, "influence"), 3));
    const { similarity, agreement, contribution } = this.match;
    return `Similarity ${number(similarity, 3)}, influence ${influence.join(" and ")}, agreement ${number(agreement, 3)}, contribution ${number(contribution, 3)}.`;
  }

  /** A number of this side's component from a list in the order of the names. */
  value(side, list) {
    return this.parts[side][list][this.parts[side].names.indexOf(this.pair[side])];
  }

  drawPatterns() {
    const place = this.part(".attention");
    const summary = this.summary();
    const say = (text) => { this.part(".readout").textContent = text || summary; };
    say("");
    const example = this.data.patterns[Number(this.part("[data-example]")?.value ?? 0)];
    if (!this.pair || !example) return place.replaceChildren();
    if (this.pair.kind !== "head") {
      return place.replaceChildren(element("p", { class: "note" }, "MLPs work on each position by themselves and have no attention pattern. Select a pair of heads to see one."));
    }
    place.replaceChildren(...this.sides.map((side) => {
      const [, layer, head] = /^L(\d+)H(\d+)$/.exec(this.pair[side]).map(Number);
      const { tokens, weights } = example[side];
      const describe = `${capital(side)} ${this.pair[side]}`;
      const shown = pattern(weights, layer * this.data.heads[side] + head);
      const drawn = patternFigure(tokens, shown, describe, say);
      const figure = element("figure", { "data-save": `attention ${describe}`, "data-label": `Attention of ${describe}` },
        element("figcaption", { class: side }, describe), drawn);
      figure.numbers = () => patternTable(tokens, shown);
      saveButtons(figure, this.box.closest("[data-file]"));
      return figure;
    }));
  }

  /** A block with a title; nothing where there is nothing in it. */
  block(title, note, ...children) {
    if (!children.length) return null;
    const about = note ? [element("p", { class: "note" }, note)] : [];
    return element("section", { class: "block" }, element("h5", {}, title), ...about, ...children);
  }

  /** A table with a column for each side: rows are [name, text of each side]. */
  table(rows, caption) {
    const heads = this.sides.map((side) => element("th", { scope: "col", class: `num ${side}` }, this.pair[side]));
    const head = element("thead", {}, element("tr", {}, element("td"), ...heads));
    const body = rows.map(([name, ...values]) => element("tr", {}, element("th", { scope: "row" }, name),
      ...values.map((value) => element("td", { class: "num" }, value))));
    const title = element("caption", { class: "sr" }, caption);
    return element("table", { class: "small" }, title, head, element("tbody", {}, ...body));
  }

  numbers() {
    const each = (read) => this.sides.map(read);
    const rows = [
      ["influence", ...each((side) => number(this.value(side, "influence"), 3))],
      ["mean effect of ablation, logits", ...each((side) => number(this.value(side, "mean"), 3))],
      ["retained when it is ablated, %", ...each((side) => number(this.value(side, "retained"), 1))],
    ];
    const written = each((side) => this.parts[side].attribution?.[this.pair[side]]);
    if (written.some((value) => value !== undefined)) {
      rows.push(["written towards the answer itself, logits", ...written.map((value) => number(value, 3))]);
    }
    const estimated = this.sides.filter((side) => this.parts[side].estimated.includes(this.pair[side]));
    const note = estimated.length ? `Estimated by attribution, not ablated: ${estimated.map((side) => this.pair[side]).join(", ")}.` : "";
    return this.block("Influence", note, this.table(rows, "Influence of the component and its counterpart"));
  }

  /** A dot for each example's effect, both models on one axis. */
  effects() {
    const found = this.sides.map((side) => [side, rowsOf(this.parts[side].effects)[this.parts[side].names.indexOf(this.pair[side])]]);
    const strip = effectStrip(found.map(([side, values]) => ({ side, name: this.pair[side], values })), this.parts.examples);
    return this.block("Effect by example", "Unablated minus ablated logit difference, in logits; the line is the mean. Positive: it helps.", strip);
  }

  roles() {
    const sides = this.sides.filter((side) => this.parts[side].roles?.heads.includes(this.pair[side]));
    const names = [...new Set(sides.flatMap((side) => this.parts[side].roles.names))];
    if (!names.length) return null;
    const rows = names.map((name) => [name, ...this.sides.map((side) => this.roleBar(side, name))]);
    return this.block("Roles", "Score, from 0 to 1; the tick is the threshold from shuffled labels. Bold with a share: the head has the role.", this.table(rows, "Role scores"));
  }

  roleBar(side, name) {
    const { roles } = this.parts[side];
    const [row, column] = [roles.heads.indexOf(this.pair[side]), roles.names.indexOf(name)];
    if (row < 0 || column < 0) return "left out";
    const [score, share] = [rowsOf(roles.score)[row][column], rowsOf(roles.share)[row][column]];
    const has = roles.found[row][column];
    const style = `--v:${score};--t:${roles.threshold[column] ?? 1}`;
    const title = `score ${number(score)}, threshold ${number(roles.threshold[column])}`;
    const text = has ? `${number(score)} (${Math.round(100 * share)} %)` : number(score);
    return element("span", { class: `score of-${side}${has ? " has" : ""}`, style, title }, text);
  }

  /** Recovery when the component is taken from the clean run, at each position and at all. */
  patching() {
    const rows = this.sides.flatMap((side) => {
      const found = this.parts[side].patching;
      const row = found ? found.components.indexOf(this.pair[side]) : -1;
      if (row < 0) return [];
      const head = found.heads.indexOf(this.pair[side]);
      const halves = head < 0 ? [] : rowsOf(found.halves)[head];
      return [patchingRow({ side, name: this.pair[side], places: found.positions, values: rowsOf(found.recovery)[row], halves })];
    });
    return this.block("Activation patching", "Recovery when this output is taken from the clean run: 1 as clean, 0 as corrupted.", ...rows);
  }

  tests() {
    const asked = ["weights", "prompts"].map((name) => this.sides.map((side) => this.parts[side].ov?.find((test) => test.asked === name)));
    const rows = asked.flatMap((tests) => ["successor", "copy"].map((what) => {
      const shares = tests.map((test, i) => test?.[what][test.heads.indexOf(this.pair[this.sides[i]])]);
      const test = tests.find(Boolean);
      return test && shares.some((s) => s !== undefined) ? [`${what}, through the ${test.asked}`, ...shares.map((s) => number(s))] : null;
    })).filter(Boolean);
    if (!rows.length) return null;
    return this.block("Successor and copy test", "Share of words whose next member (or the word itself) is among the five tokens that the head’s output favours most.", this.table(rows, "Successor and copy test"));
  }

  /** What linear probes read from a head's values, or where it has none, from the stream of its layer. */
  probes() {
    const places = this.sides.map((side) => this.probed(side));
    const names = [...new Set(places.flatMap((place) => place?.targets ?? []))];
    if (!names.length) return null;
    const rows = names.map((name) => {
      const chances = new Set(places.filter((place) => place?.targets.includes(name)).map(({ targets, chance }) => number(chance[targets.indexOf(name)])));
      return [`${name} (chance ${[...chances].join(", ")})`, ...places.map((place, i) => this.probeBar(this.sides[i], place, name))];
    });
    const read = [...new Set(places.filter(Boolean).map((place) => place.read))].join(" and ");
    const shared = places.flatMap((place) => place?.source ?? []);
    const whose = shared.length ? ` (those of ${shared.join(" and ")})` : "";
    return this.block("Probes", `Score on held-out prompts, from 0 to 1, of what is read from ${read}${whose}; the tick is what shuffled labels give.`, this.table(rows, "Scores of linear probes"));
  }

  /** The probes that concern this side's component: their scores, the column, and what they read in words. */
  probed(side) {
    const { probes } = this.parts[side];
    if (!probes) return null;
    const name = this.pair[side];
    const head = probes.heads ? probes.heads.names.indexOf(name) : -1;
    if (head < 0) return { ...probes, ...probes.stream, column: Number(/\d+/.exec(name)[0]), read: "the residual stream after the attention of its layer" };
    const source = probes.heads.sources[head];
    return { ...probes, ...probes.heads, column: head, read: "the head’s value vectors", source: source === name ? null : source };
  }

  probeBar(side, place, name) {
    const row = place ? place.targets.indexOf(name) : -1;
    if (row < 0) return "left out";
    const [score, control, spread] = ["score", "control", "spread"].map((which) => rowsOf(place[which])[row][place.column]);
    const title = `score ${number(score)}; shuffled labels ${number(control)} \u00b1 ${number(spread)}`;
    return element("span", { class: `score of-${side}`, style: `--v:${score};--t:${control}`, title }, number(score));
  }
}
