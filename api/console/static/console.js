"use strict";
// Small improvements; every page works without them.

// After a mistake, the focus moves to the summary of errors; after a message, screen readers read it.
function focusOnErrors(root) {
  const summary = root.querySelector("[data-error-summary]");
  if (summary) summary.focus();
}

// A form that asks for a confirmation has its question in data-confirm.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}, true);

// A filter form is sent when a value changes; without this, with its button. A day and a time change with each digit that is typed.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto-submit]");
  if (form && !event.target.type.startsWith("date")) form.requestSubmit();
});

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

document.addEventListener("keydown", onKey);
document.addEventListener("DOMContentLoaded", showKeys);
document.addEventListener("DOMContentLoaded", () => focusOnErrors(document));
document.addEventListener("htmx:afterSettle", (event) => focusOnErrors(event.detail.elt));
