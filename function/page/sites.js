// All sites: the table that says who is live and who is not, since when and why, and the sums over all.

const SITES_EVERY_MS = 10_000;
const FLEET_EVERY_MS = 60_000;
const REASON_HOLDS_MS = 60_000;
const SITES_A_PAGE = 50;
const REASONS_AT_ONCE = 20; // sites that are not live are asked for their reason, so many at a time

let pages = [""]; // the page tokens of the list up to the one that is shown
let list = null; // {answer, at}: the last answer, and when it came
let fleet = null; // likewise
let reasons = new Map(); // by site that is not live: {whole, at}

async function loadSites() {
  const token = pages.at(-1);
  const answer = await ask(`/api/v1/sites?page_size=${SITES_A_PAGE}&page_token=${encodeURIComponent(token)}`);
  if (token !== pages.at(-1)) return;
  list = { answer, at: performance.now() };
  const dark = answer.sites.filter((site) => ["partial", "stale"].includes(site.status));
  const holds = (got, site) => got.whole.status === site.status && performance.now() - got.at < REASON_HOLDS_MS;
  reasons = new Map([...reasons].filter(([name, got]) => dark.some((site) => site.site === name && holds(got, site))));
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
