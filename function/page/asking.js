// Asking: requests to the server, each again after its time, and what is said when one fails.

const OLD_AFTER_MS = 30_000; // without an answer for so long, what is shown is not now
const PATIENCE_MS = 10_000;
const RETRY_MS = 3_000;

let polls = [];
let serverAhead_ms = 0;

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status; // 0: no answer at all
  }
}
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS), ...options });
  } catch {
    throw new Refused(0, "no answer");
  }
  const date = Date.parse(answer.headers.get("Date") ?? "");
  if (date) serverAhead_ms = date - Date.now();
  const body = await answer.json().catch(() => null); // null: cut short, or not our server's
  if (!answer.ok) throw new Refused(answer.status, body?.detail ?? `the server answered ${answer.status}`);
  if (body === null) throw new Refused(0, "no whole answer");
  return body;
}
function post(path, body) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}
function poll(every_ms, load) {
  return { every_ms, load, due: 0, busy: false, again: false, trouble: null };
}
async function run(item) {
  item.busy = true;
  try {
    await item.load();
    if (polls.includes(item)) heard(item);
  } catch (refused) {
    if (polls.includes(item)) refuse(item, refused);
  } finally {
    item.busy = false;
    item.due = item.again ? 0 : performance.now() + (item.trouble ? RETRY_MS : item.every_ms);
    item.again = false;
    draw();
  }
}
function heard(item) {
  const wasLost = isLost();
  item.trouble = null;
  polls.filter((other) => other.trouble?.status === 0).forEach((other) => { other.trouble = null; });
  if (wasLost) say("Connected again.");
}
function refuse(item, refused) {
  if (!(refused instanceof Refused)) throw refused;
  if (refused.status === 401) {
    signedOut("Your session has ended. Please sign in again.");
    return;
  }
  const since = item.trouble?.since ?? serverNow_ms();
  const words = refused.status
    ? `The server could not answer (${refused.message}). Trying again…`
    : `No connection to the server since ${clock(since, undefined)}. What you see is from before. Trying again…`;
  item.trouble = { since, status: refused.status, words };
}
function isLost() {
  return polls.some((item) => item.trouble?.status === 0);
}
function beat() { // once a second: ask what is due, and let ages grow
  if (document.hidden || !me.in) return;
  polls.filter((item) => !item.busy && performance.now() >= item.due).forEach(run);
  draw();
}
function askNow(...items) {
  items.forEach((item) => {
    item.due = 0;
    item.again = item.busy; // what is under way was asked before
  });
  beat();
}
function isOld(got) {
  return isLost() || performance.now() - got.at > OLD_AFTER_MS;
}
function since_s(got) {
  return (performance.now() - got.at) / 1000;
}
function serverNow_ms() {
  return Date.now() + serverAhead_ms;
}
