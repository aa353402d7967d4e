// The page is whole without this: it adds a filter, sorting, and opens what is folded for the printer.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const form = document.querySelector("form.filter");
  const kinds = ["machine", "size", "precision"];

  // A part is hidden if its own value is not wanted; a group of rows or a panel also if none of its rows is left.
  function filter() {
    for (const kind of kinds) {
      const boxes = all(`input[name="${kind}"]`, form);
      const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      if (boxes.length) all(`[data-${kind}]`).forEach((part) => { part.hidden = !wanted.has(part.dataset[kind]); });
    }
    for (const group of all("[data-size]:not(tr)")) {
      const rows = all("tr[data-precision]", group);
      if (rows.length && rows.every((row) => row.hidden)) group.hidden = true;
    }
  }

  const units = { us: 1e-6, ms: 1e-3, s: 1, B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };

  // "540 ms [500-560]" is 0.54; what starts with no number is text.
  function value(cell) {
    const text = cell.textContent.trim();
    const found = text.replaceAll(",", "").match(/^([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z]*)/);
    return found ? Number(found[1]) * (units[found[2]] ?? 1) : text;
  }

  function compare(one, other) {
    if (typeof one === typeof other) return typeof one === "number" ? one - other : one.localeCompare(other);
    return typeof one === "number" ? -1 : 1;
  }

  // Rows are sorted within their group, whose heading stays first; a third click gives the report's own order back.
  function sort(table, column, header) {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[header.getAttribute("aria-sort") ?? "none"];
    all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
    if (order !== "none") header.setAttribute("aria-sort", order);
    for (const body of table.tBodies) {
      const rows = all("tr:not(.group)", body);
      rows.forEach((row, place) => { row.dataset.place ??= place; });
      const keyed = rows.map((row) => [value(row.cells[column]), Number(row.dataset.place), row]);
      const sign = order === "descending" ? -1 : 1;
      keyed.sort((a, b) => (order === "none" ? 0 : sign * compare(a[0], b[0])) || a[1] - b[1]);
      body.append(...keyed.map((one) => one[2]));
    }
  }

  for (const table of all("table[data-sorts]")) {
    all("thead th", table).forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, column, header));
      header.append(button);
    });
  }

  if (form.querySelector("input")) {
    form.hidden = false;
    form.addEventListener("change", filter);
    filter(); // a browser may remember what was chosen before
  }

  window.addEventListener("beforeprint", () => all("details:not([open])").forEach((one) => {
    one.open = true;
    one.dataset.opened = "";
  }));
  window.addEventListener("afterprint", () => all("details[data-opened]").forEach((one) => {
    one.open = false;
    delete one.dataset.opened;
  }));
})();
