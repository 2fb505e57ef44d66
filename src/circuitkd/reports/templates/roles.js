"use strict";
// The section of roles and fates: the ribbons under the pointer, the table of fates, and views of figures.

/** Show only the ribbons of the component that is pointed at or focused. */
function followRibbons(picture) {
  const ribbons = [...picture.querySelectorAll(".ribbon")];
  const show = (node) => {
    const mine = ribbons.filter((r) => r.dataset[`${node.dataset.side}End`] === node.dataset.component);
    picture.classList.add("focus");
    for (const ribbon of mine) ribbon.classList.add("on");
  };
  const hide = () => {
    picture.classList.remove("focus");
    for (const ribbon of ribbons) ribbon.classList.remove("on");
  };
  for (const node of picture.querySelectorAll(".node")) {
    for (const event of ["pointerenter", "focus"]) node.addEventListener(event, () => show(node));
    for (const event of ["pointerleave", "blur"]) node.addEventListener(event, hide);
  }
}

/** Filter the table of fates by fate and by whether the component matters. */
function fateTable(part) {
  const table = new SortedTable(part.querySelector(".fates"), 3);
  const [buttons, mattering] = [[...part.querySelectorAll("button[data-fate]")], part.querySelector("[data-mattering]")];
  const filter = () => {
    const chosen = buttons.find((b) => b.getAttribute("aria-pressed") === "true").dataset.fate;
    for (const row of table.rows) {
      row.hidden = (chosen && row.dataset.fate !== chosen) || (mattering.checked && row.dataset.matters === undefined);
    }
    const left = table.rows.filter((row) => !row.hidden).length;
    part.querySelector(".count").textContent = `${left} of ${table.rows.length} components`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      filter();
    });
  }
  mattering.addEventListener("change", filter);
}

/** Switches and lists that choose a view of the figures whose names begin with `data-views`. */
function chooseViews(section, show) {
  for (const chooser of section.querySelectorAll("[data-views]")) {
    const name = chooser.dataset.views;
    if (chooser.tagName === "SELECT") {
      chooser.addEventListener("change", () => show(name, chooser.value));
      continue;
    }
    const buttons = [...chooser.querySelectorAll("[data-view]")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        show(name, button.dataset.view);
      });
    }
  }
}
