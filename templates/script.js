// Adds a button that copies to everything with data-copy, which says what is copied.
"use strict";

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
