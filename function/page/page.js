// The page as a whole: who is here, what is looked at, and what a hand does. Comes last, and begins.

const MARK = "nrgkick-signed-in"; // holds no secret: it only spares a stranger's browser a request that must fail

const me = { site: null, in: false }; // whose session this is; site "*": every site

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
