"use strict";
// The picture of a graph: what is searched, and what is related, is lit up; the rest is dimmed.
// `tell` is told how many rows are lit, `pick` which row was clicked.
const lightUp = (picture, tell, pick) => {
  const rows = [...picture.querySelectorAll(".row")];
  const rails = [...picture.querySelectorAll(".rail")];
  const arcs = [...picture.querySelectorAll(".arc")];
  const above = rows.map((row) => ("above" in row.dataset ? Number(row.dataset.above) : -1));
  const below = rows.map(() => []);
  above.forEach((over, row) => over >= 0 && below[over].push(row));
  const text = rows.map((row) =>
    `${row.textContent} ${row.dataset.digest} ${row.dataset.more || ""}`.toLowerCase());
  let words = [];

  const show = (lit) => {
    rows.forEach((row, n) => row.classList.toggle("dim", lit !== null && !lit.has(n)));
    rails.forEach((rail) => rail.classList.toggle("dim", lit !== null && !lit.has(Number(rail.dataset.row))));
    arcs.forEach((arc) => arc.classList.toggle("dim", lit !== null &&
      !(lit.has(Number(arc.dataset.from)) && lit.has(Number(arc.dataset.to)))));
    tell(lit === null ? rows.length : lit.size);
  };
  const unlight = () => rows.forEach((row) => row.classList.remove("lit"));
  const search = (wanted) => {
    words = wanted;
    unlight();
    if (words.length === 0) return show(null);
    const lit = new Set();
    text.forEach((line, n) => words.every((word) => line.includes(word)) && lit.add(n));
    show(lit);
    return rows[lit.values().next().value];
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
  rows.forEach((row, n) => row.addEventListener("click", () => {
    const again = row.classList.contains("lit");
    unlight();
    if (again) return search(words);
    row.classList.add("lit");
    show(relatives(n));
    pick(row);
  }));
  return search;
};
