// A table that sorts and is searched; only as many rows as are asked for are in the document.
// A column: its title, `value` by which it sorts, `cell` that it shows (text or an element), a class.
// `kind` is what a row may be chosen by besides.
const listing = ({ section, columns, rows, text, open, name, sort, kind }) => {
  const PAGE = 50;
  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const texts = rows.map((row) => text(row).toLowerCase());
  let order = rows.map((_, n) => n);
  let shown = order;
  let limit = PAGE;
  let words = [];
  let by = sort;

  const count = element("span", {});
  const head = element("tr", {});
  const body = element("tbody", {});
  const more = element("div", { className: "more" });
  const bar = element("div", { className: "count" });
  const choice = element("select", { ariaLabel: `which ${name}` }, element("option", { value: "" }, `all ${name}`));
  if (kind) {
    const counts = new Map();
    rows.forEach((row) => counts.set(kind(row), (counts.get(kind(row)) || 0) + 1));
    [...counts].sort((one, other) => other[1] - one[1]).forEach(([word, many]) =>
      choice.append(element("option", { value: word }, `${word}: ${many}`)));
    choice.addEventListener("change", () => { limit = PAGE; choose(); });
  }
  bar.append(...(kind ? [choice, count] : [count]));
  section.append(bar, element("div", { className: "scroll" },
    element("table", {}, element("thead", {}, head), body)), more);

  const heads = columns.map((column, n) => {
    const button = element("button", { type: "button", title: column.hint || "" }, column.title);
    const cell = element("th", { scope: "col", className: column.number ? "number" : "" }, button);
    button.addEventListener("click", () => {
      by = by.column === n ? { column: n, down: !by.down } : { column: n, down: Boolean(column.number) };
      arrange();
    });
    head.append(cell);
    return cell;
  });

  const line = (row) => {
    const made = element("tr", { className: open ? "open" : "" });
    columns.forEach((column, n) => {
      const cell = element("td", { className: `${column.number ? "number" : ""} ${column.class || ""}`.trim() });
      cell.dataset.title = column.title;
      const inside = column.cell(row);
      if (n === 0 && open) {
        const button = element("button", { type: "button", className: "link" }, inside);
        button.addEventListener("click", (event) => { event.stopPropagation(); open(row); });
        cell.append(button);
      } else if (inside !== "") {
        cell.append(inside);
      }
      made.append(cell);
    });
    if (open) {
      made.addEventListener("click", () => {
        // Who selects a digest with the mouse wants to copy it.
        if (String(getSelection()) === "") open(row);
      });
    }
    return made;
  };
  const draw = () => {
    body.replaceChildren(...shown.slice(0, limit).map((n) => line(rows[n])));
    const all = shown.length === rows.length ? "" : ` of ${rows.length}`;
    count.textContent = `${shown.length}${all} ${name}`;
    const rest = shown.length - limit;
    more.replaceChildren();
    if (rest > 0) {
      const add = (text, by) => {
        const button = element("button", { type: "button" }, text);
        button.addEventListener("click", () => { limit += by; draw(); });
        more.append(button);
      };
      add(`${Math.min(rest, 200)} more`, 200);
      if (rest > 200) add(`all ${shown.length}`, rest);
    }
  };
  const choose = () => {
    const of = choice.value;
    shown = order.filter((n) => (of === "" || kind(rows[n]) === of) && words.every((word) => texts[n].includes(word)));
    draw();
  };
  const arrange = () => {
    const { value } = columns[by.column];
    const keys = rows.map(value);
    const compare = (one, other) => {
      const [a, b] = [keys[one], keys[other]];
      return a < b ? -1 : a > b ? 1 : one - other;
    };
    order = rows.map((_, n) => n).sort((one, other) => (by.down ? compare(other, one) : compare(one, other)));
    heads.forEach((cell, n) => {
      if (n === by.column) cell.setAttribute("aria-sort", by.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    choose();
  };
  arrange();
  return { search: (list) => { words = list; limit = PAGE; choose(); return shown.length; } };
};
