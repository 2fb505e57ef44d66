"use strict";
// Circuits: pointing at a box shows its wires alone, and its matches in the other circuit.

/** Show only the wires of these boxes, and mark the boxes at their ends. */
function lightUp(diagram, names) {
  const reached = new Set(names);
  for (const wire of diagram.querySelectorAll(".wires .wire")) {
    const { from, to } = wire.dataset;
    const touches = names.includes(from) || names.includes(to);
    wire.classList.toggle("on", touches);
    if (touches) reached.add(from).add(to);
  }
  diagram.classList.add("focus");
  for (const node of diagram.querySelectorAll(".node")) node.classList.toggle("on", reached.has(node.dataset.name));
}

function putOut(diagram) {
  diagram.classList.remove("focus");
  for (const element of diagram.querySelectorAll(".on")) element.classList.remove("on");
}

/** The names of the boxes of a diagram that match this one, whichever side says so. */
function matching(diagram, node) {
  const nodes = [...diagram.querySelectorAll(".node")];
  return nodes.filter((n) => n.dataset.name === node.dataset.match || n.dataset.match === node.dataset.name).map((n) => n.dataset.name);
}

for (const diagram of document.querySelectorAll(".diagram")) {
  const others = [...diagram.closest(".circuits").querySelectorAll(".diagram")].filter((other) => other !== diagram);
  for (const node of diagram.querySelectorAll(".node")) {
    node.addEventListener("pointerenter", () => {
      lightUp(diagram, [node.dataset.name]);
      for (const other of others) lightUp(other, matching(other, node));
    });
    node.addEventListener("pointerleave", () => [diagram, ...others].forEach(putOut));
  }
}
