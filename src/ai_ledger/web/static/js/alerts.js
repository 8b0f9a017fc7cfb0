/* Ticks all boxes of a list at once: data-check-all names them. Its buttons rest while none is. */
"use strict";

function ticked() {
  document.querySelectorAll("[data-check-all]").forEach((all) => {
    const boxes = [...document.querySelectorAll(`input[type="checkbox"][name="${all.dataset.checkAll}"]:not([disabled])`)];
    const chosen = boxes.filter((box) => box.checked).length;
    all.form.querySelectorAll("button").forEach((button) => { button.disabled = chosen === 0; });
    all.disabled = boxes.length === 0;
    all.checked = chosen > 0 && chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  });
}

document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-check-all]");
  if (all) {
    const boxes = document.querySelectorAll(`input[type="checkbox"][name="${all.dataset.checkAll}"]:not([disabled])`);
    boxes.forEach((box) => { box.checked = all.checked; });
  }
  ticked();
});
document.addEventListener("htmx:afterSettle", ticked);
// Back in the history, the browser may show the boxes as they were left.
addEventListener("pageshow", ticked);
ticked();
