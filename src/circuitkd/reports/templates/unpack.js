"use strict";
// Reads what the page holds compressed, so that it stays small: base64 of the zlib format in script elements.

/** Bytes of a base64 text. */
function bytes(text) {
  const characters = atob(text);
  const made = new Uint8Array(characters.length);
  for (let i = 0; i < made.length; i += 1) made[i] = characters.charCodeAt(i);
  return made;
}

/** The text that the element of this id holds. */
async function unpacked(id) {
  const packed = new Blob([bytes(document.getElementById(id).textContent)]);
  return new Response(packed.stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

/** Run a script whose hash the page's policy allows. The page stays as it was, so a saved copy of it is one, too. */
function run(text) {
  const script = Object.assign(document.createElement("script"), { textContent: text });
  document.head.append(script);
  script.remove();
}

/** Keep the page loading until this has ended, so that whoever prints a page once it is loaded prints its figures: the
 * `load` event waits for the document of a frame that was opened and not closed. */
function loadingUntil(promise) {
  const frame = Object.assign(document.createElement("iframe"), { hidden: true });
  document.body.append(frame);
  frame.contentDocument.open();
  promise.finally(() => {
    frame.contentDocument.close();
    frame.remove();
  }).catch(() => {}); // whoever made the promise is told
}
