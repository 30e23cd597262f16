// Sends pictures to the service: node examples/predict.mjs FILE...
// Needs Node 18 or later. `predict` runs in a browser too: give it the File of an <input type="file">, and "" as the
// url. The page must come from the service's own address, or from one that DIGITS_CORS_ORIGINS names.

/** The service's answer to a Blob. Throws an Error that says what is wrong. */
export async function predict(picture, url = "http://localhost:8000") {
  const form = new FormData();
  form.append("file", picture, picture.name ?? "picture");
  const response = await fetch(`${url.replace(/\/$/, "")}/predict`, { method: "POST", body: form });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

if (globalThis.process?.argv[1]?.endsWith("predict.mjs")) {
  const { readFile } = await import("node:fs/promises");
  for (const name of process.argv.slice(2)) {
    try {
      const { digit, accepted, rejection } = await predict(new Blob([await readFile(name)]), process.env.DIGITS_URL);
      console.log(`${name}: ${digit}${accepted ? "" : ` (not accepted: ${rejection.reason})`}`);
    } catch (error) {
      console.error([name, error.message, error.cause?.code ?? error.cause?.message].filter(Boolean).join(": "));
      process.exitCode = 1;
    }
  }
}
