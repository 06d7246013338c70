"use strict";

// Texts of rows are anybody's: they become text nodes and nothing else.

const find = (id) => document.getElementById(id);
const ROLES = { system: "System", user: "User", assistant: "Assistant" };
const SAID = { 1: "answer 1 is better", 0: "both are about equal", 2: "answer 2 is better", skip: "skipped" };
const KEPT_NAME = "judgelm-label-name";

let open = false; // everybody may label, under a name
let name = "";
let shown = null; // the row on the page
let progress = null;
let given = []; // rows that this tab said something of, the newest last
let busy = false;

function say(text, wrong = false) {
  const status = find("status");
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

function credentials() {
  return open ? "Name " + encodeURIComponent(name) : "Bearer " + location.hash.slice(1);
}

// An answer of the server; throws an Error with words for the person.
async function ask(path, body) {
  const settings = { headers: { Authorization: credentials() }, cache: "no-store", credentials: "omit" };
  if (body !== undefined) {
    settings.method = "POST";
    settings.headers["Content-Type"] = "application/json";
    settings.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, settings);
  } catch {
    throw new Error("the server does not answer");
  }
  const content = await answer.json().catch(() => null);
  if (answer.ok && content) return content;
  throw new Error((content && content.error && content.error.message) || "the server failed (" + answer.status + ")");
}

function put(place, parts) {
  place.replaceChildren();
  place.dir = "auto";
  for (const part of parts) {
    place.append(part.text);
    if (!part.image) continue;
    if (part.image.startsWith("data:")) {
      const image = document.createElement("img");
      image.src = part.image;
      image.alt = "";
      place.append(image);
    } else {
      const link = document.createElement("a");
      link.href = part.image;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
      link.textContent = "open this image";
      place.append(" ", link);
    }
  }
}

function line(text) {
  const made = document.createElement("p");
  made.className = "role";
  made.textContent = text;
  return made;
}

function putTurns(place, turns) {
  place.replaceChildren();
  for (const turn of turns) {
    const box = document.createElement("div");
    const text = document.createElement("div");
    box.className = "turn";
    text.className = "text";
    put(text, turn.parts);
    box.append(line(ROLES[turn.role] || turn.role), text);
    place.append(box);
  }
}

function showRow(row) {
  shown = row;
  find("row").hidden = find("choices").hidden = !row;
  find("end").hidden = Boolean(row);
  if (!row) return;
  putTurns(find("dialogue"), row.dialogue);
  find("reference").hidden = !row.reference;
  put(find("reference").querySelector(".text"), row.reference || []);
  document.querySelectorAll(".answer").forEach((box, place) => {
    const talk = box.querySelector(".talk");
    putTurns(talk, row.answers[place].turns);
    if (row.answers[place].turns.length) talk.append(line("Assistant, the last reply"));
    put(box.querySelector(":scope > .text"), row.answers[place].parts);
  });
  find("reason").value = row.reason;
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.choice === String(row.choice)));
  }
}

function show(answer) {
  progress = answer.progress;
  const skipped = progress.skipped ? ", " + progress.skipped + " of them skipped" : "";
  find("who").textContent = progress.name;
  find("leave").hidden = !open;
  find("join").hidden = true;
  find("count").hidden = find("ways").hidden = false;
  find("bar").max = progress.total;
  find("bar").value = progress.done;
  find("progress").textContent = progress.done + " of " + progress.total + " done" + skipped;
  find("skipped").hidden = !progress.skipped;
  find("skipped").textContent = "Look at the skipped ones again (" + progress.skipped + ")";
  const another = !shown || !answer.row || answer.row.row !== shown.row;
  showRow(answer.row);
  if (another) {
    // a reader of the screen begins at the top, as the eye does
    scrollTo(0, 0);
    find("title").focus({ preventScroll: true });
  }
}

// One thing at a time: a key that is pressed meanwhile is not heard, so that no row is labelled unread.
async function once(work, failed) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(failed + error.message, true);
  } finally {
    busy = false;
  }
}

function choose(choice) {
  if (!shown) return;
  const row = shown.row;
  const reason = find("reason").value;
  once(async () => {
    say("saving …");
    show(await ask("api/vote", { row, choice, reason }));
    given.push(row);
    say("Saved: " + SAID[choice] + ".");
  }, "Not saved, try again: ");
}

function undo() {
  const row = given[given.length - 1] || (progress && progress.last);
  if (!row) return say("Nothing to undo.");
  once(async () => {
    show(await ask("api/vote", { row, choice: null }));
    given = given.filter((each) => each !== row);
    say("Taken back. What do you say of this one?");
  }, "Not taken back, try again: ");
}

function look(query, none) {
  once(async () => {
    const answer = await ask("api/row" + query);
    if (!answer.row && none) return say(none);
    show(answer);
    say(answer.row && answer.row.choice !== null ? "You said: " + SAID[answer.row.choice] + "." : "");
  }, "This could not be shown: ");
}

function step(steps) {
  if (shown) look("?row=" + shown.row + "&steps=" + steps, steps < 0 ? "This is your first row." : "This is your last row.");
  else if (steps < 0 && progress && progress.last) look("?row=" + progress.last);
}

function join() {
  open_form(false);
  look("");
}

function open_form(asked) {
  find("join").hidden = !asked;
  if (!asked) return;
  for (const id of ["row", "choices", "ways", "count", "end", "leave"]) find(id).hidden = true;
  find("who").textContent = "";
  shown = progress = null;
  given = [];
  find("name").focus();
}

const KEYS = {
  1: () => choose(1),
  0: () => choose(0),
  2: () => choose(2),
  s: () => choose("skip"),
  u: undo,
  n: () => look(""),
  r: () => find("reason").focus(),
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || find("ways").hidden) return;
  event.preventDefault();
  // a key that is held is one choice
  if (!event.repeat) act();
});

for (const button of document.querySelectorAll("[data-choice]")) {
  const choice = button.dataset.choice === "skip" ? "skip" : Number(button.dataset.choice);
  button.addEventListener("click", () => choose(choice));
}
find("undo").addEventListener("click", undo);
find("back").addEventListener("click", () => step(-1));
find("forth").addEventListener("click", () => step(1));
find("open").addEventListener("click", () => look(""));
find("skipped").addEventListener("click", () => look("?skipped=true"));
find("leave").addEventListener("click", () => open_form(true));
find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  name = find("name").value.trim();
  if (!name) return;
  localStorage.setItem(KEPT_NAME, name);
  join();
});
addEventListener("hashchange", () => location.reload());

once(async () => {
  open = (await ask("open")).open;
  name = localStorage.getItem(KEPT_NAME) || "";
  find("name").value = name;
}, "This page could not be loaded: ").then(() => (open && !name ? open_form(true) : look("")));
