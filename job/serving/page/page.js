"use strict";
const SHOWN = 10;
const $ = (id) => document.getElementById(id);
let model = null, asking = null;

function show(id, text) { $(id).textContent = text; $(id).hidden = !text; }

function state(text, spoken = false) { show("state", text); $("state").className = spoken ? "spoken" : "quiet"; }

function percent(share) {
  if (share > 0 && share < 0.0005) return "below 0.1 %";
  if (share > 0.9995 && share < 1) return "above 99.9 %";
  return (100 * share).toFixed(1) + " %";
}

function fail(sentence) {
  $("title").textContent = "Answer";
  state(""); show("others", ""); $("answer").hidden = true;
  show("wrong", sentence);
}

function tell(answer) {
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const rows = ranked.slice(0, SHOWN).map(([name, share]) => {
    const row = document.createElement("li"), label = document.createElement("span");
    const number = document.createElement("span"), track = document.createElement("div"), bar = document.createElement("div");
    label.textContent = name; number.textContent = percent(share);
    track.className = "track"; bar.className = "bar"; bar.style.width = 100 * share + "%";
    track.append(bar); row.append(label, number, track);
    return row;
  });
  $("answer").replaceChildren(...rows);
  $("answer").hidden = false;
  show("wrong", "");
  $("title").textContent = "Answer: " + answer.class;
  state("Most probable: " + answer.class + ", " + percent(answer.probabilities[answer.class]), true);
  const rest = ranked.slice(SHOWN);
  show("others", rest.length ? rest.length + " other classes, " + percent(rest.reduce((sum, [, share]) => sum + share, 0)) + " together" : "");
}

async function ask(content) {
  if (asking) asking.abort();
  const mine = asking = new AbortController();
  if (content.size === 0) return fail("This file is empty.");
  if (content.size > model.max_bytes) return fail("This is larger than " + model.max_bytes + " bytes.");
  state("Asking…"); show("wrong", "");
  try {
    const reply = await fetch("predict", {method: "POST", body: content, signal: mine.signal});
    const answer = await reply.json();
    if (mine === asking) answer.error ? fail(answer.error) : tell(answer);
  } catch (error) {
    if (error.name !== "AbortError" && mine === asking) fail("The server did not answer: is `thaw serve` still running?");
  }
}

function take(file) {
  if (!file || !model || model.task !== "image") return;
  const preview = $("preview");
  URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  preview.onload = () => { preview.hidden = false; };
  preview.alt = "The picture that was asked about: " + (file.name || "pasted");
  preview.src = URL.createObjectURL(file);
  ask(file);
}

function askText() { if (model && $("text").reportValidity()) ask(new Blob([$("words").value])); }

$("file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
$("text").addEventListener("submit", (event) => { event.preventDefault(); askText(); });
$("words").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) askText(); });
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!model || model.task !== "image") return;
    event.preventDefault();
    document.body.classList.toggle("over", kind.startsWith("drage") || kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}

fetch("model").then((reply) => reply.json()).then((found) => {
  model = found;
  $(model.task).hidden = false;
  show("about", "One of " + model.classes.length + " classes, with its probability. Nothing leaves this server.");
  show("model", "Model: " + model.model);
}, () => fail("The server did not answer: is `thaw serve` still running?"));
