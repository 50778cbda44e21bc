"use strict";
(function () {
  const table = document.getElementById("docket");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const fields = { q: "search", verdict: "verdict", kind: "kind" };
  const control = (name) => document.getElementById(fields[name]);
  const numeric = new Set(["hours", "share", "cost"]);
  let sorted = { key: "", down: false };

  function filter() {
    const words = control("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdict = control("verdict").value;
    const kind = control("kind").value;
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.text.includes(word)) &&
        (!verdict || row.dataset.verdict === verdict) && (!kind || row.dataset.kind === kind);
      row.hidden = !fits;
      row.style.display = fits ? "" : "none";
      shown += fits ? 1 : 0;
    }
    document.getElementById("shown").textContent = shown + " of " + rows.length + " claims shown";
  }

  function sort(key, down) {
    sorted = { key, down };
    const value = (row) => numeric.has(key) ? parseFloat(row.dataset[key] || "NaN") : row.dataset[key];
    const empty = (v) => v === "" || (typeof v === "number" && isNaN(v));
    const order = rows.slice().sort((a, b) => {
      const x = value(a), y = value(b);
      if (empty(x) || empty(y)) return empty(x) - empty(y);
      const less = numeric.has(key) ? x - y : x.localeCompare(y);
      return down ? -less : less;
    });
    for (const row of order) body.append(row);
    for (const head of table.tHead.rows[0].cells) {
      const own = head.querySelector("button").dataset.key === key;
      if (own) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  // The search is kept in the address, so that a view of the docket can be linked to.
  function remember() {
    const state = new URLSearchParams();
    for (const name of Object.keys(fields)) if (control(name).value) state.set(name, control(name).value);
    if (sorted.key) state.set("sort", (sorted.down ? "-" : "") + sorted.key);
    history.replaceState(null, "", "#" + state.toString());
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const name of Object.keys(fields)) control(name).value = state.get(name) || "";
    const key = (state.get("sort") || "").replace(/^-/, "");
    if (table.querySelector('button[data-key="' + CSS.escape(key) + '"]')) sort(key, state.get("sort").startsWith("-"));
    filter();
  }

  for (const name of Object.keys(fields)) control(name).addEventListener("input", () => { filter(); remember(); });
  for (const button of table.tHead.querySelectorAll("button")) {
    const key = button.dataset.key;
    button.addEventListener("click", () => {
      sort(key, sorted.key === key ? !sorted.down : numeric.has(key));
      remember();
    });
  }
  window.addEventListener("hashchange", restore);
  restore();
})();
