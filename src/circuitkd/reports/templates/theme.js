"use strict";
// Runs before the first paint: the reader's choice of a theme, or else the system's; and whether figures can be drawn.
{
  let chosen = null;
  try { chosen = localStorage.getItem("circuitkd-theme"); } catch { /* storage is off: the system decides */ }
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  if ("DecompressionStream" in window) document.documentElement.classList.remove("undrawn");
}
