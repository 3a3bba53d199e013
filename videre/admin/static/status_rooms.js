/** Rooms and members on all nodes, and what the API can do with them. */

import { $, count, element, fill, reason, request } from "./status_parts.js";

/** The room that is shown, or null. */
let shown = null;

/** Return the JSON of an answer of the API; report a problem and return null. */
async function ask(path, options) {
  try {
    const response = await request(`/api/v1/${path}`, options);
    if (response.status === 204) return {};
    if (response.ok) return await response.json();
    report(await reason(response), true);
  } catch (error) {
    report(error.name === "TypeError" || error.name === "TimeoutError" ? "The server does not answer." : String(error), true);
  }
  return null;
}

function report(words, bad = false) {
  $("done").className = bad ? "bad" : "";
  $("done").textContent = words;
}

/** Offer the server's prefixes. */
export async function listPrefixes() {
  const found = await ask("prefixes");
  const options = (found?.Prefixes ?? []).map(({ Prefix }) => new Option(Prefix, Prefix));
  $("prefix").replaceChildren(...options);
}

function button(label, name, act) {
  const made = element("button", { type: "button" }, label);
  made.setAttribute("aria-label", `${label} ${name}`);
  made.addEventListener("click", act);
  return made;
}

/** List a page of rooms: the first ones, or those after the room `after`. */
async function listRooms(after) {
  const query = { prefix: $("prefix").value, ...(after !== undefined && { after }) };
  const found = await ask("rooms", { query });
  if (!found) return;
  const rows = found.Rooms.map(({ RoomId, Members }) => [
    element("code", {}, RoomId),
    count(Members),
    button("Show", RoomId, () => showRoom({ prefix: query.prefix, room: RoomId })),
  ]);
  fill("all-rooms", rows, "No room has members.");
  $("all-rooms").hidden = false;
  pages("more-rooms", found.Next, listRooms);
  report("");
}

/** Offer the next page of a list, if there is one. */
function pages(id, next, list) {
  $(id).hidden = next === null;
  $(id).onclick = () => list(next);
}

/** Show a page of a room's members: the first ones, or those after the user `after`. */
async function showRoom(room, after) {
  const found = await ask("members", { query: { ...room, ...(after !== undefined && { after }) } });
  $("members").hidden = !found;
  shown = found ? room : null;
  if (!found) return;
  $("room").value = room.room;
  $("members-title").textContent = `Members of ${room.room}`;
  const rows = found.Members.map((user) => [
    user === found.Initiator ? element("span", {}, user, element("small", {}, " initiator")) : user,
    button("Remove", user, () => remove(room, user)),
  ]);
  fill("member-table", rows, "None.");
  pages("more-members", found.Next, (next) => showRoom(room, next));
  report("");
  $("members-title").focus();
}

async function confirmed(words, act) {
  $("question").textContent = words;
  $("yes").textContent = act;
  $("sure").returnValue = "";
  $("sure").showModal();
  await new Promise((resolve) => $("sure").addEventListener("close", resolve, { once: true }));
  return $("sure").returnValue === "yes";
}

async function remove(room, user) {
  if (!(await confirmed(`Remove ${user} from ${room.room}? The session is closed.`, "Remove"))) return;
  if (!(await ask("members", { method: "DELETE", query: { ...room, user } }))) return;
  await showRoom(room);
  report(`${user} was removed.`);
}

$("look").addEventListener("submit", (event) => {
  event.preventDefault();
  showRoom({ prefix: $("prefix").value, room: $("room").value });
});
$("list-rooms").addEventListener("click", () => listRooms());

$("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  let payload;
  try {
    payload = JSON.parse($("payload").value);
  } catch (error) {
    report(`The payload is not JSON: ${error.message}`, true);
    $("payload").focus();
    return;
  }
  const to = $("to").value;
  const body = JSON.stringify({ Payload: payload, ...(to && { To: to }) });
  if (await ask("packets", { method: "POST", query: shown, body })) report("The packet was sent.");
});

$("drain").addEventListener("click", async () => {
  const words = "Drain this node? It takes no more connections, lets its clients move, and exits.";
  if (!(await confirmed(words, "Drain"))) return;
  if (await ask("drain", { method: "POST" })) report("The node is draining.");
});
