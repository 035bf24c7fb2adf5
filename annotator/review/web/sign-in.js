import { post } from "./common.js";

const form = document.getElementById("sign-in");
const trouble = document.getElementById("trouble");

function there() {
  const next = new URLSearchParams(location.search).get("next") ?? "";
  return /^\/(review|progress|pairs\/[\w-]+)$/.test(next) ? next : "/review";
}

async function begin(body) {
  try {
    await post("/session", body);
    location.replace(there());
  } catch (error) {
    trouble.textContent = error.message;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  begin(Object.fromEntries(new FormData(form)));
});

/** What follows the # never leaves the browser by itself, so no log has the link. */
function follow() {
  const link = location.hash.slice(1);
  if (!link) return;
  history.replaceState(null, "", location.pathname);
  begin({ link });
}

addEventListener("hashchange", follow);
form.elements.name.focus();
follow();
