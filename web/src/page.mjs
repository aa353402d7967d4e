// What is seen: the form, the progress, and the candidates while they come. The work is the worker's.

const byId = (id) => document.getElementById(id);
const all = byId("all");
const form = byId("form");
const worker = new Worker(`worker.mjs${location.search}`, { type: "module" });

let prompt = "";
let started = 0;
let told = "";

worker.onmessage = ({ data: message }) => {
  const [[kind, value]] = Object.entries(message);
  ({ progress, ready, prompt: begun, block, done, error })[kind](value);
};
worker.onerror = (event) => error(event.message || "the worker cannot be loaded");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const settings = settingsOf(new FormData(form));
  form.elements.seed.value = settings.seed;
  prompt = byId("prompt").value;
  started = performance.now();
  byId("candidates").replaceChildren();
  running(true);
  tell("Generating");
  worker.postMessage({ prompt, settings });
});
byId("stop").addEventListener("click", () => worker.postMessage({ stop: true }));

function settingsOf(data) {
  const settings = Object.fromEntries([...data].map(([name, value]) => [name, Number(value)]));
  return { ...settings, seed: data.get("seed") || freshSeed(), endOfText: byId("end-of-text").checked };
}

function freshSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

function progress({ name, loaded, total }) {
  byId("progress").value = loaded / total;
  byId("loaded").textContent = `${name}: ${megabytes(loaded)} of ${megabytes(total)} MB`;
}

function ready({ source, precision, n_positions, vocab_size, text, ends, threads }) {
  const facts = [`${n_positions} positions`, `${vocab_size} tokens`, `${threads} thread${threads > 1 ? "s" : ""}`];
  byId("model").textContent = `${source} in ${precision}: ${facts.join(", ")}. It runs in this tab; nothing leaves it.`;
  document.title = `${source} in ${precision}`;
  byId("loading").hidden = true;
  if (!text) byId("prompt-label").textContent = "Prompt, as token ids such as 464, 3139";
  form.elements.max_new_tokens.max = n_positions - 1;
  form.elements.top_k.max = vocab_size;
  form.elements.top_k.value = Math.min(50, vocab_size);
  byId("end-of-text").disabled = !ends;
  byId("end-of-text").checked = ends;
  all.disabled = false;
  tell("Ready");
}

function begun(tokens) {
  told = `${tokens} token${tokens > 1 ? "s" : ""} of prompt`;
}

function block(rows) {
  const cards = byId("candidates");
  while (cards.children.length < rows.length) cards.append(card(cards.children.length + 1));
  rows.forEach((row, index) => fill(cards.children[index], row));
  const tokens = rows.reduce((sum, row) => sum + row.ids.length, 0);
  const seconds = (performance.now() - started) / 1000;
  tell(`${told}, ${tokens} new in ${seconds.toFixed(1)} s (${(tokens / seconds).toFixed(1)} a second)`);
}

function done({ stopped }) {
  running(false);
  if (stopped) tell(`${byId("status").textContent}; stopped`);
  const best = [...byId("candidates").children].sort((one, other) => other.dataset.raw - one.dataset.raw)[0];
  if (best?.parentElement.children.length > 1) best.classList.add("best");
}

function error(message) {
  running(false);
  byId("loading").hidden = true;
  tell(`Error: ${message}`, true);
}

function running(is) {
  byId("generate").disabled = is;
  byId("stop").disabled = !is;
}

function tell(text, bad = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", bad);
}

function card(number) {
  const article = byId("candidate").content.cloneNode(true).firstElementChild;
  article.querySelector("h2").textContent = `Candidate ${number}`;
  if (byId("prompt-label").textContent === "Prompt") article.querySelector(".prompt").textContent = prompt;
  return article;
}

function fill(article, { ids, text, pieces, logprobs, raw_logprobs }) {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  article.querySelector(".new").textContent = text;
  article.querySelector(".drawn").textContent = signed(sum(logprobs));
  article.querySelector(".raw").textContent = signed(sum(raw_logprobs));
  article.querySelector(".mean").textContent = `${signed(sum(raw_logprobs) / ids.length)}, ${ids.length} tokens`;
  article.dataset.raw = sum(raw_logprobs);
  const body = article.querySelector("tbody");
  for (let index = body.rows.length; index < ids.length; index++) {
    const row = body.insertRow();
    const piece = JSON.stringify(pieces[index]).slice(1, -1);
    for (const value of [ids[index], piece, signed(logprobs[index]), signed(raw_logprobs[index])]) {
      row.insertCell().textContent = value;
    }
  }
}

function signed(value) {
  return value.toFixed(4).replace("-", "\u2212");
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}
