"use strict";

// A second press while the answer to the first is under way would cancel it.
// What takes longer, or led to another program, may be tried again.
addEventListener("submit", (event) => {
  const form = event.target;
  if (event.submitter?.formTarget) return; // opens another tab
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 10000);
});
addEventListener("pageshow", () => { // perhaps by going back
  for (const form of document.forms) delete form.dataset.sent;
});

// The answer that goes to a client as a form.
document.querySelector("form[data-submit]")?.requestSubmit();

// Everything with data-copy, which says what is copied, gets a button that copies it.
const announcement = document.createElement("p");
announcement.className = "hidden";
announcement.setAttribute("role", "status");
document.querySelector("main").append(announcement);

async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch { // not there without HTTPS, but on loopback
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
  }
}

for (const source of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  const label = document.createElement("span");
  const what = document.createElement("span");
  button.type = "button";
  button.className = "copy";
  label.textContent = "Copy";
  what.textContent = " " + source.dataset.copy;
  what.className = "hidden";
  button.append(label, what);
  button.addEventListener("click", async () => {
    await copy(source);
    label.textContent = "Copied";
    announcement.textContent = "Copied" + what.textContent;
    setTimeout(() => { label.textContent = "Copy"; announcement.textContent = ""; }, 2000);
  });
  source.after(button);
}
