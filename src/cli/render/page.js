(() => {
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const main = document.querySelector("main");
  const svg = main.querySelector("svg");
  const search = lightUp(main, (count) => { found.textContent = count + " shown"; }, () => {});
  const words = () => find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const look = () => {
    const first = search(words());
    if (first) first.scrollIntoView({ block: "center" });
  };
  find.addEventListener("input", look);

  // The picture is as wide as it is, and scrolls; the buttons make it larger and smaller.
  const [width, height] = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
  let scale = 1;
  const zoom = (factor) => {
    scale = Math.min(4, Math.max(0.25, scale * factor));
    svg.setAttribute("width", width * scale);
    svg.setAttribute("height", height * scale);
  };
  document.getElementById("larger").addEventListener("click", () => zoom(1.25));
  document.getElementById("smaller").addEventListener("click", () => zoom(0.8));

  // It is dragged with the mouse; a finger scrolls it as it does everything.
  let drag = null;
  main.addEventListener("pointerdown", (event) => {
    // Text is there to be selected.
    if (event.target.closest("text")) return;
    if (event.pointerType === "mouse" && event.button === 0) drag = { x: event.clientX, y: event.clientY };
  });
  addEventListener("pointermove", (event) => {
    if (drag === null) return;
    main.scrollLeft -= event.clientX - drag.x;
    scrollBy(0, drag.y - event.clientY);
    drag = { x: event.clientX, y: event.clientY };
  });
  addEventListener("pointerup", () => { drag = null; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "Escape") {
      find.value = "";
      look();
    } else if (document.activeElement !== find && (event.key === "+" || event.key === "-")) {
      zoom(event.key === "+" ? 1.25 : 0.8);
    }
  });
})();
