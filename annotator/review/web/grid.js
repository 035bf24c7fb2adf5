/** The review grid: a page of pairs, one of them at the cursor, decided by single keys. */

import { clickId, element, get, number, openHere, post, reviewer } from "./common.js";
import { Outbox } from "./outbox.js";

const COLUMNS = 4;
const SIZE = 24;
const AHEAD = 6;
const WORDS = { accepted: "✓ accepted", adjusted: "✓ adjusted", rejected: "✕ rejected" };
const DIGITS = "34567890";

const byId = (id) => document.getElementById(id);
const box = byId("cards");
const filters = byId("filters");
const choices = [...document.querySelectorAll("[data-answer]")];
const ticks = [...document.querySelectorAll(".conflicts input")];

/** Pages by number: {cards, next}; the one after the current one is fetched before it is asked for. */
let pages = [];
let page = 0;
let cursor = 0;
let asked = 0;
let turning = false;
let total = null;
let showMask = true;
let since = performance.now();
const undoable = [];
const pictures = new Map();

const outbox = new Outbox(reviewer, (clicks) => post("/review/decisions", { clicks }), {
  changed: showUnsaved,
  answered: settle,
});

// --- pages -------------------------------------------------------------------------------------

function query() {
  const chosen = new URLSearchParams();
  for (const [name, value] of new FormData(filters)) {
    if (value.trim() !== "") chosen.set(name, value.trim().replace(",", "."));
  }
  return chosen;
}

/** The page of this number, fetched once; later pages begin where the earlier one ended. */
function load(wanted) {
  if (!pages[wanted]) {
    const chosen = query();
    if (wanted > 0) chosen.set("after", pages[wanted - 1].next);
    const path = `/review/cards?${chosen}`;
    const made = get(path).then((answer) => {
      const loaded = { next: answer.next, cards: answer.cards.map((card) => ({ ...card, was: card })) };
      for (const card of loaded.cards) new Image().src = cardUrl(card);
      return loaded;
    });
    pages[wanted] = made;
    made.then(
      (loaded) => { if (pages[wanted] === made) pages[wanted] = loaded; },
      () => { if (pages[wanted] === made) delete pages[wanted]; },
    );
  }
  return pages[wanted];
}

async function show(wanted, at) {
  const turn = ++asked;
  let loaded = load(wanted);
  // no key decides about a pair that is about to leave the screen
  turning = loaded instanceof Promise;
  box.toggleAttribute("aria-busy", turning);
  if (turning) {
    try {
      loaded = await loaded;
    } catch (error) {
      if (error.status === 401) location.assign("/sign-in");
      notice(error.message);
      loaded = null;
    }
    if (turn !== asked) return;
    turning = false;
    box.removeAttribute("aria-busy");
    if (!loaded) return;
  }
  if (!loaded.cards.length && wanted > 0) {
    notice("That was the last page.");
    return;
  }
  page = wanted;
  box.replaceChildren(...loaded.cards.map(drawCard));
  byId("empty").hidden = loaded.cards.length > 0;
  if (!loaded.cards.length) byId("empty").textContent = "No pair matches these filters.";
  byId("previous-page").disabled = page === 0;
  byId("next-page").disabled = loaded.cards.length < SIZE;
  showWhere();
  move(at < 0 ? loaded.cards.length - 1 : Math.min(at, loaded.cards.length - 1));
  if (loaded.cards.length === SIZE) load(page + 1);
}

async function restart() {
  pages = [];
  total = null;
  const chosen = query();
  history.replaceState(null, "", chosen.size ? `?${chosen}` : location.pathname);
  await show(0, 0);
  try {
    total = (await get(`/review/count?${chosen}`)).pairs;
    showWhere();
  } catch {
    // the number is nice to have
  }
}

const cards = () => pages[page]?.cards ?? [];
const current = () => cards()[cursor];

// --- drawing -----------------------------------------------------------------------------------

const cardUrl = (card) => `/pictures/${card.key}/card/${card.mask ?? "none"}.jpg`;

function drawCard(card, index) {
  const made = element(
    "div",
    { class: "card", role: "option", "aria-selected": "false", tabindex: "-1" },
    element("img", { src: cardUrl(card), alt: "", decoding: "async" }),
    element(
      "div",
      { class: "line" },
      element("span", {}, number(card.score)),
      element("span", { class: "words" }),
      element("span", { class: "state" }),
    ),
  );
  made.addEventListener("click", () => move(index));
  made.addEventListener("dblclick", () => toggleLarge());
  dress(made, card, index);
  return made;
}

function dress(node, card, index) {
  const decided = card.status in WORDS;
  node.className = ["card", card.status, card.fresh ? "decided" : "", card.failed ? "failed" : ""].join(" ");
  node.querySelector(".words").textContent = card.conflicts.join(" ");
  node.querySelector(".state").textContent = card.failed ? "not saved" : WORDS[card.status] ?? (disputed(card) ? "1 ≠ 2" : "");
  const conflicts = card.conflicts.length ? `conflicts ${card.conflicts.join(", ")}` : "no conflicts";
  const state = card.failed ? `not saved: ${card.failed}` : decided || disputed(card) ? card.status : "proposed";
  node.setAttribute(
    "aria-label",
    `${index + 1} of ${cards().length || SIZE}: ${card.identity}, ${state}, score ${number(card.score)}, ${conflicts}`,
  );
}

function redraw(card) {
  const index = cards().indexOf(card);
  if (index < 0) return;
  dress(box.children[index], card, index);
  if (index === cursor) drawFocus();
}

/** The three pictures of a pair, decoded before they are needed. */
function faces(card) {
  const name = `${card.key} ${card.mask} ${card.choice ?? ""}`;
  let found = pictures.get(name);
  if (!found) {
    const picture = (path, alt) => {
      const image = element("img", { src: `/pictures/${card.key}/${path}`, alt });
      image.decode().catch(() => {});
      return image;
    };
    found = {
      gt: picture("gt.jpg", "ground truth"),
      bare: picture("ref.jpg", "reference"),
      masked: answerPath(card) ? picture(answerPath(card), card.choice ? `reference with the mask chosen: ${card.choice}` : "where the two masks differ")
        : card.mask && picture(`mask/${card.mask}.jpg`, "reference with mask; conflicts are red"),
    };
    if (pictures.size > 60) pictures.delete(pictures.keys().next().value);
  }
  pictures.delete(name);
  pictures.set(name, found);
  return found;
}

/** Two annotators differ, and nobody has had the last word. */
const disputed = (card) => card.status === "adjudicate" && card.answers.length === 2;

/** What is shown of two answers: their difference, one of them, or what becomes of both. */
function answerPath(card) {
  if (card.answers.length !== 2) return null;
  const [first, second] = card.answers.map((one) => one.mask);
  if (card.choice === "first" && first) return `mask/${first}.jpg`;
  if (card.choice === "second" && second) return `mask/${second}.jpg`;
  if (!first || !second) return null;
  return card.choice ? `merged/${card.choice}/${first}/${second}.jpg` : `difference/${first}/${second}.jpg`;
}

function choose(choice) {
  const card = current();
  if (!card || card.answers.length !== 2) return;
  const index = ["first", "second"].indexOf(choice);
  const answers = index < 0 ? card.answers : [card.answers[index]];
  if (answers.some((one) => one.status === "rejected")) {
    return notice(index < 0 ? "One of the two rejected the pair: there is nothing to merge." : "This one rejected the pair: X follows.");
  }
  card.choice = choice;
  const union = new Set(answers.flatMap((one) => one.conflicts));
  card.conflicts = ticks.map((one) => one.value).filter((one) => union.has(one));
  redraw(card);
}

function drawFocus() {
  const card = current();
  byId("focus").hidden = !card;
  if (!card) return;
  const { gt, bare, masked } = faces(card);
  byId("gt").replaceChildren(gt);
  byId("ref").replaceChildren(showMask && masked ? masked : bare);
  const differing = card.answers.length === 2 && !card.choice;
  const over = differing ? "where the two differ" : "reference with mask";
  byId("ref-caption").textContent = showMask && masked ? over : "reference";
  const round = card.round === null ? "no proposal" : `round ${card.round}`;
  byId("facts").textContent = `${card.identity} · ${round} · score ${number(card.score, 3)}`;
  const verdict = byId("verdict");
  verdict.className = `verdict ${card.status}`;
  verdict.textContent = card.failed ? "not saved" : WORDS[card.status] ?? "";
  byId("answers").hidden = card.answers.length !== 2;
  for (const button of choices) button.setAttribute("aria-pressed", button.dataset.answer === card.choice);
  for (const tick of ticks) tick.checked = card.conflicts.includes(tick.value);
}

function showWhere() {
  const pagesInAll = total === null ? "" : ` of ${Math.max(1, Math.ceil(total / SIZE))}`;
  const pairs = total === null ? "" : ` · ${total.toLocaleString("en")} pairs`;
  byId("where").textContent = `page ${page + 1}${pagesInAll}${pairs}`;
}

function showUnsaved(count, trouble) {
  const line = byId("unsaved");
  line.textContent = count ? `${count} unsaved` : "all saved";
  line.classList.toggle("some", count > 0);
  line.title = trouble;
  if (trouble && count) notice(`${count} unsaved: ${trouble}`, true);
  else if (byId("notice").dataset.trouble) byId("notice").hidden = true;
}

let noticeTimer = 0;
function notice(text, trouble = false) {
  const line = byId("notice");
  clearTimeout(noticeTimer);
  line.textContent = text;
  line.hidden = false;
  line.dataset.trouble = trouble ? "yes" : "";
  if (!trouble) noticeTimer = setTimeout(() => { line.hidden = true; }, 5000);
}

// --- moving ------------------------------------------------------------------------------------

function move(to) {
  const old = box.children[cursor];
  if (old) {
    old.setAttribute("aria-selected", "false");
    old.tabIndex = -1;
  }
  cursor = Math.max(0, to);
  since = performance.now();
  const now = box.children[cursor];
  if (now) {
    now.setAttribute("aria-selected", "true");
    now.tabIndex = 0;
    if (!inForm() && !document.querySelector("dialog[open]")) now.focus({ preventScroll: true });
  }
  drawFocus();
  // after this change is on the screen
  setTimeout(() => cards().slice(cursor + 1, cursor + 1 + AHEAD).forEach(faces), 0);
}

function step(by) {
  const to = cursor + by;
  if (to >= 0 && to < cards().length) move(to);
  else if (to >= cards().length && cards().length === SIZE) show(page + 1, by === 1 ? 0 : to - SIZE);
  else if (to < 0 && page > 0) show(page - 1, by === -1 ? -1 : to + SIZE);
}

const inForm = () => filters.contains(document.activeElement);

// --- deciding ----------------------------------------------------------------------------------

function decide(act) {
  const card = current();
  if (!card) return;
  if (!reviewer) return void askName();
  if (act === "accept" && !card.mask) return notice("There is no mask to accept: paint one on the brush page.");
  if (act === "accept" && card.answers.length === 2 && !card.choice) return notice("Choose first: 1, 2, K (what both keep) or E (what either keeps).");
  const said = [act, card.choice ?? "", ...card.conflicts].join(" ");
  if (card.said === said) return step(1); // once more the same is no further decision
  const click = clickId();
  const before = { status: card.status, conflicts: card.conflicts, fresh: card.fresh, said: card.said, choice: card.choice };
  undoable.push({ click, card, before, page, cursor });
  card.status = act === "reject" ? "rejected" : card.proposed ? "accepted" : "adjusted";
  card.fresh = true;
  card.failed = "";
  card.click = click;
  card.said = said;
  const seconds = Math.round((performance.now() - since) / 10) / 100;
  outbox.add({ click, pair: card.key, conflicts: card.conflicts, seconds, ...what(card, act) });
  redraw(card);
  step(1);
}

/** What is decided: the mask that is shown, one of two answers, or a mask made of both. */
function what(card, act) {
  if (act !== "accept" || !card.choice) return { act, mask: card.mask };
  const [first, second] = card.answers.map((one) => one.mask);
  if (card.choice === "first" || card.choice === "second") return { act, mask: card.choice === "first" ? first : second };
  return { act: "merge", how: card.choice, mask: first, other: second };
}

function undo() {
  const last = undoable.pop();
  if (!last) return notice("Nothing to undo here; the history of a pair restores any mask.");
  const { click, card, before } = last;
  Object.assign(card, before, { failed: "" });
  card.click = clickId();
  outbox.add({ click: card.click, act: "undo", pair: card.key, undone: click });
  if (last.page !== page && pages[last.page]?.cards?.includes(card)) show(last.page, last.cursor);
  else if (cards().includes(card)) move(last.cursor);
  redraw(card);
}

/** What the service made of a click; the newest click of a card decides what it shows. */
function settle(result) {
  for (const loaded of pages) {
    const card = loaded?.cards?.find((one) => one.click === result.click);
    if (!card) continue;
    if (result.refused) {
      card.failed = result.refused;
      card.said = "";
      card.status = card.was.status;
      notice(`Not saved: ${result.refused}`);
    } else {
      card.status = result.status;
      // what is ticked on an undecided pair is known to this page only
      if (result.status in WORDS) card.conflicts = result.conflicts;
    }
    redraw(card);
  }
}

function tick(value) {
  const card = current();
  if (!card) return;
  const order = ticks.map((one) => one.value);
  const chosen = new Set(card.conflicts);
  if (!chosen.delete(value)) chosen.add(value);
  card.conflicts = order.filter((one) => chosen.has(one));
  redraw(card);
}

function toggleMask() {
  showMask = !showMask;
  document.querySelector('[data-act="mask"]').setAttribute("aria-pressed", showMask);
  drawFocus();
}

function toggleLarge() {
  const large = document.body.classList.toggle("large");
  document.querySelector('[data-act="large"]').setAttribute("aria-pressed", large);
  if (!large) move(cursor);
}

const acts = {
  accept: () => decide("accept"),
  reject: () => decide("reject"),
  undo,
  mask: toggleMask,
  large: toggleLarge,
  brush: () => current() && open(`/review/brush/${current().key}`, "_blank", "noopener"),
  history: () => current() && open(`/pairs/${current().key}`, "_blank", "noopener"),
  help: () => byId("help").showModal(),
};

const keys = {
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  ArrowDown: () => step(COLUMNS),
  ArrowUp: () => step(-COLUMNS),
  PageDown: () => byId("next-page").click(),
  PageUp: () => byId("previous-page").click(),
  Home: () => move(0),
  End: () => move(cards().length - 1),
  a: acts.accept,
  x: acts.reject,
  b: acts.brush,
  u: acts.undo,
  m: acts.mask,
  h: acts.history,
  1: () => choose("first"),
  2: () => choose("second"),
  k: () => choose("both"),
  e: () => choose("either"),
  "?": acts.help,
  " ": acts.large,
  f: () => filters.elements.status.focus(),
};
[...DIGITS].forEach((digit, index) => { keys[digit] = () => tick(ticks[index].value); });

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "z" && (event.ctrlKey || event.metaKey) && !inForm()) {
    event.preventDefault();
    return undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (inForm()) {
    if (key === "Escape") move(cursor, document.activeElement.blur());
    return;
  }
  if (key === "Escape" && document.body.classList.contains("large")) return toggleLarge();
  const pressed = event.target.closest("button, input, a");
  if (pressed && (key === " " || key === "Enter")) return; // it is theirs
  if (event.repeat && (key === "a" || key === "x" || key === "u")) return; // held down by mistake
  if (keys[key]) {
    event.preventDefault();
    if (!turning) keys[key]();
  }
});

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => acts[button.dataset.act]());
}
for (const button of choices) button.addEventListener("click", () => choose(button.dataset.answer));
for (const box of ticks) box.addEventListener("change", () => tick(box.value));
byId("next-page").addEventListener("click", () => show(page + 1, 0));
byId("previous-page").addEventListener("click", () => page > 0 && show(page - 1, 0));
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("change", restart);

// --- the beginning -----------------------------------------------------------------------------

function askName() {
  if (!openHere) return location.assign("/sign-in");
  byId("ask-name").showModal();
}

byId("name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/session", { name: byId("name").value });
    location.reload();
  } catch (error) {
    byId("name-trouble").textContent = error.message;
  }
});

for (const [name, value] of new URLSearchParams(location.search)) {
  const field = filters.elements[name];
  if (field) field.value = value;
}
showUnsaved(outbox.count, "");
outbox.pump();
if (reviewer && outbox.others.length) {
  notice(`Decisions of ${outbox.others.join(", ")} wait in this browser: sign in under that name to save them.`);
}
if (!reviewer) askName();
restart();
