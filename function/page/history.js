// Looking back: a day and a week of a site, as totals and as charts that the server draws.

const HISTORY_EVERY_MS = 300_000;

let day = null; // the day that is shown; null: today

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
