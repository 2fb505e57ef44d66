"use strict";
// Tables that sort, and that of the matched pairs, which filters and selects.

/** A table that sorts by the numbers in its cells' `data-v`, by a click on a header. */
class SortedTable {
  /** The first `names` columns are names: they ascend first, numbers descend first. */
  constructor(table, names) {
    this.body = table.tBodies[0];
    this.rows = [...this.body.rows];
    this.names = names;
    this.heads = [...table.tHead.rows[0].cells];
    this.heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => this.sort(column)));
  }

  /** A second click turns the order around. */
  sort(column) {
    const now = this.heads[column].getAttribute("aria-sort");
    const first = column < this.names ? "ascending" : "descending";
    const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    this.heads.forEach((head, i) => head.hasAttribute("aria-sort") && head.setAttribute("aria-sort", i === column ? order : "none"));
    const value = (row) => Number(row.cells[column].dataset.v);
    const sign = order === "ascending" ? 1 : -1;
    this.rows.sort((a, b) => sign * (value(a) - value(b)));
    this.body.append(...this.rows);
  }
}

class PairTable extends SortedTable {
  /** `onSelect` gets the row, and what was clicked. */
  constructor(section, onSelect) {
    super(section.querySelector(".pairs"), 2);
    this.part = section.querySelector("[id$='-pairs']");
    this.onSelect = onSelect;
    this.kind = "";
    this.part.querySelectorAll("button[data-kind]").forEach((button) =>
      button.addEventListener("click", () => this.choose(button)));
    this.part.querySelector("[data-find]").addEventListener("input", () => this.filter());
    this.part.querySelector("[data-influential]").addEventListener("change", () => this.filter());
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row) this.onSelect(row, row.querySelector("button"));
    });
  }

  choose(button) {
    this.kind = button.dataset.kind;
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    this.filter();
  }

  filter() {
    const wanted = this.part.querySelector("[data-find]").value.trim().toLowerCase();
    const influential = this.part.querySelector("[data-influential]").checked;
    const fits = (row) =>
      (!this.kind || row.dataset.kind === this.kind) &&
      (!wanted || `${row.dataset.teacher} ${row.dataset.student}`.toLowerCase().includes(wanted)) &&
      (!influential || Math.max(Number(row.cells[3].dataset.v), Number(row.cells[4].dataset.v)) > 0.1);
    for (const row of this.rows) row.hidden = !fits(row);
    const left = this.rows.filter((row) => !row.hidden).length;
    this.part.querySelector(".count").textContent = `${left} of ${this.rows.length} pairs`;
  }

  /** Mark this row, or none. */
  mark(row) {
    for (const other of this.rows) other.toggleAttribute("aria-current", false);
    row?.setAttribute("aria-current", "true");
  }

  /** The first pair, in the current order, whose `side` is this component, brought into sight; undefined for none. */
  find(side, component) {
    const row = this.rows.find((r) => r.dataset[side] === component);
    if (!row) return undefined;
    if (row.hidden) this.reset();
    const view = this.part.querySelector(".scroll");
    view.scrollTop = row.offsetTop - view.clientHeight / 2;
    return row;
  }

  reset() {
    this.part.querySelector("[data-find]").value = "";
    this.part.querySelector("[data-influential]").checked = false;
    this.choose(this.part.querySelector("button[data-kind='']"));
  }
}
