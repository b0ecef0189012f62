"use strict";

// The page is complete without this script. With it, the page renews itself when
// an exchange ends. What is open stays open, and what has the focus keeps it.
const live = document.querySelector("[data-newest]");
let pending = false;

function opened(root) {
  return [...root.querySelectorAll("details > [id]")];
}

async function renew() {
  if (pending) return;
  pending = true;
  await new Promise((resolve) => setTimeout(resolve, 100)); // several may end together
  pending = false;
  const answer = await fetch(location.href);
  if (!answer.ok) return; // it is not kept any more
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const before = new Map(opened(document).map((part) => [part.id, part.parentElement.open]));
  for (const part of opened(fresh)) {
    if (before.has(part.id)) part.parentElement.open = before.get(part.id);
  }
  const active = document.activeElement;
  const focused = active.closest("summary")?.nextElementSibling?.id;
  const href = active.getAttribute?.("href");
  fresh.querySelector("[data-newest]").replaceWith(live);
  document.querySelector("main").replaceChildren(...fresh.querySelector("main").childNodes);
  document.title = fresh.title;
  const again = focused ? document.getElementById(focused)?.previousElementSibling
    : href && [...document.querySelectorAll("main a")].find((link) => link.getAttribute("href") === href);
  again?.focus({ preventScroll: true });
}

const events = new EventSource(live.dataset.events + "?after=" + live.dataset.newest);
events.addEventListener("open", () => {
  live.className = "live";
  live.textContent = "Live";
});
events.addEventListener("error", () => {
  live.className = "faint";
  live.textContent = "Not live: reload for newer ones";
});
events.addEventListener("exchange", renew);
