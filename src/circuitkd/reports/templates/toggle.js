"use strict";
// The button that turns the theme around, and the colours of the theme.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Show the present theme on the button; `repaint` is called then and after each click. */
function themeButton(repaint) {
  const button = document.getElementById("theme");
  const paint = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-pressed", String(theme === "dark"));
    repaint();
  };
  button.addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("circuitkd-theme", theme); } catch { /* storage is off: the choice lasts until the page is closed */ }
    paint(theme);
  });
  paint(document.documentElement.dataset.theme);
}

// On paper nothing can be unfolded: what is folded is opened while the page is printed.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const details of unfolded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
});
