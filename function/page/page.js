"use strict";
// The web page's one script: asks the API, and patches what changed into the page. Whatever a device or a pusher can
// name goes through textContent alone. An old number is never shown as if it were now: it is grey, and says its time.

const SITES_EVERY_MS = 10_000;
const FLEET_EVERY_MS = 60_000;
const SITE_EVERY_MS = 5_000;
const HISTORY_EVERY_MS = 300_000;
const OLD_AFTER_MS = 30_000; // without an answer for so long, what is shown is not now
const PATIENCE_MS = 10_000;
const RETRY_MS = 3_000;
const REASON_HOLDS_MS = 60_000;
const SITES_A_PAGE = 50;
const REASONS_AT_ONCE = 20; // sites that are not live are asked for their reason, so many at a time
const MARK = "nrgkick-signed-in"; // holds no secret: it only spares a stranger's browser a request that must fail

const TITLES = { inverters: "Inverter", energy_meters: "Meter", batteries: "Battery", smart_loads: "Smart load", load_power_w: "House load" };
const POWER_KEYS = { inverters: "inv_power_ac_w", energy_meters: "grid_power_w", batteries: "bat_power_w", smart_loads: "sl_power_w", load_power_w: "load_power_w" };
const STATES = { live: "Live", partial: "Partial", stale: "Stale", new: "New" };
const VALUE_WORDS = {
  pv_energy_day_wh: ["today", energy], pv_energy_total_wh: ["in all", energy],
  battery_connected: ["battery behind it", (yes) => (yes ? "yes" : "no")], soc: ["charged", percent],
  mode: ["mode", String], temp: ["at", (value) => `${number(value, 1)} °C`],
};

const $ = (id) => document.getElementById(id);
const me = { site: null, in: false }; // whose session this is; site "*": every site
let pages = [""]; // the page tokens of the list up to the one that is shown
let list = null; // {answer, at}: the last answer and when it came; the same for these:
let fleet = null;
let seen = null;
let missing = false; // the site is not there (yet)
let day = null; // the day that is shown; null: today
let reasons = new Map();
let polls = [];
let serverAhead_ms = 0;

// ---------------------------------------------------------------- words

function number(value, digits = 0) {
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}
function watts(value) {
  return Math.abs(value) < 100_000 ? `${number(value)} W` : `${number(value / 1000, 1)} kW`;
}
function energy(wh) {
  return wh < 100_000_000 ? `${number(wh / 1000, 1)} kWh` : `${number(wh / 1_000_000, 1)} MWh`;
}
function signed(value) {
  return watts(value).replace("-", "−");
}
function percent(value) {
  return `${number(value, value % 1 ? 1 : 0)} %`;
}
function ago(s) {
  if (s < 100) return `${Math.max(0, Math.round(s))} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} days`;
}
function serverNow_ms() {
  return Date.now() + serverAhead_ms;
}
function clock(time, zone) {
  const at = new Date(time);
  const sameDay = dayOf(at, zone) === dayOf(new Date(serverNow_ms()), zone);
  const style = sameDay ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat("en-GB", { ...style, timeZone: zone }).format(at);
}
function humane(words, zone) { // times as the server writes them, as a clock of the site shows them
  return words.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (time) => clock(time, zone));
}
function dayOf(at, zone) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(at);
}
function known(zone) {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return zone;
  } catch {
    return "UTC"; // a zone that is younger than the browser
  }
}
function dayAfter(date, days) {
  const at = new Date(`${date}T12:00:00Z`);
  at.setUTCDate(at.getUTCDate() + days);
  return at.toISOString().slice(0, 10);
}

// ---------------------------------------------------------------- patching

function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}
function show(node, yes) {
  if (node.hidden === yes) node.hidden = !yes;
}
function mark(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}
function rows(body, template, items, key, fill) {
  const left = new Map([...body.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const row = left.get(key(item)) ?? $(template).content.firstElementChild.cloneNode(true);
    left.delete(key(item));
    mark(row, "key", key(item));
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
    fill(row, item);
  });
  left.forEach((row) => row.remove());
}
function tiles(list_, pairs) {
  rows(list_, "tile", pairs, ([title]) => title, (row, [title, words, look]) => {
    text(row.firstElementChild, title);
    text(row.lastElementChild, words);
    row.className = look ?? "";
  });
}
function say(words) {
  text($("said"), words);
}

// ---------------------------------------------------------------- asking

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
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.detail ?? `the server answered ${answer.status}`);
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

// ---------------------------------------------------------------- who is here

function signedOut(words) {
  me.in = false;
  polls = [];
  list = fleet = seen = null;
  localStorage.removeItem(MARK);
  ["sites", "site", "start", "sign-out", "updated", "trouble"].forEach((id) => show($(id), false));
  show($("sign-in"), true);
  document.title = "Sign in · nrgkick-cloud";
  text($("sign-in-error"), window.isSecureContext
    ? words
    : "Over plain HTTP a token would be readable on its way. Open this page over HTTPS, or on the server's own machine.");
  $("sign-in-form").querySelector("button").disabled = !window.isSecureContext;
  $("token").focus();
}
async function signIn(event) {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!token) return;
  text($("sign-in-error"), "");
  try {
    Object.assign(me, await post("/sign-in", { token }), { in: true });
  } catch (refused) {
    const words = refused.status ? refused.message : "the server does not answer; is it running?";
    text($("sign-in-error"), `Not signed in: ${words}`);
    return;
  }
  $("token").value = "";
  localStorage.setItem(MARK, "yes");
  say("Signed in.");
  enter();
}
async function signOut() {
  try {
    await post("/sign-out", {});
    signedOut("");
  } catch {
    polls[0].trouble = { since: serverNow_ms(), status: 503, words: "You are still signed in: the server did not answer." };
    draw();
  }
}
async function start() {
  if (!localStorage.getItem(MARK)) {
    signedOut("");
    return;
  }
  try {
    Object.assign(me, await ask("/api/v1/whoami"), { in: true });
    enter();
  } catch (refused) {
    if (refused.status === 401) {
      signedOut("Your session has ended. Please sign in again.");
    } else {
      text($("trouble"), `The server could not answer (${refused.message}). Trying again…`);
      show($("trouble"), true);
      setTimeout(start, 5000);
    }
  }
}
function enter() {
  show($("trouble"), false);
  show($("sign-in"), false);
  show($("sign-out"), true);
  show($("back"), me.site === "*");
  route();
}
function wanted() { // the site that the address names, or null for the list
  if (me.site !== "*") return me.site;
  const match = /^#\/site\/([a-z0-9-]+)$/.exec(location.hash);
  return match ? match[1] : null;
}
function route() {
  if (!me.in) return;
  const name = wanted();
  seen = null;
  day = null;
  missing = false;
  ["sites", "site", "start", "updated"].forEach((id) => show($(id), false));
  ["day-chart", "week-chart", "day-totals", "week-totals"].forEach((id) => $(id).replaceChildren());
  polls = name === null
    ? [poll(SITES_EVERY_MS, loadSites), poll(FLEET_EVERY_MS, loadFleet)]
    : [poll(SITE_EVERY_MS, () => loadSite(name)), poll(HISTORY_EVERY_MS, () => loadHistory(name))];
  beat();
}

// ---------------------------------------------------------------- all sites

async function loadSites() {
  const token = pages.at(-1);
  const answer = await ask(`/api/v1/sites?page_size=${SITES_A_PAGE}&page_token=${encodeURIComponent(token)}`);
  if (token !== pages.at(-1)) return;
  list = { answer, at: performance.now() };
  const dark = answer.sites.filter((site) => ["partial", "stale"].includes(site.status));
  const holds = (known_, site) => known_.whole.status === site.status && performance.now() - known_.at < REASON_HOLDS_MS;
  reasons = new Map([...reasons].filter(([name, known_]) => dark.some((site) => site.site === name && holds(known_, site))));
  const unasked = dark.filter((site) => !reasons.has(site.site)).slice(0, REASONS_AT_ONCE);
  await Promise.all(unasked.map(async ({ site }) => {
    try {
      reasons.set(site, { whole: await ask(`/api/v1/sites/${site}`), at: performance.now() });
    } catch (refused) {
      if (refused.status !== 404) throw refused; // deleted meanwhile
    }
  }));
}
async function loadFleet() {
  fleet = { answer: await ask("/api/v1/fleet"), at: performance.now() };
}
function deviceTitle(device) {
  const numbered = device.index ? `${TITLES[device.category]} ${device.index}` : TITLES[device.category];
  return device.name || numbered;
}
function reason(whole) {
  const zone = known(whole.settings.timezone);
  const since = (device) => (device.measured_at
    ? `since ${clock(device.measured_at, zone)} (${ago((serverNow_ms() - Date.parse(device.measured_at)) / 1000)})`
    : "never read");
  const dark = whole.devices.filter((device) => !device.fresh);
  if (!dark.length) return "";
  if (dark.length === whole.devices.length) {
    const newest = dark.reduce((one, other) => ((one.measured_at ?? "") > (other.measured_at ?? "") ? one : other));
    const why = dark.every((device) => device.withdrawn) ? "its pusher cannot read any device" : "nothing heard of its devices";
    return newest.measured_at ? `${why}, ${since(newest)}` : why;
  }
  const words = dark.slice(0, 2).map((device) =>
    `${deviceTitle(device)} ${device.withdrawn ? "cannot be read" : "is silent"}, ${since(device)}`);
  if (dark.length > 2) words.push(`${dark.length - 2} more`);
  return words.join("; ");
}
function drawState(node, status, old) {
  mark(node, "state", old ? "new" : status);
  text(node, old ? `was ${STATES[status].toLowerCase()}` : STATES[status]);
}
function drawPower(node, value, old) {
  text(node, value === null ? "–" : watts(value));
  node.classList.toggle("unknown", old || value === null);
}
function drawSites() {
  show($("sites"), Boolean(list));
  if (!list) return;
  const { sites, next_page_token: more } = list.answer;
  const old = isOld(list);
  const empty = !sites.length && pages.length === 1;
  drawStart(empty, null);
  show($("sites"), !empty);
  show($("sites-list"), !empty);
  const dark = sites.filter((site) => site.status !== "live");
  const shown = $("only-trouble").checked ? dark : sites;
  text($("sites-count"), `${sites.length} ${pages.length > 1 || more ? "on this page" : sites.length === 1 ? "site" : "sites"}, `
    + (dark.length ? `${dark.length} not live` : "all live"));
  rows($("sites-rows"), "site-row", shown, (site) => site.site, (row, site) => {
    const link = row.querySelector("a");
    const href = `#/site/${site.site}`;
    if (link.getAttribute("href") !== href) link.setAttribute("href", href);
    text(link, site.name || site.site);
    text(row.querySelector(".name"), site.name && site.name !== site.site ? site.site : "");
    drawState(row.querySelector(".state"), site.status, old);
    const heard = site.updated_at ? `heard ${ago((serverNow_ms() - Date.parse(site.updated_at)) / 1000)} ago` : "never heard of";
    const why = reasons.get(site.site);
    text(row.querySelector(".since"), site.status !== "live" && why ? reason(why.whole) || heard : heard);
    row.classList.toggle("old", old);
    row.querySelectorAll("[data-of]").forEach((cell) => {
      const of = cell.dataset.of;
      const value = site.power[of];
      const charged = of === "battery_w" && site.soc !== null ? percent(Math.round(site.soc)) : "";
      const direction = of === "grid_w" ? way(value, "drawn", "fed in") : of === "battery_w" ? way(value, "discharging", "charging") : "";
      drawPower(cell.querySelector(".watts"), value === null ? null : Math.abs(value), old);
      text(cell.querySelector(".small"), [direction, charged].filter(Boolean).join(" · "));
    });
  });
  show($("pages"), pages.length > 1 || Boolean(more));
  $("previous").disabled = pages.length === 1;
  $("next").disabled = !more;
  drawUpdated(list, undefined);
  document.title = `${dark.length ? `(${dark.length}) ` : ""}Sites · nrgkick-cloud`;
}
function drawFleet() {
  show($("fleet"), Boolean(fleet));
  if (!fleet) return;
  const { sites, fresh, power } = fleet.answer;
  const old = isLost() || performance.now() - fleet.at > FLEET_EVERY_MS + OLD_AFTER_MS;
  const cell = (of) => $("fleet").querySelector(`[data-of=${of}]`);
  text(cell("sites"), number(sites));
  text(cell("fresh"), number(fresh));
  ["pv_w", "grid_w", "battery_w", "load_w"].forEach((of) => drawPower(cell(of), power[of] === null ? null : Math.abs(power[of]), old));
  text(cell("grid_way"), way(power.grid_w, "drawn", "fed in"));
  text(cell("battery_way"), way(power.battery_w, "discharging", "charging"));
  $("fleet").classList.toggle("old", old);
}
function way(value, positive, negative) {
  return !value ? "" : value > 0 ? positive : negative;
}
function drawUpdated(got, zone) {
  show($("updated"), true);
  text($("updated"), `as of ${clock(serverNow_ms() - since_s(got) * 1000, zone)}`);
}
function drawStart(yes, name) { // `name`: the site that is looked at, or null for an empty list
  show($("start"), yes);
  if (!yes) return;
  show($("start-back"), name !== null && me.site === "*");
  text($("start-title"), name === null ? "No site has been heard of yet" : `Nothing has been heard of ${name} yet`);
  text($("start-token"), `nrgkick-cloud token --site ${name ?? "home"} --scope push > token`);
  text($("start-origin"), location.origin);
}

// ---------------------------------------------------------------- one site

async function loadSite(name) {
  try {
    const answer = await ask(`/api/v1/sites/${name}`);
    if (wanted() !== name) return;
    const before = seen?.answer.status;
    seen = { answer, at: performance.now() };
    missing = false;
    if (before && before !== answer.status) say(`${answer.name || name} is now ${answer.status}.`);
    if (!before || before === "new") askNow(polls.at(-1)); // now that its zone is known: its history
  } catch (refused) {
    if (refused.status !== 404 || wanted() !== name) throw refused;
    seen = null;
    missing = true;
  }
}
function isFresh(device, got) {
  return device.fresh && device.age_s + since_s(got) <= got.answer.settings.stale_after_s;
}
function drawSite(name) {
  const hollow = missing || (seen !== null && seen.answer.status === "new");
  drawStart(hollow, name);
  show($("site"), seen !== null && !hollow);
  if (!seen || hollow) return;
  const site = seen.answer;
  const zone = known(site.settings.timezone);
  const old = isOld(seen);
  text($("site-title"), site.name || name);
  text($("site-name"), site.name && site.name !== name ? name : "");
  drawState($("site-state"), site.status, old);
  drawUpdated(seen, zone);
  document.title = `${site.name || name} · ${old ? "not connected" : STATES[site.status]} · nrgkick-cloud`;
  const told = site.settings.on_stale === "no_surplus" ? "that there is no surplus" : "nothing, for nobody knows the surplus";
  const why = [reason(site), site.why && `The wallbox is told ${told}`].filter(Boolean).map((words) => `${words[0].toUpperCase()}${words.slice(1)}.`).join(" ");
  text($("site-why"), why);
  mark($("site-why"), "state", site.status);
  show($("site-why"), Boolean(why));
  drawFlow(site, zone, old);
  drawWallbox(site, zone, old);
  drawDevices(site, zone, old);
}
const FLOWS = [ // node, its power, its category, words for more and less than zero, whether more than zero flows to the house's hub
  ["pv", "pv_w", "inverters", "", "", true],
  ["grid", "grid_w", "energy_meters", "drawn", "fed in", true],
  ["battery", "battery_w", "batteries", "discharging", "charging", true],
  ["load", "load_w", "load_power_w", "", "", false],
  ["smart_load", "smart_load_w", "smart_loads", "", "", false],
];
function drawFlow(site, zone, old) {
  const stale = site.devices.some((device) => device.fresh && !isFresh(device, seen));
  FLOWS.forEach(([node, key, category, more, less, inward]) => {
    const value = stale ? null : site.power[key];
    const there = site.power[key] !== null || node === "load" || site.devices.some((device) => device.category === category);
    const group = document.querySelector(`[data-node=${node}]`);
    const path = document.querySelector(`[data-way=${node}]`);
    group.style.display = path.style.display = there ? "" : "none";
    mark(group, "known", value === null ? "no" : "yes");
    text(group.querySelector(".watts"), value === null ? "unknown" : watts(Math.abs(value)));
    text(group.querySelector(".way-words"), value === null ? "" : way(value, more, less));
    if (node === "battery") text(group.querySelector(".charged"), site.soc === null || stale ? "" : percent(Math.round(site.soc)));
    mark(path, "flows", value === null ? "unknown" : Math.abs(value) < 1 ? "none" : value > 0 === inward ? "in" : "out");
  });
  text($("flow-words"), flowWords(stale ? {} : site.power, stale ? null : site.soc));
  $("flow").classList.toggle("old", old || stale);
  show($("flow-age"), old || stale);
  if (old || stale) text($("flow-age"), `As it was at ${clock(serverNow_ms() - since_s(seen) * 1000, zone)}, ${ago(since_s(seen))} ago`);
}
function flowWords(power, soc) {
  const { pv_w: pv = null, grid_w: grid = null, battery_w: battery = null, load_w: load = null, smart_load_w: smart = null } = power;
  const words = [];
  if (pv !== null) words.push(`The sun gives ${watts(pv)}`);
  if (grid !== null) words.push(grid < 0 ? `${watts(-grid)} go to the grid` : `${watts(grid)} come from the grid`);
  if (battery !== null) {
    const charged = soc === null ? "" : ` at ${percent(soc)}`;
    words.push(battery === 0 ? `the battery rests${charged}` : `the battery ${battery < 0 ? "charges" : "discharges"} with ${watts(Math.abs(battery))}${charged}`);
  }
  if (load !== null) words.push(`the house uses ${watts(load)}`);
  if (smart !== null) words.push(`${watts(smart)} of it the smart load`);
  return words.length ? `${words.join(", ")}.` : "What flows is not known now.";
}
function drawWallbox(site, zone, old) {
  const asked = site.wallbox;
  const { on_stale: onStale, stale_after_s: staleAfter_s, members } = site.settings;
  show($("wallbox-values"), Boolean(asked?.device_values));
  if (asked) {
    const age_s = Math.max(0, (serverNow_ms() - Date.parse(asked.at)) / 1000);
    text($("wallbox-asked"), old
      ? `Last known: it asked at ${clock(asked.at, zone)}.`
      : `Last asked ${ago(age_s)} ago, at ${clock(asked.at, zone)}${age_s > 120 ? ". That is long: is its proxy up?" : "."}`);
    $("wallbox-values").classList.toggle("old", old || age_s > staleAfter_s);
    text($("wallbox-told"), asked.status === 200
      ? asked.detail === "fresh" || !asked.detail ? "It was told what is fresh:" : `It was told: ${humane(asked.detail, zone)}.`
      : `It was told nothing (${asked.status}): ${humane(asked.detail, zone)}.`);
  } else {
    text($("wallbox-asked"), "It has not asked yet.");
    text($("wallbox-told"), "In its app, set the Custom API to the address of your local proxy; nrgkick-pusher proxy writes one.");
  }
  tiles($("wallbox-values"), told(asked?.device_values ?? {}));
  const made = members ? `Put together from ${members.map((member) => member.site).join(", ")}. ` : "";
  text($("policy"), `${made}A value counts for ${staleAfter_s} s. If nobody knows the surplus, the wallbox is told `
    + (onStale === "no_surplus" ? "that there is none." : "nothing."));
}
function told(values) {
  const pairs = [];
  Object.keys(TITLES).forEach((category) => {
    if (category === "load_power_w") {
      if (category in values) pairs.push([TITLES[category], signed(values[category])]);
      return;
    }
    Object.entries(values[category] ?? {}).forEach(([index, device]) => {
      const charged = "soc" in device ? ` · ${percent(device.soc)}` : "";
      pairs.push([`${TITLES[category]} ${index}`, signed(device[POWER_KEYS[category]]) + charged]);
    });
  });
  return pairs;
}
function drawDevices(site, zone, old) {
  rows($("devices"), "device-row", site.devices, (device) => `${device.category}/${device.index}`, (row, device) => {
    const fresh = isFresh(device, seen) && !old;
    row.classList.toggle("old", !fresh);
    const values = device.values ?? {};
    const power = values[POWER_KEYS[device.category]];
    text(row.querySelector(".what"), deviceTitle(device));
    const kind = device.index === null ? "" : `${TITLES[device.category]} ${device.index}`;
    text(row.querySelector(".kind"), [kind, device.info.model].filter(Boolean).join(" · "));
    const sign = device.category === "energy_meters" ? way(power, "drawn", "fed in") : device.category === "batteries" ? way(power, "discharging", "charging") : "";
    text(row.querySelector(".power"), power === undefined ? "–" : [sign ? watts(Math.abs(power)) : signed(power), sign].filter(Boolean).join(" "));
    text(row.querySelector(".more"), Object.entries(VALUE_WORDS).filter(([key]) => values[key] !== undefined && values[key] !== null)
      .map(([key, [words, form]]) => `${words} ${form(values[key])}`).join(", "));
    const age_s = device.age_s === null ? null : Math.max(0, device.age_s + since_s(seen));
    const read = age_s === null ? "never read" : fresh ? `${ago(age_s)} ago` : `old: ${clock(device.measured_at, zone)}, ${ago(age_s)} ago`;
    text(row.querySelector(".age"), device.withdrawn ? `cannot be read; ${age_s === null ? read : `last ${clock(device.measured_at, zone)}, ${ago(age_s)} ago`}` : read);
    text(row.querySelector(".pusher"), device.pusher);
    text(row.querySelector(".conflict"), device.conflicts.length
      ? `conflict: ${device.conflicts.map((conflict) => conflict.pusher).join(", ")} also ${device.conflicts.length > 1 ? "give" : "gives"} it` : "");
  });
}

// ---------------------------------------------------------------- looking back

async function loadHistory(name) {
  if (!seen || seen.answer.status === "new") return; // the site's zone is not known yet; loadSite will ask again
  const zone = known(seen.answer.settings.timezone);
  const today = dayOf(new Date(serverNow_ms()), zone);
  const shown = day ?? today;
  const hour = Number(new Intl.DateTimeFormat("en-GB", { hour: "2-digit", hourCycle: "h23", timeZone: zone }).format(serverNow_ms()));
  text($("day-title"), shown === today ? "Today" : new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeZone: "UTC" }).format(Date.parse(shown)));
  $("later").disabled = shown === today;
  const path = `/api/v1/sites/${name}`;
  const span = async (from, to, which, chart, words, end) => { // whole days of the site's zone
    const { totals } = await ask(`${path}/history?from=${from}&to=${dayAfter(to, 1)}&resolution=1d`);
    if (wanted() !== name || shown !== (day ?? today)) return;
    const empty = Object.values(totals).every((value) => value === null);
    show($(`${which}-totals`), !empty);
    tiles($(`${which}-totals`), totalsOf(totals));
    if (empty) note($(`${which}-chart`), "Nothing is kept of this time.");
    else picture($(`${which}-chart`), `${path}/${chart}`, words, end);
  };
  await Promise.all([
    span(shown, shown, "day", `chart.svg?day=${shown}`, `Power over the day, ${shown}`, hour / 24),
    span(dayAfter(today, -6), today, "week", `chart.svg?day=${today}&days=7`, `Energy of the seven days up to ${today}`, 1),
  ]);
}
function totalsOf(totals) {
  const share = (value) => (value === null ? "–" : percent(Math.round(value * 100)));
  const amount = (value) => (value === null ? "–" : energy(value));
  return [
    ["Sun", amount(totals.pv_wh), "pv"], ["House", amount(totals.load_wh), "load"],
    ["From the grid", amount(totals.import_wh), "grid"], ["Fed in", amount(totals.export_wh), "grid"],
    ["Charged", amount(totals.charge_wh), "battery"], ["Discharged", amount(totals.discharge_wh), "battery"],
    ["Self-sufficient", share(totals.self_sufficiency)], ["Sun used here", share(totals.self_consumption)],
  ];
}
function note(place, words) {
  const paragraph = document.createElement("p");
  paragraph.textContent = words;
  place.dataset.wanted = "";
  place.replaceChildren(paragraph);
}
async function picture(place, address, words, end) { // on a narrow screen it begins where `end` (0 to 1) is in sight
  const image = new Image(720, 360);
  image.alt = words;
  image.src = address;
  place.dataset.wanted = address;
  try {
    await image.decode();
  } catch {
    if (place.dataset.wanted === address && !place.querySelector("img")) note(place, "There is no chart now.");
    return;
  }
  if (place.dataset.wanted !== address) return;
  const first = !place.querySelector("img");
  place.replaceChildren(image);
  if (first) place.scrollLeft = end * place.scrollWidth - place.clientWidth * 0.9;
}
function turnDay(days) {
  const zone = known(seen.answer.settings.timezone);
  const today = dayOf(new Date(serverNow_ms()), zone);
  const turned = dayAfter(day ?? today, days);
  day = turned >= today ? null : turned;
  askNow(polls.at(-1));
}

// ---------------------------------------------------------------- all together

function draw() {
  if (!me.in) return;
  const trouble = polls.find((item) => item.trouble)?.trouble;
  show($("trouble"), Boolean(trouble));
  if (trouble) text($("trouble"), trouble.words);
  const name = wanted();
  if (name === null) {
    drawSites();
    drawFleet();
  } else {
    drawSite(name);
  }
}
function turnPage(next) {
  if (next) pages.push(list.answer.next_page_token);
  else pages.pop();
  askNow(polls[0]);
}
$("sign-in-form").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", signOut);
$("only-trouble").addEventListener("change", draw);
$("previous").addEventListener("click", () => turnPage(false));
$("next").addEventListener("click", () => turnPage(true));
$("earlier").addEventListener("click", () => turnDay(-1));
$("later").addEventListener("click", () => turnDay(1));
$("skip").addEventListener("click", (event) => { // the address names the view; a jump must not change it
  event.preventDefault();
  $("main").focus();
});
window.addEventListener("hashchange", () => {
  route();
  $("main").focus();
});
window.addEventListener("online", () => askNow(...polls));
document.addEventListener("visibilitychange", beat);
setInterval(beat, 1000);
start();
