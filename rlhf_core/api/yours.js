// What is kept of a person, for themselves: yours#TICKET. What comes after # goes to no server; it is taken out of the address.

const $ = (id) => document.getElementById(id);
const api = new URL(".", import.meta.url).href;
const ticket = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);
const RUN_OUT = "This page was opened without a ticket, or it has run out. Open it again from where you came.";
let kept = {};

async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(`${api}me${path}`, {
      method,
      headers: { Authorization: `Bearer ${ticket}`, "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Error("No answer from the server. Try again in a moment.");
  }
  if (answer.status === 401) throw new Error(RUN_OUT);
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail || answer.statusText);
  return said;
}

function tell(text, failed = false) {
  $("told").textContent = text;
  $("told").classList.toggle("failed", failed);
}

async function trying(work) {
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  try {
    await work();
  } catch (error) {
    tell(error.message, true);
  } finally {
    for (const button of document.querySelectorAll("button")) button.disabled = false;
  }
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const when = (text) => new Date(text.replace(" ", "T")).toLocaleString();
const stars = (row) => (row.scale === "thumbs" ? (row.feedback_score > 3 ? "thumb up" : "thumb down") : `${row.feedback_score} of 5`);

function showConsent(said) {
  $("asking").hidden = false;
  $("words").textContent = said.words;
  if (said.consent === null || said.consent === undefined) $("consent").textContent = "You have not been asked, so nothing of yours teaches a model.";
  else {
    const word = said.consent === "given" ? "agreed" : "did not agree";
    const older = said.asks ? " The words are others now: please answer again." : "";
    $("consent").textContent = `You ${word}, ${when(said.at)}.${older}`;
  }
  for (const button of $("asking").querySelectorAll("button"))
    button.onclick = () =>
      trying(async () => {
        showConsent(await ask("PUT", "/consent", { version: said.currentVersion, consent: button.value }));
        tell("Your answer is kept.");
      });
}

function showChats(tables) {
  const words = (chat, step) =>
    (tables.feedback || [])
      .filter((row) => row.chat_id === chat && (row.step_id ?? null) === step)
      .map((row) => stars(row) + (row.comment ? `: ${row.comment}` : ""))
      .join("; ");
  const say = (place, text) => text && place.append(" ", element("span", `(you: ${text})`, "said"));
  const shown = (tables.chats || []).map((chat) => {
    const card = element("article");
    card.append(element("h3", chat.query), element("p", when(chat.created_at), "when"));
    const steps = (tables.steps || []).filter((step) => step.chat_id === chat.id);
    if (steps.length) {
      const list = element("ol");
      for (const step of steps) {
        const item = element("li", step.step_content);
        say(item, words(chat.id, step.id));
        list.append(item);
      }
      card.append(list);
    } else card.append(element("p", chat.response, "answer"));
    const whole = words(chat.id, null);
    if (whole) card.append(element("p", `The whole answer: you said ${whole}.`, "said"));
    return card;
  });
  $("chats").hidden = !shown.length;
  $("chats").replaceChildren($("chats").firstElementChild, ...shown);
}

function showRows(tables) {
  const shown = Object.entries(tables).filter(([, rows]) => rows.length).map(([name, rows]) => {
    const part = element("details"), holder = element("div", undefined, "table"), table = element("table"), head = element("tr");
    part.append(element("summary", `${name.replaceAll("_", " ")}: ${rows.length}`), holder);
    holder.append(table);
    const names = Object.keys(rows[0]);
    for (const one of names) head.append(element("th", one.replaceAll("_", " ")));
    table.append(head);
    for (const row of rows) {
      const line = element("tr");
      for (const one of names) line.append(element("td", row[one] === null ? "" : typeof row[one] === "object" ? JSON.stringify(row[one]) : String(row[one])));
      table.append(line);
    }
    return part;
  });
  $("rest").hidden = !shown.length;
  $("rest").replaceChildren($("rest").firstElementChild, ...shown);
  $("doing").hidden = !shown.length;
  return shown.length > 0;
}

async function show() {
  kept = (await ask("GET", "")).tables;
  showChats(kept);
  return showRows(kept);
}

$("download").onclick = () => {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(kept, null, 2)], { type: "application/json" }));
  link.download = "what-is-kept-of-me.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
$("erase").onclick = () => $("sure").showModal();
$("sure").onclose = () => {
  if ($("sure").returnValue !== "erase") return;
  trying(async () => {
    tell("Erasing…");
    const gone = await ask("DELETE", "");
    await show();
    const models = gone.checkpoints.length ? ` ${gone.checkpoints.length} models had learnt from it before; what they learnt stays in them.` : "";
    tell(`Erased: ${gone.chats} chats and ${gone.judgements} ratings. Nothing is kept of you.${models}`);
  });
};

trying(async () => {
  if (!ticket) throw new Error(RUN_OUT);
  const any = await show();
  showConsent(await ask("GET", "/consent"));
  tell(any ? "" : "Nothing is kept of you.");
});
