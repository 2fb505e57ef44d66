"use strict";
// The button that turns the theme around.

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
