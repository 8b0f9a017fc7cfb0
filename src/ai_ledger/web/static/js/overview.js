/* The overview renews itself without being noticed: what has not changed stays the same
   element, with its focus, its place, its open <details> and its chart. */
"use strict";

// hx-swap="morph": the target's content becomes that of the answer, element by element.
htmx.defineExtension("morph", {
  isInlineSwap: (style) => style === "morph",
  handleSwap: (style, target, fragment) => {
    if (style !== "morph") return false;
    const added = [];
    const around = ancestors(document.activeElement, target);
    morphChildren(target, fragment, added);
    if (around.length && !around[0].isConnected) focusNear(around);
    return added;
  },
});

function morphChildren(old, fresh, added) {
  const wanted = new Set([...fresh.children].map((each) => each.id).filter(Boolean));
  let here = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    // What has an id and is not in the answer has gone, and the space around it with it.
    while (here && ((here.id && here.id !== next.id && !wanted.has(here.id)) || (isBlank(here) && !isBlank(next)))) here = dropped(here);
    if (here && isSame(here, next)) {
      morph(here, next, added);
      here = here.nextSibling;
      continue;
    }
    const known = next.id && [...old.children].find((each) => isSame(each, next));
    if (known) {
      const focused = document.activeElement;
      old.insertBefore(known, here);
      if (known.contains(focused)) focused.focus({ preventScroll: true });
      morph(known, next, added);
      continue;
    }
    old.insertBefore(next, here);
    added.push(next);
    // An element without an id in this place has been replaced, not moved.
    if (here && !here.id && !next.id && !isBlank(next)) here = dropped(here);
  }
  while (here) here = dropped(here);
}

function dropped(node) {
  const following = node.nextSibling;
  node.remove();
  return following;
}

function isBlank(node) {
  return node.nodeType === Node.TEXT_NODE && !node.nodeValue.trim();
}

// htmx keeps the address that an element had when it came, so one with another is another.
const ADDRESSES = ["hx-get", "hx-post", "action"];

function isSame(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || (old.id || "") !== (next.id || "")) return false;
  return old.nodeType !== Node.ELEMENT_NODE || ADDRESSES.every((name) => old.getAttribute(name) === next.getAttribute(name));
}

function morph(old, next, added) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!next.hasAttribute(name) && !isOurs(old, name)) old.removeAttribute(name);
  for (const { name, value } of [...next.attributes])
    if (old.getAttribute(name) !== value && !isOurs(old, name)) old.setAttribute(name, value);
  if (old.nodeName !== "CANVAS") morphChildren(old, next, added);
}

// What the reader or a script has set, and the answer knows nothing of.
function isOurs(element, name) {
  if (element.nodeName === "CANVAS") return name === "width" || name === "height" || name === "style";
  return name === "open" || name === "checked" || (name === "class" && element.classList.contains("htmx-request"));
}

// Where the element with the focus has gone, the focus stays as near as can be.
function ancestors(element, target) {
  if (element === target || !target.contains(element)) return [];
  const found = [];
  for (let each = element; each && each !== target; each = each.parentElement) found.push(each);
  return found;
}

function focusNear(around) {
  for (const each of around) {
    const nearest = each.isConnected && each.querySelector("button, a[href], summary");
    if (nearest) { nearest.focus({ preventScroll: true }); return; }
  }
}
