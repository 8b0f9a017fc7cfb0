/* Ticks all boxes of a list at once: data-check-all names them. */
"use strict";

document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-check-all]");
  if (!all) return;
  const boxes = document.querySelectorAll(`input[type="checkbox"][name="${all.dataset.checkAll}"]:not([disabled])`);
  boxes.forEach((box) => { box.checked = all.checked; });
});
