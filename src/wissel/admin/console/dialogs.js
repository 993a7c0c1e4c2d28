// What the page asks people.

import { forgetToken, hasToken, keepToken } from "./api.js";
import { byId } from "./dom.js";

/** Whether they really want it. The focus begins on Cancel, and Escape cancels. */
export function confirmed(title, text, verb, isDangerous) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-do").textContent = verb;
  byId("confirm-do").className = isDangerous ? "danger" : "primary";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "do"), { once: true });
  });
}

/** Asks for the token, once more if the one at hand was refused; `onToken` is called with one to try. */
export function askForToken(onToken) {
  const dialog = byId("token");
  if (dialog.open) return;
  const input = byId("token-input");
  byId("token-problem").textContent = hasToken() ? "That token was refused." : "";
  input.toggleAttribute("aria-invalid", hasToken());
  forgetToken();
  input.value = "";
  byId("token-form").onsubmit = (event) => {
    event.preventDefault();
    keepToken(input.value.trim());
    dialog.close();
    onToken();
  };
  dialog.showModal();
  input.focus();
}
