"use strict";
// Small improvements; every page works without them.

// After a mistake, the focus moves to the summary of errors; after an action, to its message, if nothing else has the focus.
function focusOnErrors(root) {
  const summary = root.querySelector("[data-error-summary]");
  if (summary) summary.focus();
}
function focusOnMessage() {
  if (document.activeElement === document.body && !location.hash) document.querySelector("#flash .flash")?.focus();
}

// A form that asks for a confirmation has its question in data-confirm. A form that writes is sent once, also by a double click: it
// can be sent again after its answer, or after SENT_MILLISECONDS without one.
const SENT_MILLISECONDS = 10000, sent = new WeakSet();
document.addEventListener("submit", (event) => {
  const form = event.target, writes = form.getAttribute("method") === "post";
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if ((writes && sent.has(form)) || (question && !window.confirm(question))) {
    event.preventDefault();
    event.stopImmediatePropagation();
  } else if (writes) {
    sent.add(form);
    setTimeout(() => sent.delete(form), SENT_MILLISECONDS);
  }
}, true);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) for (const form of document.forms) sent.delete(form);
});

// A part of the page that cannot be read because the session has ended leads to the page to sign in, except while something is
// typed into a form that writes: sending that form keeps it.
function isTyped(field) {
  if (field.options) return field.selectedIndex > 0 && !field.options[field.selectedIndex].defaultSelected;
  return field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
}
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (!event.detail.xhr.getResponseHeader("HX-Redirect")) return;
  const fields = [...document.querySelectorAll("form[method=post] :is(input, textarea, select):not([type=hidden])")];
  if (!fields.some(isTyped)) return;
  event.preventDefault();
  const note = document.createElement("p"), sign = document.createElement("strong");
  note.className = "flash warning";
  sign.className = "sign";
  sign.textContent = "Note:";
  note.append(sign, " Your session has ended. Send the form: what you have typed is kept while you sign in.");
  document.getElementById("flash").replaceChildren(note);
});

// A filter form is sent when a value changes; without this, with its button. A day and a time change with each digit that is typed.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto-submit]");
  if (!form || event.target.type.startsWith("date")) return;
  if (!form.hasAttribute("hx-get")) sessionStorage.setItem("changed", event.target.id);  // else htmx keeps the focus
  form.requestSubmit();
});
// The next page has the focus where it was: with arrow keys, a person goes through a choice step by step.
function focusOnChanged() {
  const changed = sessionStorage.getItem("changed");
  sessionStorage.removeItem("changed");
  if (changed && document.activeElement === document.body) document.getElementById(changed)?.focus({ preventScroll: true });
}

// Keys, on a page with data-keys: j and k move between the items [data-item] of a list [data-items]; another key clicks the
// element of the item whose data-key has it; ? shows them. Not while something is typed, and not if they are switched off.
function onKey(event) {
  const help = document.querySelector("[data-keys]");
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (!help || typing || event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem("keys") === "off") return;
  const item = event.target.closest("[data-item]");
  const found = item?.querySelector(`[data-key~="${CSS.escape(event.key)}"]`);
  if (event.key === "?") {
    help.open = !help.open;
    help.querySelector("summary").focus();
  } else if (event.key === "j" || event.key === "k") {
    const items = [...((item ?? document).closest?.("[data-items]") ?? document).querySelectorAll("[data-item]")];
    const next = items[item ? items.indexOf(item) + (event.key === "j" ? 1 : -1) : 0];
    (next?.querySelector("[data-focus]") ?? next)?.focus();
  } else if (found) {
    found.click();
    found.closest("details")?.querySelector("textarea")?.focus();
  } else return;
  event.preventDefault();
}

function showKeys() {
  const help = document.querySelector("[data-keys]"), box = document.querySelector("[data-keys-on]");
  if (!help) return;
  help.hidden = false;
  box.checked = localStorage.getItem("keys") !== "off";
  box.addEventListener("change", () => localStorage.setItem("keys", box.checked ? "on" : "off"));
}

// A form with data-sums says how many bills are ticked: the sum of data-bills.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-sums]"), shown = form?.querySelector("[data-sum=bills]");
  if (!shown) return;
  const ticked = [...form.querySelectorAll("[data-bills]:checked")];
  shown.textContent = ticked.reduce((sum, box) => sum + Number(box.dataset.bills), 0);
});

// A table that has more columns to the right shows a shadow there.
function markWide() {
  for (const box of document.querySelectorAll(".scroll")) {
    box.toggleAttribute("data-more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  }
}
document.addEventListener("scroll", markWide, { capture: true, passive: true });
window.addEventListener("resize", markWide);

document.addEventListener("keydown", onKey);
document.addEventListener("DOMContentLoaded", showKeys);
document.addEventListener("DOMContentLoaded", () => {
  focusOnChanged();
  focusOnErrors(document);
  focusOnMessage();
  markWide();
});
document.addEventListener("htmx:afterSettle", (event) => {
  focusOnErrors(event.detail.elt);
  markWide();
});
