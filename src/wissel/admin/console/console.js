// Asks again and again, and hands each answer to the part that shows it.

import { get, hasToken, readiness } from "./api.js";
import { Configuration } from "./configuration.js";
import { askForToken } from "./dialogs.js";
import { byId, el } from "./dom.js";
import { Experiments } from "./experiments.js";
import { Explorer } from "./explorer.js";
import { Failover } from "./failover.js";
import { Limits } from "./limits.js";
import { Recent } from "./recent.js";
import { Rollouts } from "./rollouts.js";
import { Tiers } from "./tiers.js";
import { Traffic } from "./traffic.js";

const EVERY_MS = 2000;

const traffic = new Traffic();
const recent = new Recent();
const rollouts = new Rollouts();
const configuration = new Configuration();
const explorer = new Explorer();
const experiments = new Experiments();
const failover = new Failover();
const limits = new Limits();
const tiers = new Tiers();

let timer = 0;

async function poll() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      await look();
    } catch (problem) {
      if (problem.status === 401) {
        tell("warn", "locked", []);
        askForToken(poll);
        return;
      }
      if (problem.status === undefined) throw problem;
      const what = problem.status ? `wissel answers with an error: ${problem.message}` : "wissel does not answer. What is shown is what was known last.";
      tell("bad", problem.status ? "error" : "unreachable", [["bad", "No connection.", what]]);
    }
  }
  clearTimeout(timer);
  timer = setTimeout(poll, EVERY_MS);
}

async function look() {
  const ready = await readiness();
  const [activity, config, standing] = await Promise.all([get("/v1/activity"), get("/v1/config"), standings()]);
  traffic.show(activity);
  recent.show(activity);
  configuration.show(config);
  explorer.offer(config);
  if (standing.away) rollouts.away("Where the rollouts stand is not known while the store is away.");
  else rollouts.show(standing, Date.now() / 1000);
  failover.show(activity);
  limits.show(config, activity);
  tiers.show(activity);
  await experiments.poll();
  byId("revision").textContent = config.revision;
  const isReady = ready.status === "ready";
  tell(!isReady ? "bad" : standing.away || config.problem ? "warn" : "good", ready.status, noticesOf(ready, config, standing));
}

/** The rollouts, or why they are not known: with the store away everything else goes on. */
async function standings() {
  try {
    return await get("/v1/rollouts");
  } catch (problem) {
    if (problem.code === "store_away") return { away: problem.message };
    throw problem;
  }
}

function noticesOf(ready, config, standing) {
  const notices = [];
  if (ready.status !== "ready") notices.push(["bad", "Not ready.", "No new traffic should come here."]);
  if (standing.away) {
    notices.push(["warn", "The store is away.", `Requests are served as before; rollouts stand still and cannot be moved from here. (${standing.away})`]);
  }
  if (config.problem) notices.push(["bad", "The configuration file is not in use.", config.problem]);
  const workers = ready.workers ?? [];
  if (workers.length > 1) {
    const running = workers.filter((each) => each.status === "ready").length;
    notices.push(["info", `${running} of ${workers.length} workers are ready.`, "Live traffic and latest decisions are those of the one that answers; rollouts are everybody's."]);
  }
  return notices;
}

let told = "";

/** What the header and the notices say; said again only when it changes, as screen readers read it out. */
function tell(tone, status, notices) {
  const said = JSON.stringify([tone, status, notices]);
  if (said === told) return;
  told = said;
  const health = byId("health");
  health.className = `badge ${tone}`;
  health.textContent = status;
  document.title = tone === "good" ? "wissel" : `${status} · wissel`;
  byId("notices").replaceChildren(...notices.map(([kind, title, text]) => el("p", { class: `notice ${kind}` }, el("strong", {}, title), text)));
}

const THEMES = ["auto", "light", "dark"];

function showTheme() {
  const now = document.documentElement.dataset.theme ?? "auto";
  byId("theme").textContent = `Theme: ${now}`;
}

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
  if (next === "auto") {
    delete root.dataset.theme;
    localStorage.removeItem("wissel-theme");
  } else {
    root.dataset.theme = next;
    localStorage.setItem("wissel-theme", next);
  }
  showTheme();
});

// Who presses Escape is asked again only when they come back to the page.
byId("token").addEventListener("close", () => {
  if (!hasToken()) tell("warn", "locked", [["warn", "Locked.", "Reload the page to enter the admin token."]]);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
showTheme();
poll();
