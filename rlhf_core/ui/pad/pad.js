// The label pad. Paints every action at once, keeps it in the browser until the server says that it is stored, and sends what is
// not stored yet again: after a lost connection, a refresh, a restarted server. Each operation has an id made here, so that it
// is stored once. The server's word comes by a component of its own (acks.js), so that a rating does not bring the chats again:
// `outcomes` by operation id, "" for stored, else why not.

const STARS = [1, 2, 3, 4, 5];
const RESEND_MS = 4000;
const KEYS = [
  ["1 – 5", "rate this step and go on"], ["T  G", "thumb up, thumb down"], ["J  K  ↓  ↑", "next, previous step"],
  ["E", "this is the first error (again: it is not)"], ["Enter", "comment; Enter saves it, Esc leaves it"],
  ["B  Q", "flag: bad question, not sure"], ["U", "undo"], ["S", "skip this chat, with a reason"],
  ["Ctrl + Enter", "submit, and on to the next chat"], ["?", "these keys"],
];

const make = (tag, attributes = {}, ...children) => {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") one.className = value;
    else if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) one.setAttribute(name, value === true ? "" : value);
  }
  one.append(...children);
  return one;
};
const uuid = () => crypto.randomUUID ? crypto.randomUUID() : "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) =>
  (+c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (+c / 4)))).toString(16));
const THUMB = "M7 10v11H4a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1h3zm2 11h8.3a2.5 2.5 0 0 0 2.4-1.9l1.4-5.8A2.7 2.7 0 0 0 18.5 10H14.5l.7-4.2A2.4 2.4 0 0 0 12.9 3L9 9.5V21z";
const icon = (down) => { // drawn, because not every machine has the letters
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24"); svg.setAttribute("aria-hidden", "true");
  if (down) svg.style.transform = "rotate(180deg) scaleX(-1)";
  svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path")).setAttribute("d", THUMB);
  return svg;
};
const scoreWords = (score) => score ? `${score} of 5 stars` : "not rated";

class Pad {
  constructor(root) {
    this.root = root;
    this.items = [];
    this.states = new Map(); // by chat: ratings by step id ("" for the whole answer), first error, flags
    this.pending = [];
    this.left = new Set(); // chats submitted or skipped here, whatever the server has heard of it
    this.n = 0;
    this.sentAt = 0;
    this.cursor = 0;
    this.undo = [];
    this.shown = null;
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey, true);
    document.addEventListener("visibilitychange", () => this.clock());
    document.addEventListener("rlhf-acks", () => this.heard());
    this.timer = setInterval(() => {
      if (!root.isConnected) { document.removeEventListener("keydown", this.onKey, true); clearInterval(this.timer); return; }
      if (this.pending.length && performance.now() - this.sentAt > RESEND_MS) this.send(true);
    }, 1000);
  }

  // data from the server ------------------------------------------------------------------------------------------------

  update(data, setStateValue) {
    this.setStateValue = setStateValue;
    this.data = data;
    if (this.user !== data.user) {
      this.user = data.user;
      this.states.clear(); this.left.clear(); this.undo = []; this.shown = null;
      this.pending = this.kept();
      for (const op of this.pending) if (op.kind === "submit" || op.kind === "skip") this.left.add(op.chat);
    }
    this.items = data.items.filter((item) => !this.left.has(item.chat));
    for (const item of this.items) if (!this.states.has(item.chat)) this.states.set(item.chat, this.begin(item));
    if (!this.items.length || this.shown !== this.items[0].chat) this.show();
    this.heard();
    this.frame();
    this.send(false);
  }

  heard() { // what the server says of the operations that it got
    const acks = window.__rlhfAcks;
    if (!acks || acks.user !== this.user || !this.root.isConnected) return;
    this.progress = acks.progress;
    const refused = this.pending.filter((op) => acks.outcomes[op.id]);
    const before = this.pending.length;
    this.pending = this.pending.filter((op) => !(op.id in acks.outcomes));
    for (const op of refused) this.refused(op, acks.outcomes[op.id]);
    if (before === this.pending.length) { if (this.count) this.frame(); return; }
    this.keep();
    this.sentAt = 0;
    if (this.shown === null && this.item) this.show();
    this.frame();
    this.send(false);
  }

  begin(item) {
    const state = { ratings: {}, first: item.first_error, flags: new Set(item.flags), dwell: {} };
    for (const [step, one] of Object.entries(item.ratings)) state.ratings[step] = { ...one };
    for (const op of this.pending) if (op.chat === item.chat) this.replay(state, op); // said here, not stored yet
    return state;
  }

  replay(state, op) {
    const at = op.step ?? "";
    if (op.kind === "rate") state.ratings[at] = { ...state.ratings[at], score: op.value.score, scale: op.value.scale };
    if (op.kind === "withdraw") delete state.ratings[at];
    if (op.kind === "comment" && state.ratings[at]) state.ratings[at].comment = op.value.text;
    if (op.kind === "first_error") state.first = op.step;
    if (op.kind === "flag") state.flags.add(op.value.flag);
    if (op.kind === "unflag") state.flags.delete(op.value.flag);
  }

  refused(op, outcome) {
    if (op.kind === "dwell") return;
    this.problem = `Not saved. ${outcome}`;
    if (op.kind === "rate" && this.states.has(op.chat)) {
      const at = op.step ?? "";
      if (this.states.get(op.chat).ratings[at]?.score === op.value.score) delete this.states.get(op.chat).ratings[at];
      this.shown = null;
    }
  }

  // operations ----------------------------------------------------------------------------------------------------------

  get timing() { try { return localStorage.getItem("rlhf-pad-timing") !== "off"; } catch { return false; } }
  get place() { return `rlhf-pad:${this.user}`; }
  kept() { try { return JSON.parse(localStorage.getItem(this.place)) ?? []; } catch { return []; } }
  keep() {
    try { this.pending.length ? localStorage.setItem(this.place, JSON.stringify(this.pending)) : localStorage.removeItem(this.place); }
    catch { this.problem = "This browser keeps nothing: what is not saved yet would not survive a refresh."; }
  }

  say(kind, step, value = {}, chat = this.item?.chat) {
    this.pending.push({ id: uuid(), kind, chat, step: step || null, value });
    this.problem = "";
    this.keep();
    this.send(false);
  }

  send(again) {
    if (!this.pending.length || (this.sentAt && !again)) return; // one message under way at a time, the whole list in each
    this.sentAt = performance.now();
    this.setStateValue("ops", { n: ++this.n, from: this.user, list: this.pending });
  }

  // what is on screen ---------------------------------------------------------------------------------------------------

  get item() { return this.items[0]; }
  get state() { return this.states.get(this.item.chat); }
  get steps() { return [...this.item.steps.map((step) => step.id), ""]; }

  show() {
    this.shown = this.item?.chat ?? null;
    this.undo = [];
    this.root.replaceChildren();
    this.status = make("span", { class: "status", role: "status", "aria-live": "polite" });
    this.count = make("span", { class: "count" });
    this.bar = make("div", { class: "bar" }, make("div"));
    const top = make("div", { class: "top" }, this.count, this.status,
      make("button", { class: "quiet", title: "Keys (?)", "aria-label": "Show the keys", onclick: () => this.help() }, "?"));
    this.root.append(top, this.bar);
    if (this.data.guidelines) {
      const panel = make("details", { class: "guidelines" }, make("summary", {}, `Guidelines: ${this.data.queue}`));
      const words = make("div");
      words.innerHTML = this.data.guidelines; // made safe on the server
      panel.append(words);
      this.root.append(panel);
    }
    if (!this.item) {
      this.root.append(make("p", { class: "done" }, this.data.done));
      this.frame();
      return;
    }
    const query = make("div", { class: "words" });
    query.innerHTML = this.item.query;
    this.root.append(make("section", { class: "query", "aria-label": "Question", dir: "auto" }, make("h2", {}, "Question"), query));
    this.cards = this.steps.map((step, index) => this.card(step, index));
    this.list = make("div", { class: "cards", role: "list", "aria-label": "Steps" }, ...this.cards);
    this.flagButtons = Object.entries(this.data.flags).map(([flag, words]) =>
      make("button", { class: "chip", "data-flag": flag, "aria-pressed": "false", onclick: () => this.flag(flag) }, words));
    this.root.append(this.list, make("div", { class: "flags", role: "group", "aria-label": "Flags" }, ...this.flagButtons),
      make("div", { class: "end" },
        make("button", { class: "primary", onclick: () => this.submit() }, this.data.editing ? "Done" : "Submit and next"),
        this.data.editing ? "" : make("button", { onclick: () => this.skip() }, "Skip …"),
        make("button", { onclick: () => this.takeBack() }, "Undo")));
    this.cursor = Math.max(0, this.steps.findIndex((step) => !this.state.ratings[step]));
    this.steps.forEach((_, index) => this.paint(index));
    this.paintFlags();
    this.frame();
    this.move(this.cursor, false);
  }

  card(step, index) {
    const whole = step === "";
    const title = whole ? "The whole answer" : `Step ${index + 1}`;
    const words = make("div", { class: "words", dir: "auto" });
    words.innerHTML = whole ? "How good is the answer, all steps together?" : this.item.steps[index].html;
    const stars = make("div", { class: "stars", role: "radiogroup", "aria-label": `Stars for ${title.toLowerCase()}` },
      ...STARS.map((score) => make("button", {
        role: "radio", "aria-checked": "false", "data-score": score, tabindex: "-1", title: `${score} of 5`,
        "aria-label": `${score} of 5 stars`, onclick: () => { this.move(index, false); this.rate(index, score, "stars"); } }, "★")));
    const thumb = (score, name) => make("button", {
      class: "thumb", "data-thumb": score, "aria-pressed": "false", tabindex: "-1", "aria-label": name, title: name,
      onclick: () => { this.move(index, false); this.rate(index, score, "thumbs"); } }, icon(score === 1));
    const tools = [stars, thumb(5, "Thumb up"), thumb(1, "Thumb down"),
      make("button", { class: "quiet comment", tabindex: "-1", onclick: () => { this.move(index, false); this.comment(); } }, "Comment")];
    if (!whole) tools.push(make("button", {
      class: "quiet first", "aria-pressed": "false", tabindex: "-1", onclick: () => { this.move(index, false); this.first(); } }, "First error"));
    const card = make("article", { class: "card", role: "listitem", tabindex: "-1", "data-index": index, onmousedown: (event) => {
      if (!event.composedPath().some((one) => one.tagName === "BUTTON" || one.tagName === "TEXTAREA")) this.move(index, false);
    } }, make("h3", {}, title), words, make("div", { class: "tools" }, ...tools), make("p", { class: "said", dir: "auto" }));
    return card;
  }

  paint(index) {
    const step = this.steps[index], given = this.state.ratings[step], card = this.cards[index];
    const firstAt = this.state.first ? this.steps.indexOf(this.state.first) : -1;
    card.classList.toggle("rated", !!given);
    card.classList.toggle("wrong", index === firstAt);
    card.classList.toggle("after", firstAt >= 0 && index > firstAt && step !== "");
    card.querySelectorAll("[data-score]").forEach((one) => {
      one.classList.toggle("on", !!given && +one.dataset.score <= given.score);
      one.setAttribute("aria-checked", String(!!given && +one.dataset.score === given.score));
    });
    card.querySelectorAll("[data-thumb]").forEach((one) => {
      const on = !!given && (given.score > 3 ? 5 : given.score < 3 ? 1 : 0) === +one.dataset.thumb;
      one.classList.toggle("on", on); one.setAttribute("aria-pressed", String(on));
    });
    card.querySelector(".first")?.setAttribute("aria-pressed", String(index === firstAt));
    card.querySelector(".said").textContent = given?.comment ?? "";
    card.setAttribute("aria-label", `${card.querySelector("h3").textContent}, ${scoreWords(given?.score)}`
      + (index === firstAt ? ", the first error" : ""));
  }

  paintAll() { this.steps.forEach((_, index) => this.paint(index)); }
  paintFlags() {
    for (const one of this.flagButtons) one.setAttribute("aria-pressed", String(this.state.flags.has(one.dataset.flag)));
  }

  frame() {
    const { submitted, items } = this.progress ?? { submitted: 0, items: 0 };
    const mine = submitted + (this.data.editing ? 0 : this.pending.filter((op) => op.kind === "submit").length);
    const rated = this.item ? Object.keys(this.state.ratings).length : 0;
    this.count.textContent = this.data.editing ? `Rated before; ${rated} of ${this.item ? this.steps.length : 0} rated`
      : `${mine} of ${items} chats submitted` + (this.item ? ` · ${rated} of ${this.steps.length} rated here` : "");
    this.bar.firstChild.style.width = `${items ? Math.min(100, 100 * mine / items) : 0}%`;
    this.status.className = `status ${this.problem ? "bad" : this.pending.length ? "busy" : "good"}`;
    this.status.textContent = this.problem || (this.pending.length ? "Saving …" : this.n || this.data.seen ? "Saved" : "");
    this.root.dataset.pending = this.pending.length;
    this.root.dataset.chat = this.item?.chat ?? "";
  }

  // what a person does --------------------------------------------------------------------------------------------------

  clock() { // how long this step has been looked at
    const now = performance.now();
    if (this.since && this.item && !document.hidden) {
      const step = this.steps[this.cursor];
      this.state.dwell[step] = (this.state.dwell[step] ?? 0) + now - this.since;
    }
    this.since = document.hidden ? 0 : now;
  }

  move(index, follow = true) {
    if (!this.item || index < 0 || index >= this.cards.length) return;
    this.clock();
    this.cards[this.cursor]?.classList.remove("here");
    this.cards[this.cursor]?.setAttribute("aria-current", "false");
    this.cursor = index;
    this.cards[index].classList.add("here");
    this.cards[index].setAttribute("aria-current", "true");
    if (follow) {
      this.cards[index].scrollIntoView({ block: "nearest" });
      this.cards[index].focus({ preventScroll: true });
    }
  }

  rate(index, score, scale) {
    const step = this.steps[index], before = this.state.ratings[step];
    if (before?.score === score && before.scale === scale) {
      delete this.state.ratings[step]; // the same again takes it back
      this.say("withdraw", step);
    } else {
      this.state.ratings[step] = { ...before, score, scale };
      this.say("rate", step, { score, scale });
      if (before && this.timing) this.say("edit", step);
    }
    this.undo.push(() => {
      if (before) { this.state.ratings[step] = before; this.say("rate", step, { score: before.score, scale: before.scale });
        if (before.comment) this.say("comment", step, { text: before.comment }); }
      else { delete this.state.ratings[step]; this.say("withdraw", step); }
      this.paint(index); this.move(index);
    });
    this.paint(index);
    this.frame();
  }

  first() {
    const step = this.steps[this.cursor];
    if (!step) return;
    const before = this.state.first;
    this.state.first = before === step ? null : step;
    this.say("first_error", this.state.first);
    this.undo.push(() => { this.state.first = before; this.say("first_error", before); this.paintAll(); });
    this.paintAll(); this.frame();
  }

  flag(flag) {
    const on = !this.state.flags.has(flag);
    on ? this.state.flags.add(flag) : this.state.flags.delete(flag);
    this.say(on ? "flag" : "unflag", null, { flag });
    this.undo.push(() => {
      on ? this.state.flags.delete(flag) : this.state.flags.add(flag);
      this.say(on ? "unflag" : "flag", null, { flag }); this.paintFlags();
    });
    this.paintFlags(); this.frame();
  }

  takeBack() { const back = this.undo.pop(); if (back) { back(); this.frame(); } }

  ask(after, label, text, done) { // a line of words without leaving the keyboard
    this.root.querySelector(".ask")?.remove();
    const area = make("textarea", { "aria-label": label, placeholder: `${label} Enter saves, Esc leaves.`, maxlength: 8000, rows: 2, dir: "auto" });
    area.value = text;
    const box = make("div", { class: "ask" }, area, make("button", { class: "primary", onclick: () => finish(true) }, "Save"),
      make("button", { onclick: () => finish(false) }, "Leave"));
    const finish = (keep) => { box.remove(); if (keep) done(area.value.trim()); this.cards[this.cursor]?.focus({ preventScroll: true }); };
    area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") { event.preventDefault(); finish(false); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault(); finish(true);
        if (event.ctrlKey || event.metaKey) this.submit();
      }
    });
    after.append(box);
    area.focus();
  }

  comment() {
    const index = this.cursor, step = this.steps[index], given = this.state.ratings[step];
    if (!given) { this.problem = "Rate first, then comment."; this.frame(); return; }
    this.ask(this.cards[index], "Why?", given.comment ?? "", (text) => {
      const before = given.comment ?? "";
      this.state.ratings[step] = { ...this.state.ratings[step], comment: text };
      this.say("comment", step, { text });
      this.undo.push(() => { this.state.ratings[step].comment = before; this.say("comment", step, { text: before }); this.paint(index); });
      this.paint(index); this.frame();
    });
  }

  leave(kind, value) {
    this.clock();
    const chat = this.item.chat;
    if (this.timing) for (const [step, ms] of Object.entries(this.state.dwell))
      if (ms > 300) this.say("dwell", step, { ms: Math.round(ms) });
    this.say(kind, null, { queue: this.data.queue_id, ...value });
    this.left.add(chat);
    this.items = this.items.filter((item) => item.chat !== chat);
    this.since = 0;
    this.show();
    this.root.scrollIntoView({ block: "start" });
  }

  submit() {
    if (!this.item) return;
    if (!Object.keys(this.state.ratings).length && !this.state.first && !this.state.flags.size) {
      this.problem = "Nothing is rated yet. Rate a step, or skip the chat with S."; this.frame(); return;
    }
    if (this.data.editing) { this.clock(); this.setStateValue("done", ++this.n); return; }
    this.leave("submit", {});
  }

  skip() {
    if (!this.item || this.data.editing) return;
    this.ask(this.root, "Why skip it?", "", (reason) => this.leave("skip", { reason, noted: this.timing }));
  }

  help() {
    const there = this.root.querySelector(".help");
    if (there) { there.remove(); return; }
    const words = () => this.timing
      ? "How long you look at each step, changes and skips are noted with your ratings. Press to stop it."
      : "How long you look at a step, changes and skips are not noted. Press to note them.";
    const timing = make("button", { "aria-pressed": String(this.timing), onclick: () => {
      localStorage.setItem("rlhf-pad-timing", this.timing ? "off" : "on");
      timing.textContent = words(); timing.setAttribute("aria-pressed", String(this.timing));
    } }, words());
    this.root.append(make("div", { class: "help", role: "dialog", "aria-label": "Keys" },
      make("table", {}, ...KEYS.map(([keys, what]) => make("tr", {}, make("th", {}, keys), make("td", {}, what)))),
      make("p", {}, timing), make("button", { onclick: () => this.help() }, "Close")));
  }

  key(event) {
    if (!this.root.isConnected || this.root.offsetParent === null) return;
    const target = event.composedPath()[0];
    const typing = target?.matches?.("input, textarea, select, [contenteditable]") || target?.isContentEditable;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && !typing) { event.preventDefault(); this.submit(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "Enter" && target?.matches?.("button, a, summary")) return; // it presses what has the focus
    const deed = {
      j: () => this.move(this.cursor + 1), ArrowDown: () => this.move(this.cursor + 1),
      k: () => this.move(this.cursor - 1), ArrowUp: () => this.move(this.cursor - 1),
      t: () => this.rateOn(5, "thumbs"), g: () => this.rateOn(1, "thumbs"), e: () => this.first(), u: () => this.takeBack(),
      s: () => this.skip(), Enter: () => this.comment(), b: () => this.flag("bad_prompt"), q: () => this.flag("unsure"),
      "?": () => this.help(), Escape: () => this.root.querySelector(".help")?.remove(),
    }[key] ?? (STARS.includes(+key) && key.length === 1 ? () => this.rateOn(+key, "stars") : null);
    if (!deed || (!this.item && key !== "?")) return;
    event.preventDefault(); event.stopPropagation();
    deed();
  }

  rateOn(score, scale) {
    const given = this.state.ratings[this.steps[this.cursor]];
    if (given?.score !== score || given.scale !== scale) this.rate(this.cursor, score, scale); // a key never takes back
    this.move(Math.min(this.cursor + 1, this.cards.length - 1));
  }
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".pad");
  if (!root || !data) return;
  root.__pad ??= new Pad(root);
  root.__pad.update(data, setStateValue);
}
