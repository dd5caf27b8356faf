// Words: how figures, times and devices read in this page. Knows neither the page nor the server.

const TITLES = { inverters: "Inverter", energy_meters: "Meter", batteries: "Battery", smart_loads: "Smart load", load_power_w: "House load" };
const POWER_KEYS = { inverters: "inv_power_ac_w", energy_meters: "grid_power_w", batteries: "bat_power_w", smart_loads: "sl_power_w", load_power_w: "load_power_w" };
const STATES = { live: "Live", partial: "Partial", stale: "Stale", new: "New" };
const VALUE_WORDS = {
  pv_energy_day_wh: ["today", energy], pv_energy_total_wh: ["in all", energy],
  battery_connected: ["battery behind it", (yes) => (yes ? "yes" : "no")], soc: ["charged", percent],
  mode: ["mode", String], temp: ["at", (value) => `${number(value, 1)} °C`],
};

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
