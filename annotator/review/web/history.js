/** A pair's history: the difference between any two masks, and restoring one. */

import { clickId, get, openHere, post, reviewer } from "./common.js";

const byId = (id) => document.getElementById(id);
const pair = document.querySelector("main").dataset.pair;
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;
let asked = 0;

async function compare() {
  const first = chosen("first");
  const second = chosen("second");
  const shown = second ?? first;
  if (shown) {
    byId("shown").src = `/pictures/${pair}/mask/${shown}.jpg`;
    byId("shown").alt = "reference with the chosen mask";
    byId("shown-caption").textContent = second ? "reference with the second mask" : "reference with the first mask";
  }
  if (!first || !second) return;
  const path = `/pictures/${pair}/difference/${first}/${second}`;
  byId("difference").src = `${path}.jpg`;
  byId("difference").alt = "difference of the two masks";
  const turn = ++asked;
  const { iou, first_only, second_only } = await get(`${path}.json`);
  if (turn !== asked) return;
  byId("difference-caption").replaceChildren(
    `IoU ${iou.toFixed(3)} · `,
    coloured("first", `first only ${first_only.toLocaleString("en")} px`),
    " · ",
    coloured("second", `second only ${second_only.toLocaleString("en")} px`),
  );
}

function coloured(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function say(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = false;
}

async function restore(button) {
  if (!reviewer) return location.assign(openHere ? "/review" : "/sign-in");
  button.disabled = true;
  const click = button.dataset.click ?? clickId();
  button.dataset.click = click; // pressed again after a failure, it is the same click
  const conflicts = button.dataset.conflicts.split(",").filter(Boolean);
  const body = { click, act: "restore", pair, mask: button.dataset.restore, conflicts, age: 0 };
  try {
    const { results } = await post("/review/decisions", { clicks: [body] });
    if (results[0].refused) throw new Error(results[0].refused);
    location.reload();
  } catch (error) {
    button.disabled = false;
    say(`Not restored: ${error.message}`);
  }
}

for (const radio of document.querySelectorAll('input[type="radio"]')) {
  radio.addEventListener("change", () => compare().catch((error) => say(error.message)));
}
for (const button of document.querySelectorAll("[data-restore]")) {
  button.addEventListener("click", () => restore(button));
}
/** To begin with: the current mask, and beside it the newest one that is another. */
function choose() {
  const seconds = [...document.querySelectorAll('input[name="second"]')];
  if (!seconds.length) return;
  const now = document.querySelector('tr.current input[name="second"]') ?? seconds.at(-1);
  const firsts = [...document.querySelectorAll('input[name="first"]')].reverse();
  now.checked = true;
  (firsts.find((one) => one.value !== now.value) ?? firsts[0]).checked = true;
  compare().catch((error) => say(error.message));
}

choose();
