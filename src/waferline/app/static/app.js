// Charts, sorting and asking without leaving the page. Without it every page still answers, by its form and tables.
"use strict";
const root = document.documentElement, answer = document.getElementById("answer"), form = document.getElementById("question");
const file = document.getElementById("file");
let asked = 0;

function draw() {
  const narrow = innerWidth < 640;
  for (const place of answer.querySelectorAll(".chart")) {
    const spec = JSON.parse(place.parentElement.querySelector(".spec").textContent), layout = spec.layout;
    if (narrow) {
      fit(spec);
      place.style.height = `${layout.height}px`;
    }
    const config = { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover" };
    Plotly.newPlot(place, { ...spec, config });
    place.on("plotly_click", ({ points: [{ customdata }] }) => { if (customdata) location.assign(customdata); });
  }
  for (const head of answer.querySelectorAll("th")) {
    if (!head.textContent.trim()) continue;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }
}

function fit({ data, layout }) { // a figure for a phone
  const axes = Object.keys(layout).filter((key) => /^xaxis/.test(key)), named = data.filter((trace) => trace.showlegend).length;
  layout.font.size = 10;
  layout.margin = { l: 44, r: 10, t: 36 + 18 * named, b: 44 };
  layout.legend = { ...layout.legend, x: 0, xref: "paper", y: 1, yref: "paper", yanchor: "bottom" };
  if (new Set(axes.map((key) => (layout[key].domain || [0])[0])).size > 1) stack(layout, axes);
  for (const key of axes) {
    const y = layout[key.replace("x", "y")];
    layout[key].nticks = 4;
    if (layout[key].title) layout[key].title.font = { size: 10 };
    if (y.categoryarray) Object.assign(y, { showticklabels: true, tickvals: y.categoryarray, ticktext: y.categoryarray.map((name) => (name.length > 18 ? name.slice(0, 8) + "…" + name.slice(-9) : name)) });
  }
  layout.legend.y = 1 + 26 / layout.height; // above the titles of panels
  for (const note of layout.annotations || []) if (note.xref === "paper") note.font = { size: 11 };
}

function stack(layout, axes) { // panels that stand side by side go one below another on a phone
  const rows = axes.length;
  axes.forEach((key, n) => {
    const top = 1 - n / rows, low = 1 - (n + 0.72) / rows, y = layout[key.replace("x", "y")];
    const titled = layout.annotations.find((a) => a.xref === "paper" && Math.abs(a.y - y.domain[1]) < 1e-9 && Math.abs(a.x - layout[key].domain[0]) < 1e-9 && !a.stacked);
    layout[key].domain = [0, 1];
    y.domain = [low, top];
    if (titled) Object.assign(titled, { x: 0, y: top, stacked: true });
  });
  layout.height = 90 + Math.max(210, 60 + 24 * ((layout.yaxis.categoryarray || []).length)) * rows;
}

const scale = { P: 1e15, T: 1e12, G: 1e9, M: 1e6, k: 1e3, m: 1e-3, "µ": 1e-6, n: 1e-9 };
function valueOf(text) { // "4.20 ms" and "1,234" as numbers
  const match = /^\$?(-?[\d,.]+)\s?([PTGMkmµn])?/.exec(text.replace("−", "-"));
  if (!match) return NaN;
  const billions = /^\$?[\d,.]+ B$/.test(text) ? 1e9 : 1;
  return parseFloat(match[1].replace(/,/g, "")) * (scale[match[2]] || billions);
}
function sort(head) {
  const body = head.closest("table").tBodies[0], column = head.cellIndex, words = head.classList.contains("words");
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => (words ? row.cells[column].textContent : valueOf(row.cells[column].textContent));
  const order = (a, b) => (words ? key(a).localeCompare(key(b)) : (Number.isNaN(key(a)) ? 1 : Number.isNaN(key(b)) ? -1 : key(a) - key(b)));
  body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
}

async function ask(url, push) {
  const mine = ++asked, body = file && file.files[0];
  answer.setAttribute("aria-busy", "true");
  let text;
  try {
    const options = body ? { method: "POST", body: body.slice(0, 32 << 20), headers: { "X-Size": String(body.size) } } : {};
    text = await (await fetch(url, options)).text();
  } catch {
    text = "<div id=answer><p class='sentence alarm' role=alert>The app does not answer: is it still running?</p></div>";
  }
  if (mine !== asked) return;
  const page = new DOMParser().parseFromString(text, "text/html"), found = page.getElementById("answer");
  if (push) history.pushState(null, "", url);
  if (found) answer.replaceChildren(...found.childNodes);
  else answer.textContent = text;
  answer.removeAttribute("aria-busy");
  draw();
}

addEventListener("click", async (event) => { // files of an answer to a model of the reader's own: it goes with the question
  const link = event.target.closest("a[download]"), body = file && file.files[0];
  if (!link || !body || link.href.startsWith("blob:")) return;
  event.preventDefault();
  const told = await fetch(link.href, { method: "POST", body: body.slice(0, 32 << 20), headers: { "X-Size": String(body.size) } });
  const given = document.createElement("a");
  given.href = URL.createObjectURL(await told.blob());
  given.download = /filename="([^"]+)"/.exec(told.headers.get("Content-Disposition") || "")?.[1] || "waferline.txt";
  given.click();
  URL.revokeObjectURL(given.href);
});

function here() {
  const given = [...new FormData(form)].filter(([name, value]) => value !== "" || form.elements[name].defaultValue !== "");
  return form.action + "?" + new URLSearchParams(given);
}
if (form) {
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(here(), true); });
  form.addEventListener("change", () => ask(here(), true));
}
addEventListener("popstate", () => location.reload());

document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

function dark(on) {
  root.dataset.theme = on ? "dark" : "light";
  document.cookie = `dark=${on ? 1 : 0}; path=/; max-age=31536000; samesite=strict`;
}
document.getElementById("theme").addEventListener("click", () => { dark(root.dataset.theme !== "dark"); ask(location.href, false); });
const chosen = /(?:^|; )dark=([01])/.exec(document.cookie);
const wanted = chosen ? chosen[1] === "1" : matchMedia("(prefers-color-scheme: dark)").matches;
if (wanted !== (root.dataset.theme === "dark")) { dark(wanted); ask(location.href, false); } else draw();
