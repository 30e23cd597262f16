// The page: sends pictures from the drawing sheet, a file, the clipboard or a camera to the service.

import { address, Asker, use } from "./asking.js";
import { showBars, showBoxes, showInsight, showNumbers, showTiming, showWords } from "./answer.js";
import { listen, png, show, sizeOf } from "./sheet.js";
import { curl, trouble, verdict, verdictOnNumbers } from "./words.js";

const DRAWING_MS = 60; // from a change of the drawing to the request
const EXPLAINING_MS = 250; // an explanation costs as much as 80 answers: wait for a pause
const SPEAKING_MS = 600; // an answer that stays this long is announced to screen readers
const pngName = (wide) => (wide ? "number.png" : "digit.png");
const NO_PICTURE = { tone: "bad", headline: "No picture", detail: "This is not a picture file." };
const nothing = (wide) => ({
  tone: "idle",
  headline: "Nothing drawn yet",
  detail: `Draw a ${wide ? "number" : "digit from 0 to 9"}, or send a picture.`,
});

const at = (id) => document.getElementById(id);
const [sheet, canvas, preview] = ["sheet", "canvas", "preview"].map(at);

// The history, newest last: {strokes, wide, file()}, and {url, name, kept} for a file. `wide`: for numbers.
const pictures = [drawing([], false)];
const asker = new Asker(showOutcome);
let pen = null; // the keyboard's pen, while the sheet has the focus
let download = null; // URL of the file that the curl line sends
let speaking = 0;
let keyed = false; // whether requests have an API key

function drawing(strokes, wide) {
  return { strokes, wide, file: async () => ({ blob: await png(strokes, wide), name: pngName(wide) }) };
}

/** `kept`: the user has the file under this name. */
function filed(blob, kept, wide) {
  const { name } = blob;
  const file = async () => {
    await blob.slice(0, 1).arrayBuffer(); // fails for a folder or a deleted file
    return { blob, name };
  };
  return { strokes: [], wide, url: URL.createObjectURL(blob), name, kept, file };
}

const current = () => pictures.at(-1);
const isBlank = (picture) => !picture.url && !picture.strokes.length;

/** Another picture is the newest one. */
function changed() {
  asker.drop();
  refresh();
  if (isBlank(current())) forget(nothing(current().wide));
  else ask(current(), 0);
}

/** Read numbers, or one digit. A file is read again; a drawing makes room for an empty sheet. */
function widen(wide) {
  strokes.lift();
  if (current().url) pictures[pictures.length - 1] = { ...current(), wide };
  else if (isBlank(current())) pictures[pictures.length - 1] = drawing([], wide);
  else pictures.push(drawing([], wide));
  forget(nothing(wide));
  changed();
}

function forget(words) {
  showWords(words);
  showBars(null);
  showInsight(null);
  showNumbers([]);
  showBoxes([]);
  showTiming();
  offerNothing();
}

function takeFirst([file], kept) {
  if (!file) {
    showWords(NO_PICTURE);
    speak(NO_PICTURE);
    return;
  }
  strokes.lift();
  pictures.push(filed(file, kept, current().wide));
  changed();
}

function undo() {
  strokes.lift();
  if (pictures.length === 1) return;
  const { url } = pictures.pop();
  if (url) URL.revokeObjectURL(url);
  changed();
}

function clear() {
  strokes.lift();
  if (isBlank(current())) return;
  pictures.push(drawing([], current().wide));
  changed();
}

/** A stroke has grown. Answers to earlier requests are still shown, so that the bars move. */
function redrawn() {
  clearTimeout(speaking);
  ask(current(), DRAWING_MS);
  refresh();
}

function refresh() {
  const picture = current();
  const { wide } = picture;
  at("main").classList.toggle("wide", wide);
  at(wide ? "number" : "one").checked = true;
  at("what").textContent = wide ? "number" : "digit";
  canvas.setAttribute("aria-label", `Draw a ${at("what").textContent}`);
  show(canvas, picture.strokes, pen);
  at("hint").hidden = !isBlank(picture);
  at("file").hidden = !picture.url;
  if (picture.url && preview.src !== picture.url) {
    preview.hidden = false;
    preview.src = picture.url;
    preview.alt = at("file-name").textContent = picture.name;
    showBoxes([]);
  }
  if (!picture.url) preview.removeAttribute("src");
  at("undo").setAttribute("aria-disabled", pictures.length === 1);
  at("clear").setAttribute("aria-disabled", isBlank(picture));
}

const ask = (picture, delayMs) => asker.ask({ picture, explain: false }, delayMs);

function showOutcome(outcome, question) {
  const { picture } = question;
  const { answer, retryMs } = outcome;
  if (question.explain) {
    showInsight(answer?.explanation, answer?.digit);
    if (answer && picture.url) frame(picture, [answer.explanation.ink_box]);
  } else {
    const judge = picture.wide ? verdictOnNumbers : verdict;
    const words = answer ? judge(answer) : trouble(outcome, !picture.url, keyed);
    if (answer) showWords(words);
    if (answer && picture.wide) {
      showNumbers(answer.numbers);
      const digits = answer.numbers.flatMap((number) => number.digits);
      frame(picture, digits.map(({ box, confidence }) => ({ ...box, label: `${Math.floor(confidence * 100)} %` })));
    } else if (answer) {
      showBars(answer.probabilities);
    } else {
      forget(words);
    }
    showTiming(outcome.ms);
    if (words.key) at("card").hidden = true; // a link cannot send the key
    if (outcome.sent) offer(outcome.sent, picture);
    speak(words);
  }
  if (!asker.idle) return;
  if (retryMs) asker.ask(question, retryMs);
  else if (answer && !question.explain && !picture.wide) asker.ask({ picture, explain: true }, EXPLAINING_MS);
}

/** Frame the digits that were found. */
async function frame(picture, boxes) {
  try {
    if (picture.url) await preview.decode();
  } catch {
    return; // a format that the service reads and the browser does not, such as TIFF
  }
  if (picture.url && picture !== current()) return;
  showBoxes(boxes, picture.url ? [preview.naturalWidth, preview.naturalHeight] : sizeOf(picture.wide));
}

/** Show the curl line of the request, with the file as a download if the user does not have it. */
function offer({ blob, name }, { kept, url, wide }) {
  at("curl").textContent = curl(name, address(wide), keyed);
  at("curl-note").textContent = kept
    ? "Run it in the folder that holds the file."
    : `It sends your ${url ? "picture" : "drawing"}:`;
  at("download").hidden = kept;
  URL.revokeObjectURL(download);
  download = URL.createObjectURL(blob);
  Object.assign(at("download"), { href: download, download: name, textContent: `download ${name}` });
}

function offerNothing() {
  const { wide } = current();
  at("curl").textContent = curl(pngName(wide), address(wide), keyed);
  at("curl-note").textContent = "It sends a picture.";
  at("download").hidden = true;
}

function speak({ headline, detail }) {
  clearTimeout(speaking);
  speaking = setTimeout(() => say(`${headline}: ${detail}`), SPEAKING_MS);
}

function say(text) {
  if (at("spoken").textContent !== text) at("spoken").textContent = text;
}

const strokes = listen(canvas, {
  begin(stroke) {
    const before = current();
    if (before.url) asker.drop();
    pictures.push(drawing([...before.strokes, stroke], before.wide));
    redrawn();
  },
  extend: redrawn,
  abandon: undo,
  pen(moved) {
    if (moved && (pen?.down ?? false) !== moved.down) say(moved.down ? "Pen down" : "Pen lifted");
    pen = moved && { ...moved };
    refresh();
  },
});

at("undo").addEventListener("click", undo);
at("clear").addEventListener("click", clear);
for (const id of ["one", "number"]) at(id).addEventListener("change", () => widen(id === "number"));
at("again").addEventListener("click", changed);
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  use(at("key").value);
  keyed = true;
  changed();
});
for (const id of ["choose", "camera"]) {
  at(id).addEventListener("change", ({ target }) => {
    if (target.files.length) takeFirst(target.files, id === "choose");
    target.value = ""; // so that choosing the same file again is a change
  });
}
at("copy").addEventListener("click", async () => {
  const selection = getSelection();
  selection.selectAllChildren(at("curl"));
  try {
    await navigator.clipboard.writeText(at("curl").textContent);
  } catch {
    document.execCommand("copy"); // without TLS there is no clipboard API
  }
  at("copy").textContent = "Copied";
  say("Copied");
  setTimeout(() => (at("copy").textContent = "Copy"), 2000);
});

document.addEventListener("keydown", (event) => {
  if (event.target === at("key")) return; // it has its own undo
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z") {
    event.preventDefault();
    undo();
  }
});
document.addEventListener("paste", ({ target, clipboardData }) => {
  if (target === at("key") && !clipboardData.files.length) return; // a key
  takeFirst(clipboardData.files, false);
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    sheet.classList.add("dropping");
  });
}
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) sheet.classList.remove("dropping"); // left the window
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  sheet.classList.remove("dropping");
  takeFirst(event.dataTransfer.files, true);
});

preview.addEventListener("error", () => (preview.hidden = true)); // its name is shown instead
new ResizeObserver(refresh).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
addEventListener("online", () => {
  if (!isBlank(current()) && !at("again").hidden) changed();
});

forget(nothing(false));
refresh();
