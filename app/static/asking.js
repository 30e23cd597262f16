// One request at a time: while it runs, only the newest question waits.
//
// A question is {picture, explain}; `picture.file()` is a promise of {blob, name}, `picture.wide`: it holds numbers.

const LONGEST_MS = 30_000; // three times the service's own timeout

export const address = (wide) => new URL(wide ? "read" : "predict", document.baseURI).href;

let key = ""; // only in memory, never stored

/** Send `text` as the API key from now on. */
export function use(text) {
  key = text;
}

export class Asker {
  #onOutcome;
  #wanted = null;
  #running = null;
  #timer = 0;
  #due = 0;
  #delayMs = 0;

  /** `onOutcome(outcome, question)` is called with each outcome, unless it was dropped. */
  constructor(onOutcome) {
    this.#onOutcome = onOutcome;
  }

  /** Send after `delayMs`, or sooner if an earlier question was due sooner. */
  ask(question, delayMs) {
    this.#wanted = question;
    this.#delayMs = delayMs;
    if (!this.#running) this.#start();
  }

  /** Whether no newer question waits. */
  get idle() {
    return !this.#wanted;
  }

  /** Cancel the request and the waiting question. */
  drop() {
    this.#running?.abort();
    this.#running = this.#wanted = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  #start() {
    const due = performance.now() + this.#delayMs;
    if (this.#timer && this.#due <= due) return; // already due sooner
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#go(), this.#delayMs);
  }

  async #go() {
    const question = this.#wanted;
    const abort = new AbortController();
    this.#wanted = null;
    this.#timer = 0;
    this.#running = abort;
    const outcome = await outcomeOf(question, abort);
    if (this.#running !== abort) return; // dropped
    this.#running = null;
    if (this.#wanted) this.#start();
    this.#onOutcome(outcome, question);
  }
}

/** {answer, ms}, {problem, ms, retryMs} or {unreachable}, each with the file that was `sent`; or {unreadable}. */
async function outcomeOf({ picture, explain }, abort) {
  let sent;
  try {
    sent = await picture.file();
  } catch {
    return { unreadable: true };
  }
  return { sent, ...(await send(sent, address(picture.wide) + (explain ? "?explain=true" : ""), abort)) };
}

async function send({ blob, name }, to, abort) {
  const form = new FormData();
  form.append("file", blob, name);
  const timer = setTimeout(() => abort.abort(), LONGEST_MS);
  const started = performance.now();
  let response;
  try {
    response = await fetch(to, {
      method: "POST",
      headers: key ? { "X-API-Key": key } : {},
      body: form,
      signal: abort.signal,
    });
    const body = await response.json();
    const ms = performance.now() - started;
    if (response.ok) return { answer: body, ms };
    return { problem: body, ms, retryMs: Number(response.headers.get("Retry-After")) * 1000 };
  } catch {
    return response ? { problem: { status: response.status } } : { unreachable: true };
  } finally {
    clearTimeout(timer);
  }
}
