/* The list of calls: empty filters stay out of the address, the panel, choosing rows, exports
   with a bar of progress, and the live tail. Without it there are plain links and forms. */
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const MAX_ROWS = 100;

  // Filters: an address says only what was filled in.
  const filter = byId("filter");
  if (filter) {
    filter.addEventListener("submit", () => {
      const dated = filter.elements.first.value || filter.elements.last.value;
      for (const field of filter.elements) {
        if (field.name && (field.value === "" || (dated && field.name === "days"))) field.disabled = true;
      }
    });
    filter.addEventListener("change", (event) => { if (event.target.name === "status") filter.requestSubmit(); });
    // Back in the history, the browser may show the form as it was left.
    addEventListener("pageshow", () => { for (const field of filter.elements) field.disabled = false; });
  }

  // The panel: Escape and the focus are the dialog's own.
  const panel = byId("panel");
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "panel-body" && !panel.open) { panel.showModal(); panel.scrollTop = 0; }
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (panel && panel.open && event.detail.successful && event.detail.elt.hasAttribute("data-closes-panel")) panel.close();
  });
  if (panel) panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });

  // Choosing rows.
  const boxes = () => [...document.querySelectorAll('#rows input[name="ids"]')];
  const totals = () => document.querySelector("#totals [data-calls]");
  let every = false;
  function count() {
    const all = boxes();
    const chosen = all.filter((box) => box.checked).length;
    const button = byId("batch-button");
    if (!button) return;
    wholeFilter(chosen === all.length ? chosen : 0);
    button.disabled = chosen === 0;
    byId("chosen").textContent = every ? ` (${totals().dataset.shown})` : chosen ? ` (${chosen})` : "";
    byId("all").checked = chosen > 0 && chosen === all.length;
    byId("all").indeterminate = chosen > 0 && chosen < all.length;
  }
  // All calls of the filter, where all of the page are chosen: the server is told the filter and
  // the number that stands in the totals, and refuses when it has become another.
  const alone = byId("batch") && byId("batch").dataset.confirm;
  function wholeFilter(shown) {
    const offer = byId("every");
    if (!offer) return;
    const found = totals();
    offer.hidden = !shown || !found || Number(found.dataset.calls) <= shown;
    if (offer.hidden) every = false;
    const form = byId("batch");
    offer.textContent = found ? found.dataset.every : "";
    offer.setAttribute("aria-pressed", String(every));
    form.dataset.confirm = every ? found.dataset.asks : alone && alone.replace("{count}", boxes().filter((each) => each.checked).length);
    form.elements.filter.disabled = !every;
    form.elements.expected.disabled = !every;
    form.elements.expected.value = every ? found.dataset.calls : "";
    boxes().forEach((box) => { box.disabled = every; });
    byId("all").disabled = every;
  }
  document.addEventListener("click", (event) => {
    if (event.target.id === "every") { every = !every; count(); }
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "all") boxes().forEach((box) => { box.checked = event.target.checked; });
    if (event.target.id === "all" || event.target.name === "ids") count();
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    // Other calls, or another number of them: choose again.
    if (event.detail.target.id === "list" || event.detail.target.id === "totals") every = false;
    count();
  });
  count();

  // Exports: read as they come, so that the bar tells the truth; saved when all of it is there.
  const box = byId("export");
  let reading = null;
  async function download(link) {
    const bar = byId("export-bar");
    const said = byId("export-count");
    const words = JSON.parse(box.dataset.texts);
    const number = new Intl.NumberFormat(document.documentElement.lang);
    reading = new AbortController();
    bar.removeAttribute("value");
    said.textContent = "";
    box.hidden = false;
    try {
      const answer = await fetch(link.href, { signal: reading.signal, headers: { "HX-Request": "true" } });
      if (!answer.ok) throw new Error((await answer.json()).detail);
      const total = Number(answer.headers.get("X-Total-Count"));
      const parts = [];
      // A CSV file has a line of names, and cells may hold further lines: the bar is about right.
      let lines = 0;
      const reader = answer.body.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        parts.push(part.value);
        for (const byte of part.value) if (byte === 10) lines += 1;
        const now = Math.min(lines, total);
        bar.max = total || 1;
        bar.value = now;
        said.textContent = `${number.format(now)} / ${number.format(total)}`;
      }
      const named = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
      const address = URL.createObjectURL(new Blob(parts, { type: answer.headers.get("Content-Type") }));
      const save = document.createElement("a");
      save.href = address;
      save.download = named ? named[1] : link.dataset.export;
      save.click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      toast(words.done);
    } catch (error) {
      if (error.name !== "AbortError") toast(error instanceof TypeError ? words.stopped : error.message || words.stopped, { bad: true });
    } finally {
      reading = null;
      box.hidden = true;
    }
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-export]");
    if (!link || event.ctrlKey || event.metaKey || !window.ReadableStream) return;
    event.preventDefault();
    if (!reading) download(link);
  });
  if (box) byId("export-cancel").addEventListener("click", () => { if (reading) reading.abort(); });

  // The live tail: rows come ready made from the server, which has escaped every text in them.
  const live = byId("live");
  let source = null;
  // Proxies end long answers now and then: that is no news if the browser is back by then.
  const BACK_MS = 5000;
  let gone = null;
  function lost() {
    if (!gone) gone = setTimeout(() => outOfDate(texts.offline), BACK_MS);
  }
  function back() {
    clearTimeout(gone);
    gone = null;
    offline.hidden = true;
  }
  function add(text) {
    const rows = byId("rows");
    const made = document.createElement("template");
    made.innerHTML = text;
    const row = made.content.querySelector("tr");
    if (!rows || !row) return;
    const known = [...rows.children].find((each) => each.dataset.call === row.dataset.call);
    if (known) known.remove();
    row.classList.add("fresh");
    rows.prepend(row);
    while (rows.children.length > MAX_ROWS) rows.lastElementChild.remove();
    rows.closest(".scroll").hidden = false;
    htmx.process(row);
    every = false;
    count();
    renewTotals();
  }
  // The totals follow what comes, but ask no more often than this.
  const TOTALS_MS = 5000;
  let waiting = null;
  let renewedAt = -TOTALS_MS;
  function renewTotals() {
    if (waiting) return;
    waiting = setTimeout(() => {
      waiting = null;
      renewedAt = performance.now();
      htmx.trigger("#totals", "renew");
    }, Math.max(0, renewedAt + TOTALS_MS - performance.now()));
  }
  function stop() {
    if (source) source.close();
    source = null;
    clearTimeout(gone);
    gone = null;
    byId("totals").setAttribute("aria-live", "polite");
    live.setAttribute("aria-pressed", "false");
    live.textContent = live.dataset.off;
  }
  function follow() {
    source = new EventSource(live.dataset.live);
    source.addEventListener("call", (event) => add(event.data));
    source.addEventListener("error", () => {
      // Browsers come back by themselves, unless they were refused.
      if (source && source.readyState === EventSource.CLOSED) { stop(); toast(texts.failed, { bad: true }); } else lost();
    });
    source.addEventListener("open", back);
    source.addEventListener("away", () => outOfDate(texts.away));
    source.addEventListener("alive", back);
    // Readers of screens are not told every number while they change by themselves.
    byId("totals").setAttribute("aria-live", "off");
    live.setAttribute("aria-pressed", "true");
    live.textContent = live.dataset.on;
  }
  if (live && window.EventSource) {
    live.hidden = false;
    live.addEventListener("click", () => (source ? stop() : follow()));
    addEventListener("pagehide", stop);
  }
})();
