(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const images = data.images.shown, layers = data.layers.shown;
  const made = Date.parse(data.made);

  // As `rstore` writes sizes: decimal, three digits.
  const size = (bytes) => {
    const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if (bytes < 1000) return `${bytes}B`;
    let value = bytes, unit = 0;
    while (value >= 999.5 && unit + 1 < units.length) { value /= 1000; unit += 1; }
    const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return String(Number(value.toFixed(digits))) + units[unit];
  };
  const ago = (time) => {
    const minutes = Math.max(0, (made - Date.parse(time)) / 60000);
    const steps = [[60, "minute"], [24, "hour"], [14, "day"], [9, "week"], [24, "month"], [Infinity, "year"]];
    const lengths = [1, 60, 1440, 10080, 43200, 525600];
    for (const [n, [most, word]] of steps.entries()) {
      const count = Math.floor(minutes / lengths[n]);
      if (count < most) return count === 0 ? "now" : `${count} ${word}${count === 1 ? "" : "s"} ago`;
    }
  };
  const short = (digest) => digest.replace(/^sha256:/, "").slice(0, 12);
  const step = (row) => (row.step || "").replace(/^\/bin\/sh -c #\(nop\) /, "").trim();
  const nameOf = (image) => image.names.join(", ") || `<none> ${step(image)}`.trim();
  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const clipped = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  const whole = (time) => `${ago(time)} (${time})`;

  // Which of the images here hold a layer.
  const holders = layers.map(() => []);
  images.forEach((image, n) => new Set(image.layers).forEach((layer) => holders[layer].push(n)));
  const byId = new Map(images.map((image) => [image.id, image]));

  const details = at("details");
  const close = () => details.close();
  const facts = (pairs) => element("dl", { className: "facts" }, ...pairs
    .filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .flatMap(([title, value]) => [element("dt", {}, title), element("dd", {}, value)]));
  const link = (text, act) => {
    const button = element("button", { type: "button", className: "link" }, text);
    button.addEventListener("click", act);
    return button;
  };
  const code = (text) => element("code", {}, text);
  const table = (titles, rows) => {
    const head = titles.map(([title, number]) => element("th", { scope: "col", className: number ? "number" : "" }, title));
    const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, n) => {
      const made = element("td", { className: titles[n][1] ? "number" : "" }, cell);
      made.dataset.title = titles[n][0];
      return made;
    })));
    return element("div", { className: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
  };
  const show = (title, ...content) => {
    const shut = element("button", { type: "button", ariaLabel: "close" }, "✕");
    shut.addEventListener("click", close);
    details.replaceChildren(
      element("div", { className: "top" }, element("h2", { id: "what" }, title), shut), ...content);
    if (!details.open) details.showModal();
    details.scrollTop = 0;
  };
  details.addEventListener("click", (event) => { if (event.target === details) close(); });

  // What a shell takes as one word is shown as a command; else the ID does.
  const word = (image) => image.names.find((name) => /^[\w./:@-]+$/.test(name)) || short(image.id);

  const openImage = (image) => {
    const labels = Object.entries(image.labels).map(([key, value]) => `${key}=${value}`).join("\n");
    const parent = image.parent && byId.get(image.parent);
    const rows = image.layers.map((place, n) => {
      const layer = layers[place];
      return [String(n + 1), link(short(layer.digest), () => openLayer(layer)), size(layer.size),
        layer.images === 1 ? "this alone" : `${layer.images} images`, clipped(step(layer), 160)];
    });
    show(nameOf(image),
      facts([
        ["state", image.state],
        ["bytes", `${size(image.size)}: ${size(image.own)} its own, ${size(image.shared)} shared`],
        ["held alone", image.alone > 0 ? `${size(image.alone)} that no other image which is kept holds` : ""],
        ["prune --all frees", image.reclaimable > 0 ? size(image.reclaimable) : ""],
        ["last used", ago(image.last_used)],
      ]),
      element("h2", {}, `Layers, the lowest first: ${image.layers.length + image.more_layers}`),
      table([["#", true], ["Layer", false], ["Size", true], ["Held by", false], ["Made by", false]], rows),
      ...(image.more_layers > 0 ? [element("p", { className: "left" },
        `${image.more_layers} more are not in this page: rstore layers ${word(image)}`)] : []),
      element("h2", {}, "Besides"),
      facts([
        ["ID", code(image.id)], ["manifest", code(image.digest)], ["platform", image.platform],
        ["made from", image.parent ? (parent ? link(nameOf(parent), () => openImage(parent)) : code(short(image.parent))) : ""],
        ["step", image.step ? code(step(image)) : ""],
        ["created", image.created ? whole(image.created) : ""], ["first seen", whole(image.first_seen)],
        ["last used", whole(image.last_used)],
        ["labels", labels],
        ["who keeps it", code(`rstore why ${word(image)}`)],
      ]));
  };
  const openLayer = (layer) => {
    const held = holders[layers.indexOf(layer)];
    show(`Layer ${short(layer.digest)}`,
      facts([
        ["digest", code(layer.digest)], ["diff ID", layer.diff_id ? code(layer.diff_id) : ""], ["state", layer.state],
        ["bytes", size(layer.size)], ["unpacked", layer.unpacked === null ? "" : size(layer.unpacked)],
        ["made by", layer.step ? code(step(layer)) : ""], ["last used", whole(layer.last_used)],
        ["who keeps it", code(`rstore why ${short(layer.digest)}`)],
      ]),
      element("h2", {}, layer.images === 1 ? "Held by 1 image" : `Held by ${layer.images} images`),
      table([["Image", false], ["State", false], ["Last used", false]], held.slice(0, 50).map((n) => [
        link(clipped(nameOf(images[n]), 120), () => openImage(images[n])), images[n].state, ago(images[n].last_used)])),
      ...(layer.images > Math.min(50, held.length) ? [element("p", { className: "left" },
        `${layer.images - Math.min(50, held.length)} more: rstore graph --up ${short(layer.digest)}`)] : []));
  };
  const openTile = (tile) => {
    if (tile.layer !== undefined) return openLayer(layers[tile.layer]);
    if (tile.image !== undefined) return openImage(images[tile.image]);
    show(tile.name, facts([["bytes", size(tile.bytes)], ["what", tile.note || ""]]));
  };

  const textOf = {
    image: (image) => [...image.names, image.id, image.digest, image.state, image.step || "", image.platform,
      ...Object.entries(image.labels).flat()].join(" "),
    layer: (layer) => [layer.digest, layer.diff_id || "", layer.state, layer.step || ""].join(" "),
    entry: (entry) => [entry.operation, entry.subject, entry.detail, entry.time].join(" "),
  };
  const map = treemap({
    svg: at("map"), crumbs: at("crumbs"), parts: at("parts"), root: data.tree, size, open: openTile,
    words: (tile) => [tile.name, tile.note || "",
      tile.layer === undefined ? "" : textOf.layer(layers[tile.layer]),
      tile.image === undefined ? "" : textOf.image(images[tile.image])].join(" ").toLowerCase(),
  });
  const number = (title, key, cell) => ({ title, number: true, value: (row) => row[key], cell: cell || ((row) => size(row[key])) });
  const some = (key) => (row) => (row[key] > 0 ? size(row[key]) : "");
  const lists = [
    listing({
      section: at("images"), rows: images, text: textOf.image, open: openImage, name: "images",
      kind: (image) => image.state,
      sort: { column: 3, down: true },
      columns: [
        { title: "Image", value: (image) => nameOf(image).toLowerCase(), cell: (image) => clipped(nameOf(image), 160) },
        { title: "ID", value: (image) => image.id, cell: (image) => short(image.id), class: "mono" },
        { title: "State", value: (image) => image.state, cell: (image) => image.state, class: "state" },
        { ...number("Alone", "alone", some("alone")), hint: "what no other image that is kept holds" },
        { ...number("Own", "own"), hint: "what no other image holds, not even a step that it was made from" },
        { ...number("Shared", "shared"), hint: "what other images hold too" },
        number("Size", "size"),
        { ...number("Reclaimable", "reclaimable", some("reclaimable")), hint: "what goes with it in rstore prune --all" },
        { title: "Last used", value: (image) => Date.parse(image.last_used), cell: (image) => ago(image.last_used) },
      ],
    }),
    listing({
      section: at("layers"), rows: layers, text: textOf.layer, open: openLayer, name: "layers",
      kind: (layer) => layer.state,
      sort: { column: 2, down: true },
      columns: [
        { title: "Layer", value: (layer) => layer.digest, cell: (layer) => short(layer.digest) },
        { title: "State", value: (layer) => layer.state, cell: (layer) => layer.state, class: "state" },
        number("Size", "size"),
        number("Unpacked", "unpacked", (layer) => (layer.unpacked === null ? "" : size(layer.unpacked))),
        number("Images", "images", (layer) => String(layer.images)),
        { title: "Last used", value: (layer) => Date.parse(layer.last_used), cell: (layer) => ago(layer.last_used) },
        { title: "Made by", value: (layer) => step(layer), cell: (layer) => clipped(step(layer), 140), class: "mono" },
      ],
    }),
    listing({
      section: at("log"), rows: data.log.shown, text: textOf.entry, name: "entries",
      kind: (entry) => entry.operation,
      sort: { column: 0, down: true },
      columns: [
        { title: "Time", value: (entry) => Date.parse(entry.time), cell: (entry) => entry.time.replace("T", " ").replace(/(\.\d+)?Z$/, "Z") },
        { title: "What", value: (entry) => entry.operation, cell: (entry) => entry.operation },
        { title: "Subject", value: (entry) => entry.subject, cell: (entry) => clipped(entry.subject, 160) },
        number("Bytes", "bytes"),
        { title: "How", value: (entry) => entry.detail, cell: (entry) => clipped(entry.detail, 200) },
      ],
    }),
  ];
  const graph = lightUp(document.querySelector(".graph"), () => {}, () => {});

  const find = at("find"), found = at("found");
  const look = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    map.search(words);
    const counts = lists.map((list) => list.search(words));
    graph(words);
    found.textContent = words.length === 0 ? "" : `${counts[0]} images, ${counts[1]} layers, ${counts[2]} log entries`;
  };
  let due = 0;
  find.addEventListener("input", () => {
    clearTimeout(due);
    due = setTimeout(look, 80);
  });
  document.addEventListener("keydown", (event) => {
    if (details.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "Escape") {
      if (find.value !== "") {
        find.value = "";
        look();
      } else {
        map.out();
      }
    }
  });

  // What the reader chose holds for this page; without a choice the system's holds.
  const theme = at("theme");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.classList.contains("dark") ||
      (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
    root.classList.toggle("dark", !dark);
    root.classList.toggle("light", dark);
  });
})();
