/**
 * Clicks on their way to the service.
 *
 * A click is kept in the browser before it is shown as done, and leaves it when the service has
 * answered for it: neither a lost connection nor a closed window loses one. Each has an id of its own,
 * so that one that is sent twice counts once. They are sent in the order in which they were made.
 */

const PREFIX = "refstar-click:";
const MOST = 20;
const FIRST_WAIT = 40; // the screen comes first
const LONGEST_WAIT = 15_000;
const OLDEST = 30 * 24 * 3600; // the service takes no greater age, and a refusal would hold all others up

export class Outbox {
  /**
   * @param {string} who whose clicks are sent; those of others wait for them
   * @param {(clicks: object[]) => Promise<{results: object[]}>} send
   * @param {{changed: (count: number, trouble: string) => void, answered: (result: object) => void}} tell
   */
  constructor(who, send, tell) {
    this.who = who;
    this.send = send;
    this.tell = tell;
    const kept = stored();
    this.waiting = kept.filter((click) => click.who === who);
    /** Names of others whose clicks wait in this browser until they sign in again. */
    this.others = [...new Set(kept.map((click) => click.who))].filter((name) => name !== who);
    this.sending = false;
    this.failures = 0;
    this.timer = 0;
    this.last = 0;
    this.trouble = "";
    addEventListener("online", () => this.hurry());
    addEventListener("beforeunload", (event) => {
      const old = this.waiting.some((click) => Date.now() - click.at > 1500);
      if (old) event.preventDefault();
    });
  }

  get count() {
    return this.waiting.length;
  }

  /** Keep a click and send it as soon as the page has shown it. */
  add(click) {
    this.last = Math.max(this.last + 0.001, Date.now());
    const kept = { ...click, who: this.who, at: this.last };
    this.waiting.push(kept);
    try {
      localStorage.setItem(PREFIX + kept.click, JSON.stringify(kept));
    } catch {
      this.trouble = "this browser keeps nothing: leave the page open until all is saved";
    }
    this.tell.changed(this.count, this.trouble);
    if (!this.timer) this.timer = setTimeout(() => this.pump(), FIRST_WAIT);
  }

  hurry() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.pump();
  }

  async pump() {
    this.timer = 0;
    if (this.sending || !this.waiting.length) return;
    this.sending = true;
    const batch = this.waiting.slice(0, MOST);
    try {
      const { results } = await this.send(batch.map(outgoing));
      for (const result of results) this.done(result);
      this.failures = 0;
      this.trouble = "";
    } catch (error) {
      this.failures += 1;
      this.trouble = error.message;
      if (error.status === 401) this.trouble = "sign in again to save";
      if (error.status === 403) this.trouble = "load the page again to save";
    }
    this.sending = false;
    this.tell.changed(this.count, this.trouble);
    if (this.waiting.length && !this.timer) {
      const wait = this.failures ? Math.min(LONGEST_WAIT, 500 * 2 ** this.failures) : 0;
      this.timer = setTimeout(() => this.pump(), wait);
    }
  }

  done(result) {
    this.waiting = this.waiting.filter((click) => click.click !== result.click);
    try {
      localStorage.removeItem(PREFIX + result.click);
    } catch {
      // then it was never kept either
    }
    this.tell.answered(result);
  }
}

/** What earlier pages could not send, in the order in which it was made. */
function stored() {
  const found = [];
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(PREFIX)) found.push(JSON.parse(localStorage.getItem(key)));
    }
  } catch {
    // a browser that keeps nothing has nothing to send
  }
  return found.sort((one, other) => one.at - other.at);
}

function outgoing({ who, at, ...click }) {
  return { ...click, age: Math.min(OLDEST, Math.max(0, (Date.now() - at) / 1000)) };
}
