// Times in the viewer's zone, and a refresh that leaves alone what somebody is typing.
"use strict";
const EVERY_MS = 30000;
const shown = new Map();

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
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
  if (shown.get(part.id) === markup || isBusy(part)) return;
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
}

async function refresh() {
  const note = document.getElementById("refreshed");
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", redirect: "error" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) renew(part, fresh);
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
