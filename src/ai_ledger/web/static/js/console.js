/* What pages do beyond htmx: toasts with undo, confirmation, the menu, charts, and saying so
   when the console cannot be reached. No page needs it to be read. */
"use strict";

const texts = JSON.parse(document.body.dataset.texts);

function toast(message, { bad = false, undo = null, detail = "" } = {}) {
  // One error at a time: the last says what is the matter now.
  if (bad) document.querySelectorAll("#toasts .toast-bad").forEach((each) => each.remove());
  const box = document.createElement("div");
  box.className = bad ? "toast toast-bad" : "toast";
  const text = document.createElement("p");
  text.textContent = message;
  if (detail && detail !== message) {
    const small = document.createElement("small");
    small.textContent = detail;
    text.append(small);
  }
  box.append(text);
  if (undo) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = texts.undo;
    button.addEventListener("click", () => {
      box.remove();
      htmx.ajax("POST", undo.path, { values: undo.fields, swap: "none", source: document.body });
    });
    box.append(button);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", texts.close);
  close.addEventListener("click", () => box.remove());
  box.append(close);
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), undo || bad ? 20000 : 6000);
}

// The server names what was done in a header; see `rendering.done`.
document.addEventListener("done", (event) => {
  // What went wrong before has been put right.
  document.querySelectorAll("#toasts .toast-bad").forEach((each) => each.remove());
  toast(event.detail.message, { undo: event.detail.undo });
});

document.addEventListener("htmx:responseError", (event) => {
  const answer = event.detail.xhr;
  let title = "", detail = "";
  try {
    ({ title = "", detail = "" } = JSON.parse(answer.responseText));
  } catch { /* no problem details: the plain words will do */ }
  if (answer.status === 401) { location.reload(); return; }
  // What renews itself would say the same every time: it says it in one place.
  if (event.detail.elt.matches("[data-poll]")) {
    if (answer.status >= 500) outOfDate(`${texts.away} ${detail}`);
    return;
  }
  toast(title || detail || texts.failed, { bad: true, detail });
});

// data-poll: what renews itself. It rests while nobody looks, and says when it cannot.
const offline = document.getElementById("offline");

function outOfDate(message) {
  if (offline.textContent !== message) offline.textContent = message;
  offline.hidden = false;
}

function renew() {
  document.querySelectorAll("[data-poll]").forEach((each) => htmx.trigger(each, "renew"));
}

document.addEventListener("htmx:sendError", () => outOfDate(texts.offline));
document.addEventListener("htmx:timeout", () => outOfDate(texts.offline));
document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) offline.hidden = true; });
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt.matches("[data-poll]")) event.preventDefault();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
window.addEventListener("online", renew);

// data-confirm: ask first, in a dialog that says what will happen.
document.addEventListener("htmx:confirm", (event) => {
  // The button of a form may ask, too: others of the same form need not.
  const asked = (event.detail.triggeringEvent?.submitter || event.detail.elt).closest("[data-confirm]");
  if (!asked) return;
  event.preventDefault();
  confirmed(asked.dataset.confirm, deed(event.detail.triggeringEvent?.submitter, asked)).then((yes) => { if (yes) event.detail.issueRequest(true); });
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const asked = (event.submitter || form).closest("[data-confirm]");
  if (!asked || form.matches("[hx-post], [hx-get], dialog form") || form.dataset.confirmed) return;
  event.preventDefault();
  confirmed(asked.dataset.confirm, deed(event.submitter, asked)).then((yes) => {
    if (!yes) return;
    form.dataset.confirmed = "1";
    form.requestSubmit(event.submitter);
    delete form.dataset.confirmed;
  });
});

// What the button that asked is called, as the answer to its question.
function deed(button, asked) {
  const named = (button || asked.closest("button") || asked.querySelector("button:not([type=button])"))?.cloneNode(true);
  named?.querySelectorAll(".hidden-text").forEach((each) => each.remove());
  return named?.textContent.trim() || named?.getAttribute("aria-label") || texts.confirm;
}

function confirmed(text, yes) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = text;
  dialog.querySelector("button[value=yes]").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-toggle]");
  if (button) {
    const on = document.body.classList.toggle(button.dataset.toggle);
    button.setAttribute("aria-expanded", String(on));
  }
});

// Forms of filters and ranges: what changes in them is sent at once.
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form && form.hasAttribute("data-submit-on-change")) form.requestSubmit();
});

// Charts: drawn from data-chart, again when that has changed, and when the theme changes.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text-2"), line: of("--line"), surface: of("--surface"), series: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => of(`--chart-${n}`)) };
}

const language = document.documentElement.lang;
const compact = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 2 });

// With the digits that tell one step from the next: sums of money may be less than a cent.
function tick(value, all) {
  const step = all.length > 1 ? Math.abs(all[1].value - all[0].value) : 0;
  if (step >= 1000 && Math.abs(value) >= 10000) return compact.format(value);
  let digits = 0;
  while (digits < 9 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6 * step * 10 ** digits) digits += 1;
  return new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

const exact = new Intl.NumberFormat(language, { maximumSignificantDigits: 15 });

// In the middle: names of models differ at their ends.
function short(name, most = 24) {
  const signs = [...name];
  if (signs.length <= most) return name;
  const head = Math.ceil(most * .4);
  return `${signs.slice(0, head).join("")}…${signs.slice(head + 1 - most).join("")}`;
}

function dataset(data, series, n, ink) {
  const type = series.type || data.type;
  const round = type === "doughnut";
  const colour = ink.series[(series.colour ? series.colour - 1 : n) % 8];
  const shared = { type, label: short(series.label), data: series.values };
  if (round) {
    const order = data.labels.map((_, place) => ink.series[place % 8]);
    return { ...shared, backgroundColor: order, borderColor: ink.surface, borderWidth: 2 };
  }
  const line = type === "line";
  const axis = series.axis === "right" ? "right" : data.across ? undefined : "y";
  return {
    ...shared, ...(axis ? { yAxisID: axis } : {}), borderColor: colour, spanGaps: true,
    // Lines lie on bars, and are not put on top of each other.
    order: line ? 0 : 1, stack: data.stacked && series.axis !== "right" ? "all" : `own-${n}`,
    backgroundColor: line && !data.stacked ? `${colour}1f` : colour,
    borderWidth: line ? 2 : 0, pointRadius: data.labels.length > 40 ? 0 : 2.5, pointBackgroundColor: colour, tension: .25,
    fill: line && (Boolean(data.stacked) || data.series.length === 1), borderRadius: line ? 0 : 2, maxBarThickness: 34,
  };
}

function chartOptions(data, ink) {
  const round = data.type === "doughnut";
  const axis = ({ unit = "", ticks = {}, ...more } = {}) => ({
    grid: { color: ink.line, drawTicks: false }, border: { display: false }, beginAtZero: true, stacked: Boolean(data.stacked),
    ticks: { color: ink.text, padding: 6, maxTicksLimit: 6, callback: (value, _, all) => tick(value, all) + unit, ...ticks }, ...more,
  });
  // Names are told as they are, and numbers shortened.
  const named = (more = {}) => { const found = axis(more); delete found.ticks.callback; return found; };
  const wholes = { ticks: data.whole ? { precision: 0 } : {} };
  const name = { grid: { display: false }, ticks: { maxTicksLimit: 12, maxRotation: 0, autoSkipPadding: 12 } };
  const scales = data.across ? { x: axis(wholes), y: named({ grid: { display: false } }) } : { x: named(name), y: axis(wholes) };
  if (data.series.some((series) => series.axis === "right"))
    scales.right = axis({ position: "right", grid: { display: false }, stacked: false, ...(data.right || {}) });
  const several = data.series.length > 1 || round;
  return {
    responsive: true, maintainAspectRatio: false, animation: false, cutout: round ? "64%" : undefined, locale: language,
    interaction: { mode: round ? "nearest" : "index", intersect: round, axis: data.across ? "y" : "x" },
    indexAxis: data.across ? "y" : "x",
    plugins: {
      legend: { display: several && data.legend !== false, position: round ? "right" : "bottom", labels: { color: ink.text, boxWidth: 10, boxHeight: 10, padding: 12, usePointStyle: true, pointStyle: "rectRounded", sort: (one, other) => one.datasetIndex - other.datasetIndex } },
      tooltip: {
        // A stack of eight with seven zeros says less than its one amount.
        filter: (item) => !data.stacked || item.raw !== 0,
        callbacks: {
          label: (item) => {
            const series = data.series[item.datasetIndex];
            const value = series.shown ? series.shown[item.dataIndex] : `${exact.format(item.raw)}${data.unit ? ` ${data.unit}` : ""}`;
            return `${short(round ? item.label : series.label, 48)}: ${value}`;
          },
        },
      },
    },
    scales: round ? {} : scales,
  };
}

const drawn = new WeakMap();

function draw(canvas) {
  if (!window.Chart) return;
  const ink = colours();
  const known = Chart.getChart(canvas);
  const look = JSON.stringify(ink);
  const before = drawn.get(canvas);
  if (known && before && before.data === canvas.dataset.chart && before.look === look) return;
  drawn.set(canvas, { data: canvas.dataset.chart, look });
  const data = JSON.parse(canvas.dataset.chart);
  const content = { labels: data.labels, datasets: data.series.map((series, n) => dataset(data, series, n, ink)) };
  if (known && before && before.look === look && known.config.type === data.type) {
    known.data = content;
    known.options = chartOptions(data, ink);
    known.update("none");
    return;
  }
  if (known) known.destroy();
  new Chart(canvas, { type: data.type, data: content, options: chartOptions(data, ink) });
}

function drawAll() {
  if (!window.Chart) return;
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  for (const each of Object.values(Chart.instances)) if (!each.canvas.isConnected) each.destroy();
  document.querySelectorAll("canvas[data-chart]").forEach(draw);
}

document.addEventListener("DOMContentLoaded", drawAll);
document.addEventListener("htmx:afterSettle", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
