"use strict";

// The request beside a form shows what is typed. Without this script a button does.
const bytes = new TextEncoder();

function base64url(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// encode is application/x-www-form-urlencoded. An … stands for what the page does not show.
function encode(text) {
  return new URLSearchParams([["", text]]).toString().slice(1).replaceAll("%E2%80%A6", "…");
}

function showRequest(form, request) {
  const apart = new Set();
  for (const part of request.querySelectorAll("[data-value]")) {
    part.textContent = form.elements[part.dataset.value].value;
    apart.add(part.dataset.value);
  }
  const pairs = request.querySelector("[data-pairs]");
  if (!pairs) return;
  pairs.replaceChildren();
  for (const input of form.querySelectorAll(".field input")) {
    if (!input.value || apart.has(input.name) || input.type === "password") continue;
    if (pairs.hasChildNodes()) pairs.append("&", document.createElement("wbr"));
    pairs.append(encode(input.name) + "=" + encode(input.value));
  }
}

async function showHash(form) {
  const hash = await crypto.subtle.digest("SHA-256", bytes.encode(form.elements.code_verifier.value));
  form.querySelector("[data-hash]").textContent = hex(hash);
  form.querySelector("[data-challenge]").textContent = base64url(hash);
}

for (const form of document.querySelectorAll(".step form")) {
  const request = form.querySelector("[data-request]");
  form.addEventListener("input", () => {
    if (request) showRequest(form, request);
    if (form.querySelector("[data-hash]")) showHash(form);
  });
}

// A token of the implicit grant comes in the fragment, which only a script can read.
const fragment = new URLSearchParams(location.hash.slice(1));
const field = document.getElementById("fragment-access_token");
if (field && fragment.has("access_token")) {
  field.value = fragment.get("access_token");
  history.replaceState(null, "", location.pathname + location.search + "#fragment");
}
