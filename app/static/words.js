// Answers and errors as text: {tone, digit, headline, detail, code, again, key}. Knows nothing of the page.

/** The text of an answer. */
export function verdict({ digit, confidence, probabilities, accepted, rejection }) {
  if (accepted) {
    return { tone: "good", digit, headline: "Accepted", detail: `${sure(confidence)} sure that it is a ${digit}.` };
  }
  return { tone: "doubt", digit, headline: "Not accepted", detail: doubt(rejection, digit, confidence, probabilities) };
}

/** The text of an answer with numbers. */
export function verdictOnNumbers({ numbers }) {
  if (!numbers.length) return { tone: "doubt", headline: "No number", detail: "No digits were found." };
  const [{ text, probability, rejection, alternatives }] = numbers;
  const accepted = numbers.filter((number) => number.accepted).length;
  const tone = accepted === numbers.length ? "good" : "doubt";
  if (numbers.length > 1) {
    const headline = `${accepted === numbers.length ? "All" : accepted || "None"} of ${numbers.length} accepted`;
    return { tone, headline, detail: `The numbers are ${numbers.map((number) => number.text).join(", ")}.` };
  }
  if (accepted) return { tone, headline: "Accepted", detail: `${sure(probability)} sure that the number is ${text}.` };
  const other = alternatives.length ? ` or ${alternatives[0].text}` : "";
  return { tone, headline: "Not accepted", detail: `It may be ${text}${other}: ${why(rejection)}, and it is ${sure(probability)} sure.` };
}

/** Why a number is not accepted. */
export function why({ reason, threshold }) {
  if (reason === "not_a_number") return "there is other ink with it";
  if (reason === "touching") return "its digits cannot be told apart";
  return `${Math.round(threshold * 10_000) / 100} % is needed`;
}

/** The text of an error: what to do. `drawn`: a drawing, not a file. `keyed`: sent with an API key. */
export function trouble({ problem, retryMs, unreachable, unreadable }, drawn, keyed) {
  if (unreadable) return bad("Not a picture", "This file cannot be opened: choose another.");
  if (unreachable && !navigator.onLine) {
    return bad("Offline", "Your picture will be sent when the network is back.", "", true);
  }
  if (unreachable) return bad("No answer", "The service cannot be reached. It may have stopped.", "", true);
  const code = `${problem.status} ${problem.code ?? ""}`;
  switch (problem.code) {
    case "no_ink":
      return drawn
        ? { tone: "idle", headline: "Too little to read", detail: "Keep drawing.", code }
        : bad("Blank", "Nothing on the picture stands out from its background.", code);
    case "too_large":
      return bad("Too large", "The service does not accept pictures this large: scale it down.", code);
    case "unsupported_media_type":
      return bad("Not a picture", "The service reads PNG, JPEG, WebP, HEIC, AVIF, BMP, TIFF and GIF.", code);
    case "undecodable_image":
      return bad("Broken picture", "The file is damaged: save the picture again.", code);
    case "unauthorized":
      return { ...bad(keyed ? "Wrong key" : "Key needed", "This service needs an API key.", code), key: true };
    case "rate_limited":
      return bad("Quota used up", `Your picture will be sent again in ${retryMs / 1000} s.`, code, !retryMs);
    case "not_ready":
      return bad("Not ready yet", "The model is loading. Your picture will be sent again in a moment.", code, !retryMs);
    case "overloaded":
      return bad("Busy", "Too many requests are waiting. Your picture will be sent again in a moment.", code, !retryMs);
    case "deadline_exceeded":
      return bad("Too slow", "The service did not answer in time.", code, true);
    case "internal_error":
      return bad("The service failed", `Report it with the request id ${problem.request_id}.`, code, true);
    default:
      return bad("Refused", problem.detail ?? "The service or its proxy sent an invalid answer.", code, true);
  }
}

/** A probability for its bar; 100 % only if it is 1. */
export function percent(probability) {
  return `${(probability < 1 ? Math.min(probability * 100, 99.9) : 100).toFixed(1)} %`;
}

/** The POSIX shell command that sends the file `name` to `address`. An API key is taken from a variable. */
export function curl(name, address, keyed) {
  const plain = /^[\w.+-]+$/.test(name);
  // curl gives ; and , in a file name a meaning unless the name is in double quotes, which may be escaped
  const file = plain ? name : `"${name.replace(/["\\]/g, "\\$&")}"`;
  const header = keyed ? '-H "X-API-Key: $DIGITS_KEY" ' : "";
  return `curl ${header}-F ${plain ? `file=@${file}` : shell(`file=@${file}`)} ${shell(address)}`;
}

const bad = (headline, detail, code = "", again = false) => ({ tone: "bad", headline, detail, code, again });

const shell = (text) => (/^[\w.+:/@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function sure(confidence) {
  const shown = Math.floor(confidence * 10_000) / 100; // 99.996 is not 100
  return confidence < 1 && shown >= 99.99 ? "More than 99.99 %" : `${shown} %`;
}

function doubt({ reason, score, threshold }, digit, confidence, probabilities) {
  if (reason === "several_digits") return `There are ${score} digits side by side: send one at a time, or switch to Number.`;
  if (reason === "not_a_digit") return `This does not look like a digit. The closest is ${digit}.`;
  const others = probabilities.map((_, other) => other).filter((other) => other !== digit);
  const second = others.reduce((best, other) => (probabilities[other] > probabilities[best] ? other : best));
  return `It may be a ${digit} or a ${second}: ${sure(confidence)} sure, and ${threshold * 100} % is needed.`;
}
