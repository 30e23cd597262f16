// The right side of the page: the answer or the error. Knows nothing of requests.

import { percent, why } from "./words.js";

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

/** Show a line for each number, with its digits and its other readings. */
export function showNumbers(numbers) {
  const lines = numbers.map(({ text, probability, rejection, digits, alternatives }) => {
    const line = document.createElement("li");
    line.className = rejection ? "doubt" : "good";
    const listed = (pairs) => pairs.map(([of, share]) => `${of} (${percent(share)})`).join(", ");
    const others = listed(alternatives.map((other) => [other.text, other.probability]));
    const texts = {
      strong: text,
      span: `${percent(probability)}, ${rejection ? `not accepted: ${why(rejection)}` : "accepted"}`,
      small: `Digit by digit: ${listed(digits.map((each) => [each.digit, each.confidence]))}`,
    };
    for (const name in texts) line.appendChild(document.createElement(name)).textContent = texts[name];
    if (others) line.appendChild(document.createElement("small")).textContent = `Or: ${others}`;
    return line;
  });
  at("numbers").replaceChildren(...lines);
}

/** Frame boxes {x, y, width, height, label}, in pixels of a picture of this size, or none. Labels need some room. */
export function showBoxes(boxes, size) {
  const svg = at("found");
  svg.toggleAttribute("hidden", !boxes.length);
  if (size) svg.setAttribute("viewBox", `0 0 ${size.join(" ")}`);
  const { clientWidth, clientHeight } = svg.parentElement;
  const pixel = size && Math.max(size[0] / clientWidth, size[1] / clientHeight); // of the screen
  const add = (name, attributes) => {
    const element = svg.appendChild(document.createElementNS(svg.namespaceURI, name));
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    return element;
  };
  svg.replaceChildren();
  for (const { x, y, width, height, label } of boxes) {
    add("rect", { x, y, width, height, rx: 2 });
    if (!label || width < 14 * pixel) continue;
    const px = Math.min(width / 2.2, 16 * pixel);
    add("text", { x: x + width / 2, y: y > 1.4 * px ? y - px / 3 : y + height + px, "font-size": px }).textContent = label;
  }
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
