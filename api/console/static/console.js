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

// A filter form is sent when a value changes; without this, with its button. A day changes with each digit that is typed.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto-submit]");
  if (form && event.target.type !== "date") form.requestSubmit();
});

document.addEventListener("DOMContentLoaded", () => focusOnErrors(document));
document.addEventListener("htmx:afterSettle", (event) => focusOnErrors(event.detail.elt));
