// Times in the viewer's zone, and a refresh that leaves alone what somebody is typing.
"use strict";
const EVERY_MS = 30000;
const shown = new Map();
// Of the page whose parts are all shown: one that has not changed is not sent again.
let etag = null;

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
      time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    }
  }
}

function isBusy(part) {
  const fields = [...part.querySelectorAll("input:not([type=hidden], [type=radio]), select, textarea")];
  return fields.some((field) => field === document.activeElement || (field.value ?? "") !== (field.defaultValue ?? field.value));
}

function renew(part, fresh) {
  const markup = fresh.innerHTML;
  if (shown.get(part.id) === markup) return true;
  if (isBusy(part)) return false;
  const active = part.contains(document.activeElement) ? document.activeElement : null;
  const places = "a, button, input, [tabindex]";
  const place = active ? [...part.querySelectorAll(places)].indexOf(active) : -1;
  shown.set(part.id, markup);
  localTimes(fresh);
  part.replaceChildren(...fresh.childNodes);
  if (place >= 0) {
    const there = part.querySelectorAll(places)[place];
    if (there) there.focus({ preventScroll: true });
  }
  return true;
}

async function refresh() {
  const note = document.getElementById("refreshed");
  try {
    const headers = etag ? { "If-None-Match": etag } : {};
    const answer = await fetch(location.pathname, { cache: "no-store", redirect: "error", headers });
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const parts = [...document.querySelectorAll("[data-live]")];
      const all = parts.filter((part) => page.getElementById(part.id)).map((part) => renew(part, page.getElementById(part.id)));
      etag = all.every(Boolean) ? answer.headers.get("ETag") : null;
    }
    note.textContent = `Updated at ${new Date().toLocaleTimeString()}; refreshes every 30 seconds.`;
    note.className = "";
  } catch {
    note.textContent = `Could not refresh at ${new Date().toLocaleTimeString()}: the server does not answer.`;
    note.className = "late";
  }
}

for (const part of document.querySelectorAll("[data-live]")) shown.set(part.id, part.innerHTML);
localTimes(document);
if (document.querySelector("[data-live]")) setInterval(refresh, EVERY_MS);
