// The label pad. Paints every action at once, keeps it in the browser until the server says that it is stored, and sends what is
// not stored yet again: after a lost connection, a refresh, a restarted server. Each operation has an id made here, so that it
// is stored once. The server's word comes by a component of its own (acks.js), so that a rating does not bring the chats again:
// `outcomes` by operation id, "" for stored, else why not.

const STARS = [1, 2, 3, 4, 5];
const RESEND_MS = 4000;
const UNHEARD = 2; // so often sent in vain, and the person is told
const WAKE_MS = 13000; // unheard for longer than a store may take: the whole page is asked for, and then half as often each time
const DEAF_MS = 1500; // after a comment that could not begin: what somebody types on is no command
const KEYS = [
  ["1 – 5", "rate this step and go on"], ["T  G", "thumb up, thumb down"], ["J  K  ↓  ↑", "next, previous step"],
  ["E", "this is the first error (again: it is not)"], ["Enter", "say why, of the step just rated; Enter saves it, Esc drops it"],
  ["W", "write this step better"], ["B  Q  R", "flag: bad question, not sure, cannot be read"], ["U", "undo"], ["S", "skip this chat; a reason helps"],
  ["Ctrl + Enter", "submit, and on to the next chat"], ["?", "these keys"],
];

const MEANS = ["wrong or harmful", "poor", "partly right", "good", "right and useful"]; // unless the queue says what scores mean

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
const remembered = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const remember = (name, value) => { try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } };
const drafted = (name, value) => { // read, write, or with null forget
  try { return value === undefined ? sessionStorage.getItem(name) : value === null ? sessionStorage.removeItem(name) : sessionStorage.setItem(name, value); }
  catch { return null; }
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
const itemId = (chat, other) => other ? `${chat}+${other}` : chat;
const placeOf = (step, aspect) => aspect ? `${step}|${aspect}` : `${step}`;
const scoreWords = (score) => score ? `${score} of 5 stars` : "not rated";

class Pad {
  constructor(root) {
    this.root = root;
    this.items = [];
    this.states = new Map(); // by item: ratings by place, choices of a pair by place, first error, rewrites, flags
    this.pending = [];
    this.n = 0;
    this.sentAt = 0;
    this.unheard = 0; // messages sent since the server said that it had got one
    this.away = ""; // why nothing is saved at the moment
    this.cursor = 0;
    this.told = new Set(); // operations whose item was told of
    this.tellings = [];
    this.undo = [];
    this.back = new Map(); // by operation that may be refused: how things were before it
    this.shown = null;
    this.rated = null; // the card that was rated by the last key, while the cursor has gone on
    this.warned = ""; // the item of which was said that something is missing
    this.deafUntil = 0;
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey, true);
    root.addEventListener("pointerdown", () => { this.deafUntil = 0; });
    document.addEventListener("visibilitychange", () => this.clock());
    document.addEventListener("rlhf-acks", () => this.heard());
    this.gone = new Set(); // items that were submitted or skipped in another tab
    this.tabs = window.BroadcastChannel ? new BroadcastChannel("rlhf-pad") : null;
    this.tabs?.addEventListener("message", (event) => this.elsewhere(event.data));
    this.timer = setInterval(() => {
      if (!root.isConnected) { document.removeEventListener("keydown", this.onKey, true); clearInterval(this.timer); this.tabs?.close(); return; }
      if (this.pending.length && performance.now() - this.sentAt > RESEND_MS) {
        if (!this.unheard++) { this.unheardSince = this.sentAt; this.wakeAfter = WAKE_MS; }
        if (this.unheard >= UNHEARD) {
          this.away = "Not sent yet, and kept in this browser: the server does not answer. Go on; it is sent when it is back.";
          this.frame();
        }
        if (performance.now() - this.unheardSince > this.wakeAfter) { this.wakeAfter *= 2; window.__rlhfWake?.(); }
        this.send(true);
      }
    }, 1000);
  }

  // data from the server ------------------------------------------------------------------------------------------------

  update(data, setStateValue) {
    this.setStateValue = setStateValue;
    this.data = data;
    const before = this.queue;
    this.queue = data.queue_id;
    if (this.user !== data.user) {
      this.user = data.user;
      this.states.clear(); this.undo = []; this.shown = null;
      this.pending = this.kept();
    }
    this.items = data.items.filter((item) => !this.leaving(item.id) && (data.editing || !this.gone.has(item.id)));
    for (const item of this.items) if (!this.states.has(item.id)) this.states.set(item.id, this.begin(item));
    if (!this.items.length || this.shown !== this.items[0].id || this.asked_by !== this.asking) this.show();
    this.heard();
    this.frame();
    this.send(false);
    if (before && before !== this.queue) { // the menu of queues would get the keys that are meant for this
      document.activeElement?.blur?.();
      this.cards[this.cursor]?.focus({ preventScroll: true });
    }
  }

  heard() { // what the server says of the operations that it got
    const acks = window.__rlhfAcks;
    if (!acks || acks.user !== this.user || !this.root.isConnected) return;
    this.progress = acks.progress;
    if (acks.heard !== this.lastHeard) { this.lastHeard = acks.heard; this.unheard = 0; this.away = acks.problem; }
    for (const after of acks.after ?? []) if (!this.told.has(after.op)) { this.told.add(after.op); this.tell(after); }
    const refused = this.pending.filter((op) => acks.outcomes[op.id]);
    const before = this.pending.length;
    this.pending = this.pending.filter((op) => !(op.id in acks.outcomes));
    for (const op of refused) this.refused(op, acks.outcomes[op.id]);
    if (before === this.pending.length) { if (this.count) this.frame(); return; }
    this.keep();
    this.sentAt = 0;
    this.unheard = 0;
    if (this.shown === null && (this.item || !this.pending.length)) this.show();
    this.frame();
    this.send(false);
  }

  begin(item) {
    const state = { ratings: {}, choices: {}, rewrites: { ...item.rewrites }, first: item.first_error ?? null,
      flags: new Set(item.flags ?? []), dwell: {} };
    for (const [place, one] of Object.entries(item.ratings ?? {})) state.ratings[place] = { ...one };
    for (const [place, one] of Object.entries(item.choices ?? {})) state.choices[place] = { ...one };
    for (const op of this.pending) if (itemId(op.chat, op.value.other) === item.id) this.replay(state, op); // not stored yet
    return state;
  }

  replay(state, op) {
    const at = op.step ?? "", value = op.value;
    if (op.kind === "rate") state.ratings[at] = { ...state.ratings[at], score: value.score, scale: value.scale };
    if (op.kind === "aspect") {
      const place = placeOf(at, value.aspect);
      if (value.score === null) delete state.ratings[place]; else state.ratings[place] = { score: value.score };
    }
    if (op.kind === "withdraw") delete state.ratings[at];
    if (op.kind === "comment" && state.ratings[at]) state.ratings[at].comment = value.text;
    if (op.kind === "first_error") state.first = op.step;
    if (op.kind === "rewrite") {
      state.rewrites[op.step] = value.text;
      if (value.text && !(state.ratings[op.step]?.score <= 2)) state.ratings[op.step] = { ...state.ratings[op.step], score: 1, scale: "thumbs" };
    }
    if (op.kind === "prefer") {
      const place = placeOf(value.step ?? "", value.aspect);
      if (value.verdict === null) delete state.choices[place]; else state.choices[place] = { ...value };
    }
    if (op.kind === "flag") state.flags.add(value.flag);
    if (op.kind === "unflag") state.flags.delete(value.flag);
  }

  refused(op, outcome) {
    if (op.kind === "dwell") return;
    this.problem = `Not saved. ${outcome}`;
    const state = this.states.get(itemId(op.chat, op.value.other));
    if (!state) return;
    const at = op.kind === "rate" ? op.step ?? "" : op.kind === "aspect" ? placeOf(op.step ?? "", op.value.aspect) : null;
    if (at !== null && state.ratings[at]?.score === op.value.score) delete state.ratings[at];
    if (op.kind === "prefer") {
      const place = placeOf(op.value.step ?? "", op.value.aspect);
      if (state.choices[place]?.verdict === op.value.verdict) delete state.choices[place];
    }
    if (op.kind === "rewrite") {
      delete state.rewrites[op.step];
      const before = this.rewritten?.get(op.id);
      if (before === null) delete state.ratings[op.step]; else if (before) state.ratings[op.step] = before;
    }
    this.back.get(op.id)?.();
    if (at !== null || this.back.has(op.id) || op.kind === "prefer" || op.kind === "rewrite") this.shown = null;
  }

  // operations ----------------------------------------------------------------------------------------------------------

  get timing() { try { return localStorage.getItem("rlhf-pad-timing") !== "off"; } catch { return false; } }
  get place() { return `rlhf-pad:${this.user}`; }
  kept() { try { return JSON.parse(localStorage.getItem(this.place)) ?? []; } catch { return []; } }
  keep() {
    try { this.pending.length ? localStorage.setItem(this.place, JSON.stringify(this.pending)) : localStorage.removeItem(this.place); }
    catch { this.problem = "This browser keeps nothing: what is not saved yet would not survive a refresh."; }
  }

  say(kind, step, value = {}) {
    if (this.item.other) value = { ...value, other: this.item.other };
    const op = { id: uuid(), kind, chat: this.item.chat, step: step || null, value };
    this.pending.push(op);
    this.tabs?.postMessage({ user: this.user, op });
    this.problem = "";
    this.keep();
    this.send(false);
    return op.id;
  }

  elsewhere({ user, op }) { // what this person does in another tab of this browser is shown here too; that tab stores it
    if (user !== this.user || !this.root.isConnected || !this.data) return;
    const id = itemId(op.chat, op.value.other), state = this.states.get(id);
    if (state) this.replay(state, op);
    if ((op.kind === "submit" || op.kind === "skip") && op.value.queue === this.data.queue_id && !this.data.editing) {
      this.gone.add(id);
      this.items = this.items.filter((item) => item.id !== id);
      if (this.shown === id) { this.show(); this.problem = `You ${op.kind === "skip" ? "skipped" : "submitted"} the one before in another tab.`; }
      if (!this.items.length) this.setStateValue("again", Date.now());
    } else if (this.shown === id && state) { this.paintAll(); this.paintFlags(); }
    this.frame();
  }

  send(again) {
    if (!this.pending.length || (this.sentAt && !again)) return; // one message under way at a time, the whole list in each
    this.sentAt = performance.now();
    this.n = (this.n || Date.now()) + 1;
    this.setStateValue("ops", { n: this.n, from: this.user, list: this.pending });
  }

  // what is on screen ---------------------------------------------------------------------------------------------------

  get item() { return this.items[0]; }
  get state() { return this.states.get(this.item.id); }
  get pair() { return !!this.item?.other; }
  get here() { return this.places[this.cursor]; }
  get given() { const all = new Set(this.answered); return this.places.filter((place) => all.has(place.key)).length; }
  get answered() { return Object.keys(this.pair ? this.state.choices : this.state.ratings); }

  asked(of) { return (this.data.rubric?.aspects ?? []).filter((aspect) => aspect.of === of); }

  get asking() { return `${this.data.queue_id}:${this.data.asks}:${this.data.rubric?.version ?? 0}`; }
  leaving(id) { // submitted or skipped here, and the server has not said yet that it is so
    return !this.data.editing && this.pending.some((op) => (op.kind === "submit" || op.kind === "skip")
      && op.value.queue === this.data.queue_id && itemId(op.chat, op.value.other) === id);
  }

  layout() { // what is asked, in order: {key, step, aspect}; aspect null is the score itself
    const place = (step, aspect = null) => ({ key: placeOf(step, aspect?.key), step, aspect });
    const all = this.data.asks === "everything";
    if (this.pair) return this.pairLayout(place, all);
    return [...this.item.steps.map((step) => step.id), ""].flatMap((step) =>
      [...(all ? [place(step)] : []), ...this.asked(step ? "step" : "answer").map((aspect) => place(step, aspect))]);
  }

  show() {
    this.shown = this.item?.id ?? null;
    this.asked_by = this.asking;
    this.undo = [];
    this.rated = null;
    this.cards = [];
    this.places = this.item ? this.layout() : [];
    this.root.replaceChildren();
    this.root.classList.toggle("one", this.data.asks === "aspects");
    this.root.classList.toggle("two", this.pair);
    this.status = make("span", { class: "status", role: "status", "aria-live": "polite" });
    this.count = make("span", { class: "count" });
    this.bar = make("div", { class: "bar" }, make("div"));
    const top = make("div", { class: "top" }, this.count, this.status,
      make("button", { class: "quiet", title: "Keys (?)", "aria-label": "Show the keys", onclick: () => this.help() }, "?"));
    const edge = make("div", { class: "edge" });
    this.root.append(edge, top, this.bar);
    this.edge?.disconnect();
    this.edge = new IntersectionObserver(([one]) => top.classList.toggle("stuck", !one.isIntersecting && one.boundingClientRect.top < 60),
      { rootMargin: "-57px 0px 0px 0px" });
    this.edge.observe(edge);
    this.root.append(...this.tellings);
    if (this.data.guidelines) {
      const closed = `rlhf-guidelines:${this.data.queue_id}:${this.data.guidelines.length}`; // who has read them folds them
      const folds = () => remember(closed, panel.open ? "closed" : null); // at the click: "toggle" comes late, and again when drawn anew
      const panel = make("details", { class: "guidelines", open: !remembered(closed) },
        make("summary", { onclick: folds }, `Guidelines: ${this.data.queue}`));
      const words = make("div");
      words.innerHTML = this.data.guidelines; // made safe on the server
      panel.append(words);
      this.root.append(panel);
    }
    if (!this.item) {
      const waits = this.pending.some((op) => op.kind === "submit" || op.kind === "skip"); // the words are of before
      this.root.append(make("p", { class: "done" }, waits ? "One moment …" : this.data.done),
        waits ? "" : make("div", { class: "end" }, make("button", { onclick: () => this.setStateValue("again", Date.now()) }, "Look again")));
      this.frame();
      return;
    }
    const query = make("div", { class: "words" });
    query.innerHTML = this.item.query;
    this.root.append(make("section", { class: "query", "aria-label": "Question", dir: "auto" }, make("h2", {}, "Question"), query));
    if (!this.pair && this.data.asks === "everything" && !Object.keys(this.data.rubric?.overall ?? {}).length)
      this.root.append(make("p", { class: "means" }, ...MEANS.map((words, k) => make("span", {}, `${k + 1} ${words}`))));
    this.list = make("div", { class: "cards", role: "group", "aria-label": this.pair ? "Choices" : "Steps" });
    this.cards = this.places.map((place, index) => this.pair ? this.choice(place, index) : this.card(place, index));
    if (this.pair) this.showPair();
    else if (this.data.asks === "everything") this.list.append(...this.cards);
    else this.listAspects();
    this.flagButtons = this.pair ? [] : Object.entries(this.data.flags).map(([flag, words]) =>
      make("button", { class: "chip", "data-flag": flag, "aria-pressed": "false", onclick: () => this.flag(flag) }, words));
    this.root.append(this.list);
    if (!this.places.length) this.root.append(make("p", { class: "done" }, "This queue asks nothing: its rubric has no aspects yet."));
    this.root.append(make("div", { class: "flags", role: "group", "aria-label": "Flags" }, ...this.flagButtons),
      make("div", { class: "end" },
        make("button", { class: "primary", onclick: () => this.submit() }, this.data.editing ? "Done" : "Submit and next"),
        this.data.editing ? "" : make("button", { onclick: () => this.skip() }, "Skip …"),
        make("button", { onclick: () => this.takeBack() }, "Undo")));
    const given = new Set(this.answered);
    const open = (place) => !given.has(place.key);
    const wanted = this.places.findIndex((place) => open(place) && this.isAsked(place.step));
    this.cursor = Math.max(0, wanted >= 0 ? wanted : this.places.findIndex(open));
    this.paintAll();
    this.paintFlags();
    this.frame();
    this.move(this.cursor, false);
  }

  listAspects() { // one question at a time, under what it is about; the steps are there to read
    const groups = [...this.item.steps.map((step, k) => [step.id, `Step ${k + 1}`, step.html]), ["", "", ""]];
    for (const [step, title, html] of groups) {
      if (step) {
        const words = make("div", { class: "words", dir: "auto" });
        words.innerHTML = html;
        this.list.append(make("article", { class: "context" }, make("h3", {}, title), words));
      }
      this.list.append(...this.cards.filter((_, index) => this.places[index].step === step));
    }
  }

  isAsked(step) { // the queue was made from this very step
    return !this.pair && Boolean(step) && (this.item.asked ?? []).includes(this.item.steps.findIndex((one) => one.id === step) + 1);
  }

  card(place, index) {
    const { step, aspect } = place, whole = step === "";
    const title = (whole ? "The whole answer" : `Step ${this.item.steps.findIndex((one) => one.id === step) + 1}`)
      + (aspect ? `: ${aspect.key}` : "") + (this.isAsked(step) ? " · asked about" : "");
    const words = make("div", { class: "words", dir: "auto" });
    if (aspect) words.textContent = aspect.question;
    else words.innerHTML = whole ? "How good is the answer, all steps together?" : this.item.steps.find((one) => one.id === step).html;
    const stars = make("div", { class: "stars", role: "radiogroup", "aria-label": `Stars for ${title.toLowerCase()}` },
      ...STARS.map((score) => make("button", {
        role: "radio", "aria-checked": "false", "data-score": score, tabindex: "-1", title: `${score} of 5${aspect || this.data.rubric?.overall?.[score] ? "" : `: ${MEANS[score - 1]}`}`,
        "aria-label": `${score} of 5 stars`, onclick: () => { this.move(index, false); this.rate(index, score, "stars"); } }, "★")));
    const thumb = (score, name) => make("button", {
      class: "thumb", "data-thumb": score, "aria-pressed": "false", tabindex: "-1", "aria-label": name, title: name,
      onclick: () => { this.move(index, false); this.rate(index, score, "thumbs"); } }, icon(score === 1));
    const quiet = (name, words, deed) => make("button", {
      class: `quiet ${name}`, tabindex: "-1", onclick: () => { this.move(index, false); deed(); } }, words);
    const tools = [stars];
    if (!aspect) tools.push(thumb(5, "Thumb up"), thumb(1, "Thumb down"), quiet("comment", "Comment", () => this.comment()));
    if (!whole && !aspect) {
      tools.push(quiet("first", "First error", () => this.first()), quiet("rewrite", "Write it better", () => this.rewrite()));
      tools.at(-2).setAttribute("aria-pressed", "false");
    }
    const card = make("article", { class: aspect ? "card aspect" : "card", tabindex: "0", "data-index": index, onfocus: () => index !== this.cursor && this.move(index, false), onmousedown: (event) => {
      if (!event.composedPath().some((one) => one.tagName === "BUTTON" || one.tagName === "TEXTAREA")) this.move(index, false);
    } }, make("h3", {}, title), words, make("div", { class: "tools" }, ...tools),
    this.anchors(aspect ? aspect.anchors : this.data.rubric?.overall), make("p", { class: "said", dir: "auto" }));
    return card;
  }

  anchors(anchors) { // what each score means
    if (!anchors || !Object.keys(anchors).length) return "";
    return make("dl", { class: "anchors" }, ...Object.entries(anchors).flatMap(([score, words]) =>
      [make("dt", { "data-anchor": score }, score), make("dd", { "data-anchor": score, dir: "auto" }, words)]));
  }

  paint(index) {
    if (this.pair) { this.paintChoice(index); return; }
    const { key, step, aspect } = this.places[index], given = this.state.ratings[key], card = this.cards[index];
    const order = this.item.steps.findIndex((one) => one.id === step);
    const firstAt = this.state.first ? this.item.steps.findIndex((one) => one.id === this.state.first) : -1;
    const isFirst = !aspect && order >= 0 && order === firstAt;
    card.classList.toggle("rated", !!given);
    card.classList.toggle("wrong", isFirst);
    card.classList.toggle("after", firstAt >= 0 && order > firstAt);
    card.querySelectorAll("[data-score]").forEach((one) => {
      one.classList.toggle("on", !!given && +one.dataset.score <= given.score);
      one.setAttribute("aria-checked", String(!!given && +one.dataset.score === given.score));
    });
    card.querySelectorAll("[data-anchor]").forEach((one) => one.classList.toggle("on", !!given && +one.dataset.anchor === given.score));
    card.querySelectorAll("[data-thumb]").forEach((one) => {
      const on = !!given && (given.score > 3 ? 5 : given.score < 3 ? 1 : 0) === +one.dataset.thumb;
      one.classList.toggle("on", on); one.setAttribute("aria-pressed", String(on));
    });
    card.querySelector(".first")?.setAttribute("aria-pressed", String(isFirst));
    card.querySelector(".said").textContent = given?.comment ?? "";
    const better = (!aspect && this.state.rewrites[step]) || "";
    if (better && !card.querySelector(".better")) card.append(make("p", { class: "better", dir: "auto" }));
    if (card.querySelector(".better")) card.querySelector(".better").textContent = better;
    card.setAttribute("aria-label", `${card.querySelector("h3").textContent}, ${scoreWords(given?.score)}`
      + (isFirst ? ", the first error" : ""));
  }

  paintAll() { this.places.forEach((_, index) => this.paint(index)); }
  paintFlags() {
    for (const one of this.flagButtons) one.setAttribute("aria-pressed", String(this.state.flags.has(one.dataset.flag)));
  }

  frame() {
    const { submitted, items } = this.progress ?? { submitted: 0, items: 0 };
    const mine = submitted + (this.data.editing ? 0 : this.pending.filter((op) => op.kind === "submit").length);
    const rated = this.item ? this.given : 0, [noun, word] = this.pair ? ["pairs", "chosen"] : ["chats", "rated"];
    const of = rated + (this.item ? this.gaps().length : 0); // after a first error no step is asked about
    this.count.textContent = this.data.editing ? `Judged before; ${rated} of ${of} ${word}`
      : `${mine} of ${items} ${this.data.task === "choose" ? "pairs" : noun} submitted`
        + (this.item ? ` · ${rated} of ${of} ${word} here` : "");
    this.bar.firstChild.style.width = `${items ? Math.min(100, 100 * mine / items) : 0}%`;
    const away = this.pending.length ? this.away : "";
    this.status.className = `status ${this.problem || away ? "bad" : this.pending.length ? "busy" : "good"}`;
    this.status.textContent = this.problem || away || (this.pending.length ? "Saving …" : this.n || this.data.seen ? "Saved" : "");
    this.root.dataset.pending = this.pending.length;
    this.root.dataset.chat = this.item?.id ?? "";
  }

  // what a person does --------------------------------------------------------------------------------------------------

  clock() { // how long this step has been looked at
    const now = performance.now();
    if (this.since && this.item && !document.hidden) {
      const step = this.pair ? "" : this.here?.step ?? "";
      this.state.dwell[step] = (this.state.dwell[step] ?? 0) + now - this.since;
    }
    this.since = document.hidden ? 0 : now;
  }

  move(index, follow = true) {
    if (!this.item || index < 0 || index >= this.cards.length) return;
    this.clock();
    this.rated = null;
    this.mark(this.cursor, false);
    this.cursor = index;
    this.mark(index, true);
    if (follow) {
      this.cards[index].scrollIntoView({ block: "nearest" });
      this.cards[index].focus({ preventScroll: true });
    }
  }

  mark(index, here) { // Tab goes from card to card, and through the buttons of the one that one is at
    const card = this.cards[index];
    if (!card) return;
    card.classList.toggle("here", here);
    card.setAttribute("aria-current", String(here));
    card.querySelectorAll(".tools button, .scale button").forEach((one) => { one.tabIndex = here ? 0 : -1; });
    for (const group of card.querySelectorAll("[role=radiogroup]")) { // one stop for each; left and right go through it
      const radios = [...group.querySelectorAll("[role=radio]")], at = radios.find((one) => one.getAttribute("aria-checked") === "true") ?? radios[0];
      for (const one of radios) one.tabIndex = here && one === at ? 0 : -1;
    }
  }

  rate(index, score, scale) {
    const { key, step, aspect } = this.places[index], before = this.state.ratings[key];
    if (aspect) scale = undefined;
    const set = (one) => { // the rating at this place, or none
      if (one) this.state.ratings[key] = one; else delete this.state.ratings[key];
      if (aspect) this.say("aspect", step, { queue: this.data.queue_id, version: this.data.rubric.version, aspect: aspect.key, score: one?.score ?? null });
      else if (one) this.say("rate", step, { score: one.score, scale: one.scale });
      else this.say("withdraw", step);
    };
    const same = before?.score === score && before.scale === scale; // the same again takes it back
    set(same ? null : { ...before, score, scale });
    if (!same && before && this.timing) this.say("edit", step);
    this.undo.push(() => {
      set(before);
      if (before?.comment) this.say("comment", step, { text: before.comment });
      this.paint(index); this.move(index);
    });
    this.paint(index);
    if (index === this.cursor) this.mark(index, true);
    this.frame();
  }

  first() {
    const step = this.here?.step;
    if (!step || this.pair) return;
    const before = this.state.first;
    this.state.first = before === step ? null : step;
    this.back.set(this.say("first_error", this.state.first), () => { this.state.first = before; });
    this.undo.push(() => { this.state.first = before; this.say("first_error", before); this.paintAll(); });
    this.paintAll(); this.frame();
  }

  rewrite() { // a better step: with the original it becomes a preference, and both become step ratings
    const index = this.cursor, step = this.here?.step;
    if (!step || this.pair || this.here.aspect) return;
    const before = this.state.rewrites[step] ?? "", rated = this.state.ratings[step] ?? null;
    const set = (text) => { // what one writes anew is not good, whatever one said before
      if (text) this.state.rewrites[step] = text; else delete this.state.rewrites[step];
      const id = this.say("rewrite", step, { text });
      (this.rewritten ??= new Map()).set(id, rated);
      if (text && !(rated?.score <= 2)) this.state.ratings[step] = { ...rated, score: 1, scale: "thumbs" };
      this.paint(index); this.frame();
    };
    const box = this.ask(this.cards[index], "How should this step read?", before || this.item.steps.find((one) => one.id === step).text, this.data.limits.step, (text) => {
      if (text === before || text === this.item.steps.find((one) => one.id === step).text.trim()) return;
      set(text);
      this.undo.push(() => {
        set(before);
        if (before || rated?.score <= 2) return; // it had been rewritten, or found bad, before
        if (rated) this.state.ratings[step] = rated; else delete this.state.ratings[step];
        if (rated) this.say("rate", step, { score: rated.score, scale: rated.scale }); else this.say("withdraw", step);
        if (rated?.comment) this.say("comment", step, { text: rated.comment });
        this.paint(index); this.frame();
      });
    });
    const order = this.item.steps.findIndex((one) => one.id === step) + 1, chat = encodeURIComponent(this.item.id);
    if (this.data.proposes) box.append(make("a", { href: `playground?chat=${chat}&step=${order}`, target: "_blank", rel: "noopener" },
      "Let a policy propose"));
  }

  flag(flag) {
    if (this.pair) return;
    const on = !this.state.flags.has(flag);
    const state = this.state, set = (is) => { is ? state.flags.add(flag) : state.flags.delete(flag); };
    set(on);
    this.back.set(this.say(on ? "flag" : "unflag", null, { flag }), () => set(!on));
    this.undo.push(() => {
      on ? this.state.flags.delete(flag) : this.state.flags.add(flag);
      this.say(on ? "unflag" : "flag", null, { flag }); this.paintFlags();
    });
    this.paintFlags(); this.frame();
  }

  takeBack() {
    const back = this.undo.pop();
    if (back) back(); else this.problem = "Nothing to undo here. What you submitted is under My work, to be changed there.";
    this.frame();
  }

  ask(after, label, text, most, done, verb = "Save") { // a line of words without leaving the keyboard; one begun and not ended is kept in this tab
    this.root.querySelector(".ask")?.remove();
    const draft = `rlhf-draft:${this.user}:${this.item.id}:${this.here?.key}:${label}`;
    const area = make("textarea", { "aria-label": label, placeholder: `${label} Enter ${verb === "Save" ? "saves" : "skips"}, Esc drops it.`, maxlength: most,
      rows: Math.min(12, 2 + Math.floor(text.length / 90)), dir: "auto" });
    area.value = drafted(draft) ?? text;
    const left = make("span", { class: "left", role: "status", "aria-live": "polite" });
    const count = () => { left.textContent = area.value.length < 0.9 * most ? "" : `${area.value.length.toLocaleString("en")} of ${most.toLocaleString("en")} characters`; };
    area.addEventListener("input", () => { drafted(draft, area.value); count(); });
    area.addEventListener("paste", (event) => { // the browser would cut it without a word
      const more = event.clipboardData?.getData("text") ?? "", room = most - area.value.length + (area.selectionEnd - area.selectionStart);
      if (more.length > room) {
        event.preventDefault();
        area.setRangeText(more.slice(0, room), area.selectionStart, area.selectionEnd, "end");
        drafted(draft, area.value);
        left.textContent = `What you pasted has ${more.length.toLocaleString("en")} characters; the first ${room.toLocaleString("en")} fitted, at most ${most.toLocaleString("en")} are kept.`;
      }
    });
    count();
    const box = make("div", { class: "ask" }, area, left, make("button", { class: "primary", onclick: () => finish(true) }, verb),
      make("button", { onclick: () => finish(false) }, "Cancel"));
    const finish = (keep) => { box.remove(); drafted(draft, null); if (keep) done(area.value.trim()); this.cards[this.cursor]?.focus({ preventScroll: true }); };
    area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") { event.preventDefault(); finish(false); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault(); finish(true);
        if ((event.ctrlKey || event.metaKey) && verb === "Save") this.submit();
      }
    });
    after.append(box);
    area.focus();
    return box;
  }

  comment() {
    if (this.pair) { this.commentChoice(); return; }
    const index = this.about(), { step, aspect } = this.places[index], given = this.state.ratings[step];
    if (aspect) return;
    if (!given) { this.rateFirst("Rate first, then comment."); return; }
    this.ask(this.cards[index], "Why?", given.comment ?? "", this.data.limits.comment, (text) => {
      const before = given.comment ?? "", state = this.state;
      state.ratings[step] = { ...state.ratings[step], comment: text };
      this.back.set(this.say("comment", step, { text }), () => { if (state.ratings[step]) state.ratings[step].comment = before; });
      this.undo.push(() => { this.state.ratings[step].comment = before; this.say("comment", step, { text: before }); this.paint(index); });
      this.paint(index); this.frame();
    });
  }

  about() { return this.rated ?? this.cursor; } // a key that rates goes on to the next; words are for what it rated

  rateFirst(words) {
    this.problem = words;
    this.deafUntil = performance.now() + DEAF_MS;
    this.swallowed = false;
    this.frame();
  }

  gaps() { // indices of what is asked and not answered; after the first error nothing is
    const given = new Set(this.answered);
    const order = (step) => this.item.steps.findIndex((one) => one.id === step);
    const end = this.state.first ? order(this.state.first) : Infinity;
    const listed = !this.pair && (this.item.asked ?? []).length > 0; // the queue asks about some of the steps
    return this.places.flatMap(({ key, step }, index) =>
      given.has(key) || (step && !this.pair && order(step) > end) || (listed && !this.isAsked(step)) ? [] : [index]);
  }

  leave(kind, value) {
    this.clock();
    const { id } = this.item;
    if (this.timing) for (const [step, ms] of Object.entries(this.state.dwell))
      if (ms > 300) this.say("dwell", step, { ms: Math.round(ms) });
    this.say(kind, null, { queue: this.data.queue_id, ...value });
    this.items = this.items.filter((item) => item.id !== id);
    this.since = 0;
    this.tellings = [];
    this.show();
    this.root.scrollIntoView({ block: "start" });
  }

  submit() {
    if (!this.item) return;
    if (!this.answered.length && !this.state.first && !this.state.flags.size) {
      this.problem = this.pair ? "Nothing is chosen yet. Choose, or skip the pair with S."
        : "Nothing is rated yet. Rate a step, or skip the chat with S.";
      this.frame(); return;
    }
    if (this.data.editing) { this.clock(); this.setStateValue("done", ++this.n); return; }
    const gaps = this.gaps();
    if (gaps.length && this.warned !== this.item.id) {
      this.warned = this.item.id;
      this.problem = `${gaps.length} of ${this.given + gaps.length} not ${this.pair ? "chosen" : "rated"} yet. Submit again to leave ${gaps.length === 1 ? "it" : "them"} out.`;
      this.move(gaps[0]);
      this.frame(); return;
    }
    this.leave("submit", {});
  }

  tell(after) { // what may be said of the item that was submitted: its known answer, what a checkpoint thinks of it
    const row = (one) => make("tr", { class: one.same === false ? "missed" : one.same ? "met" : "" },
      make("th", {}, one.title), ...one.cells.map((words) => make("td", {}, words)));
    const why = make("div", { class: "words", dir: "auto" });
    why.innerHTML = after.explanation; // made safe on the server
    const panel = make("section", { class: "told", role: "status", "aria-label": "About the one before" },
      make("h3", {}, after.title),
      ...after.tables.map((table) => make("table", {}, make("tr", {}, make("th", {}), ...table.heads.map((head) => make("th", {}, head))),
        ...table.rows.map(row))), why,
      make("div", { class: "end" },
        make("button", { class: "primary", onclick: () => this.forget(panel) }, "Got it"),
        make("button", { onclick: () => this.setStateValue("look", { n: ++this.n, chat: after.chat, other: after.other }) }, "Look at it again")));
    this.tellings.push(panel);
    this.bar?.after(...this.tellings);
    this.root.scrollIntoView({ block: "start" });
  }
  forget(...panels) {
    for (const panel of panels) panel.remove();
    this.tellings = this.tellings.filter((one) => !panels.includes(one));
  }

  skip() {
    if (!this.item || this.data.editing) return;
    this.ask(this.root, "Why skip it?", "", this.data.limits.reason, (reason) => this.leave("skip", { reason, noted: this.timing }), "Skip");
  }

  help() {
    const there = this.root.querySelector(".help");
    if (there) { there.remove(); this.cards?.[this.cursor]?.focus({ preventScroll: true }); return; }
    const words = () => this.timing
      ? "How long you look at each step, changes and skips are noted with your ratings. Press to stop it."
      : "How long you look at a step, changes and skips are not noted. Press to note them.";
    const timing = make("button", { "aria-pressed": String(this.timing), onclick: () => {
      localStorage.setItem("rlhf-pad-timing", this.timing ? "off" : "on");
      timing.textContent = words(); timing.setAttribute("aria-pressed", String(this.timing));
    } }, words());
    this.root.append(make("div", { class: "help", role: "dialog", "aria-label": "Keys" },
      make("table", {}, ...(this.data.task === "choose" ? PAIR_KEYS : KEYS).map(([keys, what]) => make("tr", {}, make("th", {}, keys), make("td", {}, what)))),
      make("p", {}, timing), make("button", { class: "primary close", onclick: () => this.help() }, "Close")));
    this.root.querySelector(".help .close").focus({ preventScroll: true });
  }

  key(event) {
    if (!this.root.isConnected || this.root.offsetParent === null) return;
    const target = event.composedPath()[0];
    const typing = target?.matches?.("input, textarea, select, [contenteditable]") || target?.isContentEditable;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && !typing) { event.preventDefault(); this.submit(); return; }
    if (!typing && performance.now() < this.deafUntil && event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) {
      if (this.swallowed || !"01234567?".includes(event.key)) { // a number at first is what was asked for
        this.deafUntil = performance.now() + DEAF_MS;
        this.swallowed = true;
        event.preventDefault(); event.stopPropagation(); return;
      }
      this.deafUntil = 0;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, radio = target?.closest?.("[role=radio]");
    if (radio && (key === "ArrowLeft" || key === "ArrowRight")) {
      const next = key === "ArrowLeft" ? radio.previousElementSibling : radio.nextElementSibling;
      if (next) { event.preventDefault(); radio.tabIndex = -1; next.tabIndex = 0; next.focus(); }
      return;
    }
    if (key === "Enter" && target?.matches?.("button, a, summary")) return; // it presses what has the focus
    const deed = {
      j: () => this.move(this.cursor + 1), ArrowDown: () => this.move(this.cursor + 1),
      k: () => this.move(this.cursor - 1), ArrowUp: () => this.move(this.cursor - 1),
      t: () => this.rateOn(5, "thumbs"), g: () => this.rateOn(1, "thumbs"), e: () => this.first(), u: () => this.takeBack(),
      s: () => this.skip(), Enter: () => this.comment(), b: () => this.flag("bad_prompt"), q: () => this.flag("unsure"), r: () => this.flag("unreadable"),
      w: () => this.rewrite(), d: () => this.pair && this.stepwise(),
      "?": () => this.help(), Escape: () => { if (this.root.querySelector(".help")) this.help(); this.forget(...this.tellings); },
    }[key] ?? (key.length === 1 && this.pair && "01234567".includes(key) ? () => this.chooseOn(+key)
      : key.length === 1 && STARS.includes(+key) ? () => this.rateOn(+key, "stars") : null);
    if (!deed || (!this.item && key !== "?")) return;
    event.preventDefault(); event.stopPropagation();
    deed();
  }

  goOn() { // to the next, with words still for this one
    const done = this.cursor;
    this.move(Math.min(this.cursor + 1, this.cards.length - 1));
    this.rated = done;
  }

  rateOn(score, scale) {
    if (this.pair || !this.here) return;
    const given = this.state.ratings[this.here.key];
    if (given?.score !== score || (!this.here.aspect && given.scale !== scale)) this.rate(this.cursor, score, scale); // never takes back
    this.goOn();
  }
}

// pair.js adds what two answers need

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".pad");
  if (!root || !data) return;
  root.__pad ??= new Pad(root);
  root.__pad.update(data, setStateValue);
}
