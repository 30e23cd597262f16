// One question at a time: while an answer is awaited, only the newest question waits.
//
// A question is {picture, explain}; `picture.file()` promises {blob, name}.

const LONGEST_MS = 30_000; // three times what the service gives itself

export const ADDRESS = new URL("predict", document.baseURI);

let key = ""; // kept by this page alone, and gone with it

/** Send `text` as the API key from now on. */
export function use(text) {
  key = text;
}

export class Asker {
  #told;
  #wanted = null;
  #running = null;
  #timer = 0;
  #due = 0;
  #delayMs = 0;

  /** `told(outcome, question)` is called with each outcome that nobody has dropped. */
  constructor(told) {
    this.#told = told;
  }

  /** Ask after `delayMs`, or sooner where something was to be asked sooner. */
  ask(question, delayMs) {
    this.#wanted = question;
    this.#delayMs = delayMs;
    if (!this.#running) this.#start();
  }

  /** Whether nothing newer is to be asked. */
  get idle() {
    return !this.#wanted;
  }

  /** Forget what was asked. */
  drop() {
    this.#running?.abort();
    this.#running = this.#wanted = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  #start() {
    const due = performance.now() + this.#delayMs;
    if (this.#timer && this.#due <= due) return; // sooner already
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
    this.#told(outcome, question);
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
  return { sent, ...(await send(sent, explain, abort)) };
}

async function send({ blob, name }, explain, abort) {
  const form = new FormData();
  form.append("file", blob, name);
  const timer = setTimeout(() => abort.abort(), LONGEST_MS);
  const started = performance.now();
  let response;
  try {
    response = await fetch(explain ? `${ADDRESS}?explain=true` : ADDRESS, {
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
