// The right side of the page: the answer or the error. Knows nothing of requests.

import { percent } from "./words.js";

const at = (id) => document.getElementById(id);
const PICTURES = ["seen", "seen-faintly", "saliency"];

const bars = Array.from({ length: 10 }, (_, digit) => {
  const row = at("bars").insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = digit;
  const [bar, track, fill, value] = ["bar", "track", "fill", "value"].map((name) => {
    const span = document.createElement("span");
    span.className = name;
    return span;
  });
  track.append(fill);
  bar.append(track, value);
  row.append(head);
  row.insertCell().append(bar);
  return { row, fill, value };
});

/** Show a text of `words.js`. */
export function showWords({ tone, digit, headline, detail, code, again, key }) {
  at("verdict").dataset.tone = tone;
  at("digit").textContent = digit ?? "";
  at("headline").textContent = headline;
  at("detail").textContent = detail;
  at("code").textContent = code ?? "";
  at("code").hidden = !code;
  at("again").hidden = !again;
  at("key-form").hidden = !key;
}

/** Show ten probabilities, or none (null). */
export function showBars(probabilities) {
  const highest = probabilities && Math.max(...probabilities);
  bars.forEach(({ row, fill, value }, digit) => {
    const probability = probabilities?.[digit] ?? 0;
    row.classList.toggle("best", probabilities !== null && probability === highest);
    fill.style.transform = `translateX(${(probability - 1) * 100}%)`;
    value.textContent = probabilities ? percent(probability) : "–";
  });
}

/** Show the explanation of an answer, or none (null). */
export function showInsight(explanation, digit) {
  const saw = explanation?.input_png;
  const sources = [saw, saw, explanation?.saliency_png];
  PICTURES.forEach((id, i) => {
    const picture = at(id);
    picture.hidden = !explanation;
    if (explanation) picture.src = `data:image/png;base64,${sources[i]}`;
    else picture.removeAttribute("src");
  });
  at("seen").alt = explanation ? "Your digit, centred on 28 by 28 pixels, light on dark." : "";
  at("saliency").alt = explanation ? `The parts that make it a ${digit}.` : "";
}

/** Show the round-trip time, if there was one. */
export function showTiming(ms) {
  at("timing").textContent = ms === undefined ? "" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms round trip`;
}
