// The map of the disk: rectangles whose areas are bytes, nested without margins, so that any two of
// them compare. `open` is given a tile in which nothing is told apart; `words` gives the text by
// which a tile is found.
const treemap = ({ svg, crumbs, parts, root, size, open, words }) => {
  const LONGEST_LIST = 14, LARGEST = 7;
  // Below so many square pixels an area is not divided further, and below so many not drawn alone.
  const DIVIDED = 900, ALONE = 6;
  let path = [root];
  let wanted = [];

  const made = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Squarified treemaps (Bruls, Huizing, van Wijk): rows of tiles along the shorter side, a row as
  // long as its worst tile gets squarer.
  const laidOut = (tiles, box) => {
    const placed = [];
    let { x, y, w, h } = box;
    let left = tiles.reduce((sum, tile) => sum + tile.bytes, 0);
    let first = 0;
    while (first < tiles.length && left > 0) {
      const side = Math.min(w, h), scale = (w * h) / left;
      let sum = 0, worst = Infinity, end = first;
      while (end < tiles.length) {
        const next = sum + tiles[end].bytes;
        const thick = (next * scale) / side;
        const largest = (tiles[first].bytes * scale) / thick, least = (tiles[end].bytes * scale) / thick;
        const worse = Math.max(largest / thick, thick / least);
        if (end > first && worse > worst) break;
        worst = worse;
        sum = next;
        end += 1;
      }
      const thick = end === tiles.length ? (w < h ? h : w) : (sum * scale) / side;
      let along = 0;
      for (const tile of tiles.slice(first, end)) {
        const length = side * (tile.bytes / sum);
        placed.push([tile, w < h ? { x: x + along, y, w: length, h: thick } : { x, y: y + along, w: thick, h: length }]);
        along += length;
      }
      if (w < h) { y += thick; h -= thick; } else { x += thick; w -= thick; }
      left -= sum;
      first = end;
    }
    return placed;
  };

  // What is too small to be seen alone is seen together.
  const visible = (tile, area) => {
    const scale = area / tile.bytes;
    const shown = tile.tiles.filter((part) => part.bytes * scale >= ALONE);
    const small = tile.tiles.length - shown.length;
    if (small === 0) return tile.tiles;
    const bytes = tile.bytes - shown.reduce((sum, part) => sum + part.bytes, 0);
    const rest = { name: `${small} small ones`, bytes, class: tile.tiles[tile.tiles.length - 1].class, of: tile };
    return [...shown, rest].sort((one, other) => other.bytes - one.bytes);
  };

  // An image is found by its name, and with it all that it consists of.
  const matches = (way) => {
    const text = way.map(words).join(" ");
    return wanted.every((word) => text.includes(word));
  };

  const pen = document.createElement("canvas").getContext("2d");
  const cut = (text, room, font) => {
    pen.font = font;
    if (pen.measureText(text).width <= room) return text;
    let [least, most] = [0, Math.min(text.length, 200)];
    while (least < most) {
      const middle = (least + most + 1) >> 1;
      if (pen.measureText(text.slice(0, middle) + "…").width <= room) least = middle;
      else most = middle - 1;
    }
    return least < 3 ? "" : text.slice(0, least) + "…";
  };

  const draw = () => {
    const focus = path[path.length - 1];
    const w = Math.max(240, Math.round(svg.getBoundingClientRect().width));
    const h = Math.round(Math.min(560, Math.max(340, w * 0.58)));
    svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
    const areas = made("g", {}), labels = made("g", {});
    const taken = [];

    const label = (text, box, group) => {
      const line = group ? 17 : 15;
      const shown = cut(text, box.w - 8, group ? "650 13px system-ui, sans-serif" : "12px system-ui, sans-serif");
      if (shown === "" || box.h < line) return false;
      const at = { x: box.x + 4, y: box.y + 2, w: pen.measureText(shown).width + 2, h: line };
      const hit = () => taken.find((other) => at.x < other.x + other.w && other.x < at.x + at.w &&
        at.y < other.y + other.h && other.y < at.y + at.h);
      for (let other = hit(); other; other = hit()) at.y = other.y + other.h + 0.01;
      if (at.y + line > box.y + box.h) return false;
      taken.push(at);
      labels.append(made("text", { x: at.x, y: at.y + line - 4, class: group ? "group" : "leaf" }, shown));
      return true;
    };

    const place = (tile, box, way) => {
      const divided = tile.tiles && (way.length === 0 || box.w * box.h >= DIVIDED);
      if (!divided) {
        const dim = wanted.length > 0 && !matches(way.length > 0 ? way : [tile]);
        const area = made("rect", {
          ...{ x: box.x, y: box.y, width: box.w, height: box.h },
          class: `tile ${tile.class}${dim ? " dim" : ""}`, "data-bytes": tile.bytes,
        });
        area.way = way;
        area.append(made("title", {}, [tile.name, size(tile.bytes), tile.note].filter(Boolean).join("\n")));
        areas.append(area);
        if (!dim && label(tile.name, box, false)) label(size(tile.bytes), box, false);
        return;
      }
      if (way.length > 0) label(`${tile.name} ${size(tile.bytes)}`, box, box.w * box.h > 20000);
      for (const [part, inner] of laidOut(visible(tile, box.w * box.h), box)) place(part, inner, [...way, part]);
      if (way.length > 0) {
        areas.append(made("rect", {
          ...{ x: box.x, y: box.y, width: box.w, height: box.h },
          class: "group", "stroke-width": way.length === 1 ? 4 : 2.5,
        }));
      }
    };
    place(focus, { x: 0, y: 0, w, h }, []);
    svg.replaceChildren(areas, labels);
    tellPath();
    tellParts(focus);
  };

  const html = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const button = (text, act) => {
    const element = html("button", { type: "button", className: "link", title: text }, text);
    element.addEventListener("click", act);
    return element;
  };
  const tellPath = () => {
    const steps = path.map((tile, depth) => {
      if (depth === path.length - 1) return html("b", {}, `${tile.name} ${size(tile.bytes)}`);
      return button(tile.name, () => { path = path.slice(0, depth + 1); draw(); });
    });
    crumbs.replaceChildren(...steps.flatMap((step, n) => (n === 0 ? [step] : [html("span", {}, "›"), step])));
  };
  const enter = (tile) => {
    if (!tile.tiles) return open(tile);
    path = [...path, tile];
    draw();
  };
  // The largest things, however deep they are: images whole, everything else by itself.
  const largest = (focus) => {
    const things = [];
    const pending = [...(focus.tiles || [])];
    while (pending.length > 0) {
      const tile = pending.pop();
      if (tile.tiles && tile.image === undefined) pending.push(...tile.tiles);
      else if (!(focus.tiles || []).includes(tile) && (tile.tiles || tile.note)) things.push(tile);
    }
    return things.sort((one, other) => other.bytes - one.bytes).slice(0, LARGEST);
  };
  const tellParts = (focus) => {
    const tiles = focus.tiles || [];
    const line = (act) => (tile) => {
      const bar = html("i", { className: tile.class });
      bar.style.width = `${(100 * tile.bytes) / focus.bytes}%`;
      const share = `${((100 * tile.bytes) / focus.bytes).toFixed(0)}%`;
      return html("li", {},
        html("div", { className: "what" }, button(tile.name, () => act(tile)), html("b", {}, `${size(tile.bytes)} ${share}`)),
        html("div", { className: "bar" }, bar));
    };
    const list = html("ol", {}, ...tiles.slice(0, LONGEST_LIST).map(line(enter)));
    const rest = tiles.slice(LONGEST_LIST).reduce((sum, tile) => sum + tile.bytes, 0);
    parts.replaceChildren(list);
    if (rest > 0) {
      parts.append(html("p", { className: "left" }, `${tiles.length - LONGEST_LIST} more: ${size(rest)}`));
    }
    const things = largest(focus);
    if (things.length > 0) {
      parts.append(html("h3", {}, "The largest in it"), html("ol", {}, ...things.map(line(open))));
    }
  };

  svg.addEventListener("click", (event) => {
    const way = event.target.way;
    if (!way || way.length === 0) return;
    enter(way[0].of || way[0]);
  });
  const out = () => {
    if (path.length === 1) return false;
    path = path.slice(0, -1);
    draw();
    return true;
  };
  let due = 0;
  addEventListener("resize", () => {
    clearTimeout(due);
    due = setTimeout(draw, 100);
  });
  draw();
  return { out, search: (list) => { wanted = list; draw(); } };
};
