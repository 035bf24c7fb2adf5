/** The progress page: asks for its figures every few seconds, and draws them when they changed. */

import { bars, columns, legend, quartileRows, stackedBar, stackedRows } from "./charts.js";
import { element, number } from "./common.js";

const EVERY = 4000;
const FILLS = { accepted: "accepted-fill", adjusted: "adjusted-fill", rejected: "rejected-fill", waiting: "waiting-fill" };
const byId = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");
const part = (name, value, called = name) => ({ name: called, value, fill: FILLS[name] });
const roundName = (number) => (number === null ? "no proposal" : `round ${number}`);
let tag = "";

function nothing(words) {
  return element("p", { class: "dim" }, words);
}

function drawTarget(now) {
  const { accepted, adjusted, rejected } = now.statuses;
  const reviewed = accepted + adjusted;
  const parts = [
    part("accepted", accepted), part("adjusted", adjusted), part("rejected", rejected),
    part("waiting", now.waiting, "proposed, waiting for a person"),
  ];
  const share = (100 * reviewed) / now.target;
  byId("target").replaceChildren(
    element("p", { class: "big" }, count(reviewed),
      element("small", {}, ` of ${count(now.target)} · ${share.toFixed(share < 10 ? 1 : 0)} %${pace(now, reviewed)}`)),
    stackedBar(parts.slice(0, 2), now.target),
    legend(parts),
  );
}

/** At the mean pace of the last seven days on which somebody reviewed. */
function pace(now, reviewed) {
  const days = now.days.slice(-7).map(([, value]) => value);
  const missing = now.target - reviewed;
  if (!days.length || missing <= 0) return "";
  const daily = days.reduce((all, value) => all + value, 0) / days.length;
  return ` · ${count(Math.round(daily))} a day lately, ${count(Math.ceil(missing / daily))} working days to go`;
}

function drawRounds(now) {
  const rows = now.rounds.map((row) => {
    const decided = row.accepted + row.adjusted + row.rejected;
    const kept = decided ? `${Math.round((100 * row.accepted) / decided)} % kept` : "";
    return {
      name: roundName(row.round),
      parts: ["accepted", "adjusted", "rejected", "waiting"].map((name) => part(name, row[name])),
      note: kept,
    };
  });
  byId("rounds").replaceChildren(
    rows.length ? stackedRows(rows, "decisions by round") : nothing("No proposals yet."),
    legend(["accepted", "adjusted", "rejected", "waiting"].map((name) => part(name, now.rounds.reduce((all, row) => all + row[name], 0)))),
  );
}

function drawDays(now) {
  const days = now.days.map(([day, value]) => ({ name: day.slice(5), value }));
  byId("days").replaceChildren(
    days.length ? columns(days, "reviewed a day", { every: Math.ceil(days.length / 10) }) : nothing("Nothing is reviewed yet."),
  );
}

function drawOverlap(now) {
  const { overlap } = now;
  const missing = overlap.changed - overlap.measured;
  byId("overlap-note").textContent = missing ? `measuring ${count(missing)} more` : "median and quartiles";
  if (!overlap.all.count) return byId("overlap").replaceChildren(nothing("No proposal was reviewed yet."));
  const rows = overlap.rounds.filter((row) => row.count).map((row) => ({ ...row, name: roundName(row.round) }));
  byId("overlap").replaceChildren(
    quartileRows(rows, "IoU of proposal and final mask by round", { most: 1, digits: 3 }),
    element("p", { class: "dim" }, `${count(overlap.kept)} kept pixel for pixel (IoU 1); the ${count(overlap.measured)} changed ones by IoU:`),
    columns(
      overlap.bins.map((value, index) => ({ name: (index / overlap.bins.length).toFixed(2), value })),
      "IoU of changed masks", { height: 60, every: 4 },
    ),
  );
}

function drawSeconds(now) {
  const rows = now.painting.filter((row) => row.count).map((row) => ({ ...row, name: `${roundName(row.round)}` }));
  if (now.looking.count) rows.push({ ...now.looking, name: "review grid" });
  if (!rows.length) return byId("seconds").replaceChildren(nothing("No times are known yet."));
  const all = now.painting_all;
  const words = all.count ? `Painted: median ${number(all.median, 1)} s of ${count(all.count)} masks.` : "";
  const grid = now.looking.count ? ` Review grid: ${number(now.looking.median, 1)} s a decision, ${count(Math.round(3600 / Math.max(now.looking.median, 0.1)))} an hour.` : "";
  byId("seconds").replaceChildren(quartileRows(rows, "seconds a mask", { unit: " s" }), nothing(words + grid));
}

function drawCounts(id, figures, label, rest) {
  const rows = Object.entries(figures).map(([name, value]) => ({ name: name.replace("_", " and "), value }));
  if (rest) rows.push(rest);
  byId(id).replaceChildren(bars(rows, label));
}

function drawPeople(now) {
  if (!now.people.length) return byId("people").replaceChildren(nothing("Nobody has decided anything yet."));
  const head = ["who", "accepted", "adjusted", "rejected", "decisions made", "median seconds", "last"];
  const cell = (value, name = "n") => element("td", { class: name }, value);
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((word, index) => element("th", { class: index ? "n" : "", scope: "col" }, word)))),
    element("tbody", {}, ...now.people.map((one) => element("tr", {},
      cell(one.name.replace(/^review:/, "").replace(/^label-studio:/, "Label Studio user "), ""), cell(count(one.accepted)), cell(count(one.adjusted)),
      cell(count(one.rejected)), cell(count(one.made)), cell(number(one.seconds.median, 1)),
      cell(new Date(one.last).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }))))),
  );
  byId("people").replaceChildren(table);
}

const called = (name) => name.replace(/^review:/, "").replace(/^label-studio:/, "Label Studio user ");

/** Annotators, and then scenarios, one line each; what is under a threshold stands out. */
function drawQuality(id, rows, quality, empty) {
  if (!rows.length) return byId(id).replaceChildren(nothing(empty));
  const cell = (value, name = "n") => element("td", { class: name }, value);
  const low = (value, least) => cell(number(value), value !== null && value < least ? "n low" : "n");
  const line = (row, name) => element("tr", {}, cell(name, ""), cell(count(row.answers)), cell(`${Math.round((100 * row.agreed) / row.answers)} %`),
    low(row.iou, quality.least_iou), cell(number(row.boundary_f)), low(row.kappa, quality.least_kappa));
  const head = (name) => element("tr", {}, ...[name, "answers", "same", "IoU", "boundary F", "kappa"].map((word, index) => element("th", { class: index ? "n" : "", scope: "col" }, word)));
  const people = rows.filter((row) => row.scenario === "all");
  const scenarios = rows.filter((row) => row.annotator === "all" && row.scenario !== "all");
  byId(id).replaceChildren(element("table", {},
    element("tbody", {}, head("who"), ...people.map((row) => line(row, called(row.annotator))),
      ...(scenarios.length ? [head("scenario"), ...scenarios.map((row) => line(row, row.scenario.replace("_", " and ")))] : []))));
}

function drawGold({ quality }) {
  drawQuality("gold", quality.gold, quality, quality.gold_answers
    ? `${count(quality.gold_answers)} pairs are gold; nobody has answered one yet.` : "No gold answers yet: engine quality gold makes some.");
}

function drawAgreement({ quality }) {
  drawQuality("agreement", quality.agreement, quality, "No pair has two annotators' answers yet.");
  if (quality.adjudicate) {
    byId("agreement").append(element("p", {}, element("a", { href: "/review?status=adjudicate&order=recent" },
      `${count(quality.adjudicate)} to adjudicate`)));
  }
}

async function refresh() {
  try {
    const response = await fetch("/progress/numbers", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 401) return location.assign("/sign-in?next=/progress");
    if (response.status !== 304) {
      if (!response.ok) throw new Error(`error ${response.status}`);
      tag = response.headers.get("ETag");
      const now = await response.json();
      drawTarget(now);
      drawRounds(now);
      drawDays(now);
      drawOverlap(now);
      drawSeconds(now);
      drawCounts("scenarios", now.scenarios, "reviewed pairs by scenario");
      drawCounts("conflicts", now.conflicts, "reviewed pairs by conflict", { name: "none", value: now.without_conflict });
      drawGold(now);
      drawAgreement(now);
      drawPeople(now);
    }
    byId("fresh").textContent = `up to date at ${new Date().toLocaleTimeString("en-GB")}`;
  } catch (error) {
    byId("fresh").textContent = `not up to date: ${error.message}`;
  }
  setTimeout(refresh, document.hidden ? 5 * EVERY : EVERY);
}

refresh();
