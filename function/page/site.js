// One site: what flows, its devices, and what its wallbox was told. What is old is grey and says its time.

const SITE_EVERY_MS = 5_000;

let seen = null; // {answer, at}: the last answer, and when it came
let missing = false; // the site is not there (yet)

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
  const low = site.devices.some((device) => ["batteries", "smart_loads"].includes(device.category));
  $("flow").querySelector("svg").setAttribute("viewBox", low ? "0 0 360 340" : "0 0 360 225");
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
