"use strict";

const PAUSE = 500;
const file = document.getElementById("file");

/** Puts each new part in its place and leaves alone what is as it was. */
function show(html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const before = [...file.querySelectorAll(".slot")].map((slot) => slot.innerHTML);
  if (file.innerHTML === fresh.innerHTML) {
    return;
  }
  file.replaceChildren(fresh.content);
  file.querySelectorAll(".slot").forEach((slot, at) => {
    slot.classList.toggle("changed", before.length > 0 && slot.innerHTML !== before[at]);
  });
}

async function look() {
  try {
    const response = await fetch("/inspect/file", { cache: "no-store" });
    if (response.ok) {
      show(await response.text());
    }
  } catch {
    // The server was stopped. It may come back.
  }
  setTimeout(look, PAUSE);
}

look();
