// What the page does beyond being read: sorting, switching series off, texts under the pointer, downloads.
// Nothing is loaded, and everything can be read without it.
"use strict";
(() => {
  const page = document.documentElement;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  page.classList.add("js");

  // A click on a heading sorts its table by that column; another click turns the order round.

  // The first number of a text such as "0.0272 to 0.0497", "−1,230", "<0.01%" or "1.23×10⁻⁵"; null without one.
  function number(text) {
    const plain = text.replaceAll("−", "-").replaceAll(",", "");
    const found = plain.match(/-?(∞|\d+(\.\d+)?)(×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/);
    if (!found) return null;
    const power = [...(found[4] ?? "")].map((c) => c === "⁻" ? "-" : "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c)).join("");
    const digits = found[0].split("×")[0].replace("∞", "Infinity");
    return Number(power === "" ? digits : digits + "e" + power);
  }

  function sort(table, column, heading) {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    const isText = heading.classList.contains("text");
    const rows = [...table.tBodies[0].rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, key: isText ? text : number(text) };
    });
    const compare = (a, b) => isText ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    // Cells without a number come last in either order; equal cells keep their order.
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return descending ? compare(b.key, a.key) : compare(a.key, b.key);
    });
    all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.tBodies[0].append(...rows.map(({ row }) => row));
  }

  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const name = heading.querySelector(".name");
      const button = make("button", { type: "button", title: "Sort by this column" }, ...name.childNodes);
      name.append(button);
      heading.addEventListener("click", (event) => {
        if (!event.target.closest("a")) sort(table, column, heading);
      });
    });
  }

  // A click on a legend entry, or on a box above the figures, switches a series on and off in all figures.

  const entries = all("svg .legend-entry[data-series]");
  const boxes = new Map();

  function show(series, on) {
    const same = (element) => element.dataset.series === series;
    all("svg .series[data-series]").filter(same).forEach((group) => group.classList.toggle("off", !on));
    entries.filter(same).forEach((entry) => {
      entry.classList.toggle("dim", !on);
      entry.setAttribute("aria-pressed", String(on));
    });
    boxes.get(series).checked = on;
  }

  for (const entry of entries) {
    const series = entry.dataset.series;
    if (!boxes.has(series)) {
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => show(series, box.checked));
      boxes.set(series, box);
      const colored = entry.querySelector("[stroke], [fill]");
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("viewBox", "0 0 1 1");
      const square = document.createElementNS(swatch.namespaceURI, "rect");
      square.setAttribute("width", "1");
      square.setAttribute("height", "1");
      square.setAttribute("fill", colored?.getAttribute("stroke") ?? colored?.getAttribute("fill") ?? "none");
      swatch.append(square);
      boxes.get(series).label = make("label", {}, box, swatch, series);
    }
    const toggle = () => show(series, !boxes.get(series).checked);
    entry.setAttribute("role", "button");
    entry.setAttribute("tabindex", "0");
    entry.setAttribute("aria-pressed", "true");
    entry.addEventListener("click", toggle);
    entry.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
  }
  if (boxes.size > 1) {
    const labels = [...boxes.values()].map((box) => box.label);
    const bar = make("div", { className: "switches" }, make("span", { className: "muted" }, "Show"), ...labels);
    document.querySelector("#figures h2")?.after(bar);
  }

  // The text of a mark appears next to the pointer at once, on touch as well.

  const tip = make("div", { className: "tip", hidden: true });
  tip.setAttribute("role", "status");
  document.body.append(tip);

  // The title of the mark around an element. It is taken out, so that the browser does not show it a second time.
  function mark(element) {
    for (let place = element; place instanceof SVGElement; place = place.parentNode) {
      const title = [...place.children].find((child) => child.localName === "title");
      if (title) {
        title.remove();
        place.setAttribute("aria-label", title.textContent);
        if (place.localName === "svg") place.removeAttribute("aria-labelledby");
        else place.dataset.tip = title.textContent;
      }
      if (place.dataset.tip) return place.dataset.tip;
    }
    return "";
  }

  function point(event) {
    const text = mark(event.target);
    tip.hidden = text === "";
    if (tip.hidden) return;
    tip.textContent = text;
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    const beside = event.clientX + 14 + width < page.clientWidth ? event.clientX + 14 : event.clientX - 14 - width;
    const below = event.clientY + 14 + height < page.clientHeight ? event.clientY + 14 : event.clientY - 14 - height;
    tip.style.left = Math.max(4, Math.min(beside, page.clientWidth - width - 4)) + "px";
    tip.style.top = Math.max(4, below) + "px";
  }

  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  // Tables and figures that are in the page are saved from it, so that their links work when it was mailed alone.

  function offer(link, name, type, text) {
    link.download = name;
    link.classList.add("inside");
    link.title = "Save from this page";
    link.addEventListener("click", () => {
      link.href = URL.createObjectURL(new Blob([text()], { type }));
      setTimeout(URL.revokeObjectURL, 60000, link.href);
    });
  }

  const tables = JSON.parse(document.getElementById("embedded").textContent);
  for (const link of all(".files a")) {
    const href = link.getAttribute("href");
    const figure = link.dataset.figure && document.getElementById(link.dataset.figure)?.querySelector("svg");
    if (figure) {
      offer(link, link.dataset.figure + ".svg", "image/svg+xml", () => new XMLSerializer().serializeToString(figure));
    } else if (Object.hasOwn(tables, href)) {
      const [path, part] = href.split("#");
      const name = path.split("/").slice(-2).join("-");
      offer(link, part ? name.replace(".csv", "-" + part + ".csv") : name, "text/csv", () => tables[href]);
    }
  }

  // What is wider than the screen says so.

  const measure = () => all(".scroll").forEach((box) => {
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  });
  measure();
  addEventListener("resize", measure);
  document.fonts?.ready.then(measure);
})();
