"use strict";
(() => {
  const rows = [...document.querySelectorAll(".row")];
  const rails = [...document.querySelectorAll(".rail")];
  const arcs = [...document.querySelectorAll(".arc")];
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const above = rows.map((row) => ("above" in row.dataset ? Number(row.dataset.above) : -1));
  const below = rows.map(() => []);
  above.forEach((over, row) => over >= 0 && below[over].push(row));
  const text = rows.map((row) => (row.textContent + " " + row.dataset.digest).toLowerCase());

  const show = (lit) => {
    rows.forEach((row, n) => row.classList.toggle("dim", lit !== null && !lit.has(n)));
    rails.forEach((rail) => rail.classList.toggle("dim", lit !== null && !lit.has(Number(rail.dataset.row))));
    arcs.forEach((arc) => arc.classList.toggle("dim", lit !== null &&
      !(lit.has(Number(arc.dataset.from)) && lit.has(Number(arc.dataset.to)))));
    found.textContent = (lit === null ? rows.length : lit.size) + " shown";
  };
  const search = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return show(null);
    const lit = new Set();
    text.forEach((line, n) => words.every((word) => line.includes(word)) && lit.add(n));
    show(lit);
    const first = lit.values().next();
    if (!first.done) rows[first.value].scrollIntoView({ block: "center" });
  };
  const relatives = (row) => {
    const lit = new Set();
    for (let over = row; over >= 0; over = above[over]) lit.add(over);
    const pending = [row];
    while (pending.length > 0) {
      const next = pending.pop();
      lit.add(next);
      pending.push(...below[next]);
    }
    arcs.forEach((arc) => {
      const from = Number(arc.dataset.from), to = Number(arc.dataset.to);
      if (from === row || to === row) lit.add(from).add(to);
    });
    return lit;
  };
  find.addEventListener("input", search);
  rows.forEach((row, n) => row.addEventListener("click", () => {
    const again = row.classList.contains("lit");
    rows.forEach((other) => other.classList.remove("lit"));
    if (again) return search();
    row.classList.add("lit");
    show(relatives(n));
  }));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "Escape") {
      find.value = "";
      rows.forEach((other) => other.classList.remove("lit"));
      show(null);
    }
  });
})();
