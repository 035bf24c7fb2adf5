/** What all pages share: requests that carry the page's token, and making elements. */

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

export const reviewer = meta("reviewer");
export const openHere = meta("open-here") === "yes";

/** An answer that is no success; `status` 0 stands for no answer at all. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Refused(0, "the service does not answer");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    const why = typeof body.detail === "string" ? body.detail : `error ${response.status}`;
    throw new Refused(response.status, why);
  }
  return response.json();
}

export const get = (path) => answer(path, {});

export const post = (path, body) =>
  answer(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Refstar-Page": meta("page-token") },
    body: JSON.stringify(body),
    keepalive: true,
  });

/** A number that no other click has: crypto.randomUUID is missing on plain http. */
export function clickId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An element with attributes and children; text is never read as markup. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const number = (value, digits = 2) =>
  value === null || value === undefined ? "–" : value.toFixed(digits);

document.getElementById("sign-out")?.addEventListener("click", async () => {
  await post("/session/end", {});
  location.assign(openHere ? "/review" : "/sign-in");
});
