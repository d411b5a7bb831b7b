// Two answers to one question on the label pad: the same operations, keys and memory, another picture. A stands on the left (on a
// narrow screen above); which answer that is was drawn on the server. Choices run from 1 (A is much better) over 4 (equal) to 7 (B
// is much better); 0 is: both are bad.

const PAIR_KEYS = [
  ["1  2  3", "A is much, clearly, slightly better"], ["4", "they are equal"], ["5  6  7", "B is slightly, clearly, much better"],
  ["0", "both are bad"], ["D", "step by step, or as a whole"], ["J  K  ↓  ↑", "next, previous choice"],
  ["Enter", "say why; Enter saves it, Esc drops it"], ["U", "undo"], ["S", "skip this pair; a reason helps"],
  ["Ctrl + Enter", "submit, and on to the next pair"], ["?", "these keys"],
];
const CHOICES = [[1, "A much"], [2, "A clearly"], [3, "A slightly"], [4, "Equal"], [5, "B slightly"], [6, "B clearly"], [7, "B much"], [0, "Both bad"]];
const STRENGTHS = { 1: "slightly", 2: "clearly", 3: "much" };

Object.assign(Pad.prototype, {
  isStepwise() { try { return localStorage.getItem("rlhf-pad-stepwise") === "on"; } catch { return false; } },

  pairLayout(place, all) {
    const steps = Math.max(this.item.a.steps.length, this.item.b.steps.length);
    const compared = this.isStepwise() && all ? Array.from({ length: steps }, (_, k) => place(String(k + 1))) : [];
    return [...compared, ...(all ? [place("")] : []), ...this.asked("answer").map((aspect) => place("", aspect))];
  },

  showPair() {
    const answer = (name, html) => {
      const words = make("div", { class: "words", dir: "auto" });
      words.innerHTML = html;
      return make("article", { class: "answer", "aria-label": `Answer ${name}` }, make("h3", {}, name), words);
    };
    const { a, b } = this.item, both = (left, right) => make("div", { class: "both" }, answer("A", left), answer("B", right));
    if (this.isStepwise() && this.data.asks === "everything") {
      const none = "<p><em>no further step</em></p>";
      this.places.forEach((place, index) => {
        if (place.step) this.list.append(both(a.steps[place.step - 1] ?? none, b.steps[place.step - 1] ?? none));
        this.list.append(this.cards[index]);
      });
    } else this.list.append(both(a.whole, b.whole), ...this.cards);
    if (this.data.asks === "everything")
      this.list.prepend(make("button", { class: "quiet stepwise", "aria-pressed": String(this.isStepwise()), onclick: () => this.stepwise() },
        "Step by step"));
  },

  stepwise() {
    try { localStorage.setItem("rlhf-pad-stepwise", this.isStepwise() ? "off" : "on"); } catch { return; }
    this.show();
  },

  choice(place, index) {
    const title = place.aspect ? place.aspect.key : place.step ? `Step ${place.step}` : "All in all";
    const words = make("p", { class: "words", dir: "auto" },
      place.aspect ? place.aspect.question : place.step ? "Which answer is better up to and with this step?" : "Which answer is better?");
    const buttons = CHOICES.map(([n, name]) => make("button", {
      role: "radio", "aria-checked": "false", "data-choice": n, tabindex: "-1", title: `${name} (${n})`,
      onclick: () => { this.move(index, false); this.choose(index, n); } }, name));
    return make("article", { class: "card choice", tabindex: "0", "data-index": index, onfocus: () => index !== this.cursor && this.move(index, false), onmousedown: (event) => {
      if (!event.composedPath().some((one) => one.tagName === "BUTTON" || one.tagName === "TEXTAREA")) this.move(index, false);
    } }, make("h3", {}, title), words, make("div", { class: "scale", role: "radiogroup", "aria-label": title }, ...buttons),
    make("div", { class: "tools" }, make("button", { class: "quiet comment", tabindex: "-1", onclick: () => { this.move(index, false); this.comment(); } }, "Comment")),
    make("p", { class: "said", dir: "auto" }));
  },

  numberOf(given) { // what is stored, as it is shown
    if (!given) return null;
    if (given.verdict === "tie") return 4;
    if (given.verdict === "both_bad") return 0;
    const isA = (given.verdict === "chat") === (this.item.left === this.item.chat), strength = given.strength ?? 2;
    return isA ? 4 - strength : 4 + strength;
  },

  verdictOf(n) {
    if (n === 4) return { verdict: "tie", strength: null };
    if (n === 0) return { verdict: "both_bad", strength: null };
    return { verdict: (n < 4) === (this.item.left === this.item.chat) ? "chat" : "other", strength: Math.abs(n - 4) };
  },

  paintChoice(index) {
    const place = this.places[index], given = this.state.choices[place.key], card = this.cards[index], n = this.numberOf(given);
    card.classList.toggle("rated", !!given);
    card.querySelectorAll("[data-choice]").forEach((one) => {
      one.classList.toggle("on", n === +one.dataset.choice);
      one.setAttribute("aria-checked", String(n === +one.dataset.choice));
    });
    card.querySelector(".said").textContent = given?.comment ?? "";
    const words = n === null ? "not chosen" : n === 4 ? "equal" : n === 0 ? "both are bad"
      : `${n < 4 ? "A" : "B"} is ${STRENGTHS[Math.abs(n - 4)]} better`;
    card.setAttribute("aria-label", `${card.querySelector("h3").textContent}, ${words}`);
  },

  setChoice(index, given) {
    const place = this.places[index];
    if (given) this.state.choices[place.key] = given; else delete this.state.choices[place.key];
    this.say("prefer", null, {
      step: place.step ? +place.step : null, aspect: place.aspect?.key ?? "", left: this.item.left,
      verdict: given?.verdict ?? null, strength: given?.strength ?? null, comment: given?.comment ?? "",
    });
    this.paint(index); this.frame();
  },

  choose(index, n) {
    const before = this.state.choices[this.places[index].key];
    const same = this.numberOf(before) === n; // the same again takes it back
    this.setChoice(index, same ? null : { comment: before?.comment ?? "", ...this.verdictOf(n) });
    if (before && !same && this.timing) this.say("edit", null);
    this.undo.push(() => { this.setChoice(index, before); this.move(index); });
  },

  chooseOn(n) {
    if (!this.here) return;
    if (this.numberOf(this.state.choices[this.here.key]) !== n) this.choose(this.cursor, n); // a key never takes back
    this.goOn();
  },

  commentChoice() {
    const index = this.about(), given = this.state.choices[this.places[index]?.key];
    if (!given) { this.rateFirst("Choose first, then comment."); return; }
    this.ask(this.cards[index], "Why?", given.comment ?? "", this.data.limits.comment, (text) => {
      this.setChoice(index, { ...given, comment: text });
      this.undo.push(() => this.setChoice(index, given));
    });
  },
});
