/* What was unfolded stays so when its part of the page is renewed. */
"use strict";

document.addEventListener("htmx:beforeSwap", (event) => {
  const open = [...event.detail.target.querySelectorAll("details[id][open]")].map((each) => each.id);
  if (!open.length) return;
  document.addEventListener("htmx:afterSwap", () => {
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  }, { once: true });
});
