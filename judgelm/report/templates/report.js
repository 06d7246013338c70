"use strict";
const samples = [...document.querySelectorAll(".sample")];
const texts = samples.map((sample) => sample.textContent.toLowerCase());
const search = document.getElementById("search");
const kind = document.getElementById("kind");
const open = document.getElementById("open");
const count = document.getElementById("count");

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  samples.forEach((sample, row) => {
    const fits = !kind.value || sample.dataset.kinds.split(" ").includes(kind.value);
    sample.hidden = !(fits && words.every((word) => texts[row].includes(word)));
    shown += !sample.hidden;
  });
  count.textContent = `${shown} of ${samples.length}`;
}

search.addEventListener("input", show);
kind.addEventListener("change", show);
open.addEventListener("click", () => {
  const opening = open.textContent === "Open all";
  samples.forEach((sample) => { sample.open = opening && !sample.hidden; });
  open.textContent = opening ? "Close all" : "Open all";
});
document.querySelector(".controls").hidden = false;
show();
