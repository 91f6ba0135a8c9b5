"use strict";

const REQUESTS = 50;

const button = document.getElementById("burst");
const result = document.getElementById("result");
const list = document.getElementById("answers");

/** Visits the counter and returns the number that it answers. */
async function count() {
  const response = await fetch("/cgi-bin/counter", { cache: "no-store" });
  const found = /been here (\d+) time/.exec(await response.text());
  if (!response.ok || !found) {
    throw new Error(`the counter answered with status ${response.status}`);
  }
  return Number(found[1]);
}

function say(text) {
  result.textContent = text;
  result.hidden = false;
}

/** Shows the answers in order, and says whether they are the numbers that they must be. */
function report(first, answers) {
  const sorted = answers.toSorted((a, b) => a - b);
  const isTwice = (number, at) => number === sorted[at - 1];
  const twice = sorted.filter(isTwice).length;
  const expected = answers.map((_, at) => first + at);
  const missing = expected.filter((number) => !sorted.includes(number)).length;

  list.replaceChildren(
    ...sorted.map((number, at) => {
      const item = document.createElement("li");
      item.textContent = number;
      item.classList.toggle("wrong", isTwice(number, at));
      return item;
    }),
  );
  const counted = `${sorted.length - twice} of ${REQUESTS} requests were counted`;
  say(`${counted}: ${sorted[0]} to ${sorted.at(-1)}, ${twice || "none"} twice, ${missing || "none"} missing.`);
}

async function burst() {
  button.disabled = true;
  list.replaceChildren();
  say("The answers are coming in …");
  try {
    // One alone before the others: it gives a new visitor the cookie that all of them need.
    const before = await count();
    const answers = await Promise.all(Array.from({ length: REQUESTS }, count));
    report(before + 1, answers);
  } catch (error) {
    say(`It did not work: ${error.message}.`);
  }
  button.disabled = false;
}

button.addEventListener("click", burst);
button.disabled = false;
