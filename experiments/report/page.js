"use strict";
// Draws the charts, switches their curves and sets their steps, and opens the pictures of a cell.

const held = (id) => JSON.parse(document.getElementById(id).textContent);
const specifications = held("charts");
const pictures = held("pictures");
const views = [];
let zoomed = null; // the steps that are shown, where they are not all

function hidden() {
  return [...document.querySelectorAll("[data-key]")].filter((box) => !box.checked).map((box) => box.dataset.key);
}

function steps() {
  const [from, to] = ["from", "to"].map((id) => document.getElementById(id).valueAsNumber);
  return from < to ? [from, to] : null;
}

async function draw(place) {
  // Errors alone are worth a word: a chart all of whose curves are switched off has no extent, and warns of it.
  const options = { renderer: "svg", actions: false, ast: true, logLevel: 1, tooltip: { theme: "custom" } };
  const { view } = await vegaEmbed(place, specifications[Number(place.dataset.chart)], options);
  views.push(view);
  await view.signal("hidden", hidden()).runAsync();
  if (zoomed) zoom(zoomed, [view]);
}

// A chart is drawn when it comes near to what is seen, one after the other: many long curves take seconds.
let drawn = Promise.resolve();
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      drawn = drawn.then(() => draw(target)).then(() => new Promise((done) => setTimeout(done)));
    }
  },
  { rootMargin: "200px" },
);

// A selection is of both axes or of none.
function zoom(range, which = views) {
  zoomed = range;
  for (const view of which) {
    const values = range && view.scale("y").domain();
    view.signal("zoom_step", range).signal("zoom_value", values).runAsync();
  }
}

for (const place of document.querySelectorAll("[data-chart]")) near.observe(place);
for (const box of document.querySelectorAll("[data-key]")) {
  box.addEventListener("change", () => views.forEach((view) => view.signal("hidden", hidden()).runAsync()));
}
for (const id of ["from", "to"]) document.getElementById(id)?.addEventListener("change", () => zoom(steps()));
document.getElementById("whole")?.addEventListener("click", () => {
  for (const id of ["from", "to"]) {
    const box = document.getElementById(id);
    box.value = box.defaultValue;
  }
  zoom(null);
});

const dialog = document.querySelector("dialog");
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function open(button) {
  const { classes, cells, pictures: images } = pictures[Number(button.dataset.side)];
  const [truth, answer] = button.dataset.cell.split(",").map((number) => classes[Number(number)]);
  const shown = cells[button.dataset.cell];
  const right = truth === answer;
  dialog.querySelector("h2").textContent = right ? `${truth}, known as such` : `${truth}, taken for ${answer}`;
  const order = right ? "the least sure first" : "the surest first";
  dialog.querySelector("p").textContent = `${shown.length} of ${button.dataset.count}, ${order}`;
  dialog.querySelector(".rows").replaceChildren(
    ...shown.map(([id, probability]) => {
      const figure = document.createElement("figure");
      const image = document.createElement("img");
      image.src = images[id];
      image.alt = `example ${id}, a ${truth}`;
      figure.append(image, element("figcaption", `${id}: ${probability.toFixed(3)}`));
      return figure;
    }),
  );
  dialog.showModal();
}

for (const button of document.querySelectorAll("button[data-cell]")) button.addEventListener("click", () => open(button));
