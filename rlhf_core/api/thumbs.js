// Thumbs on a step of an answer: <rlhf-thumbs api="https://…/api" chat-id="…" step-id="…" ticket="…"></rlhf-thumbs>
//
// Needs nothing else. Attributes: api, chat-id, step-id or step-order (neither: the whole answer), ticket, label. The property
// `ticket` may be a function that fetches one, called again where the server says that the last one ran out.
// States (attribute `state`): idle, sending, thanked, failed. Events: `thumbs-sent` and `thumbs-failed`, with a `detail`.

const TIMEOUT_MS = 15000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function post(api, path, ticket, body, fresh = false) {
  const value = typeof ticket === "function" ? await ticket(fresh) : ticket;
  const response = await fetch(`${api.replace(/\/$/, "")}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${value}` },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
    keepalive: true, // also where the page is left meanwhile
  });
  if (response.status === 401 && typeof ticket === "function" && !fresh) return post(api, path, ticket, body, true);
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, said.detail || response.statusText);
  return said;
}

/** One word on a step or an answer: { id, chatId, stepId?, stepOrder?, feedbackType | feedbackScore, comment?, timestamp? }. */
export const sendFeedback = (api, ticket, word) => post(api, "/assistant/feedback", ticket, word);

/** An implicit signal: { id?, chatId, stepId?, stepOrder?, signal, value? }; signal is copy, regenerate, edit, dwell or follow_up. */
export const sendSignal = (api, ticket, details) =>
  post(api, "/metrics/chat-feedback", ticket, {
    timestamp: new Date().toISOString(),
    eventType: "chat_feedback",
    details: { id: newId(), ...details },
  });

/** crypto.randomUUID is there on secure pages only. */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
}

const UP = "M2 10h4v11H2zM22 11a2 2 0 0 0-2-2h-6l1-5a2 2 0 0 0-2-2l-5 7v12h10a2 2 0 0 0 2-1.5l2-7z";
const STYLE = `
  :host { display: inline-flex; align-items: center; gap: .25rem; font: inherit; color: inherit; min-height: 2rem; }
  :host([hidden]) { display: none; }
  button { font: inherit; color: inherit; background: none; border: 1px solid transparent; border-radius: .4rem; padding: .3rem .4rem;
           min-width: 2rem; min-height: 2rem; cursor: pointer; display: inline-flex; align-items: center; justify-content: center; }
  button:hover:enabled { border-color: currentColor; }
  button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
  button[aria-disabled="true"] { opacity: .45; cursor: progress; }
  button[aria-pressed="true"] svg { fill: currentColor; }
  svg { width: 1.1em; height: 1.1em; fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linejoin: round; }
  .down svg { transform: rotate(180deg); }
  .said { font-size: .875em; }
  .failed { color: var(--rlhf-thumbs-error, #b42318); }
  @media (prefers-color-scheme: dark) { .failed { color: var(--rlhf-thumbs-error, #f97066); } }
  .text { text-decoration: underline; padding: .3rem .2rem; font-size: .875em; }
`;

export class RlhfThumbs extends HTMLElement {
  static observedAttributes = ["chat-id", "step-id", "step-order"];
  #word = null; // what is being said, kept as it is for another try
  #ticket = null;
  #parts = null;

  get ticket() {
    return this.#ticket ?? this.getAttribute("ticket") ?? "";
  }
  set ticket(value) {
    this.#ticket = value;
  }
  get state() {
    return this.getAttribute("state") || "idle";
  }

  connectedCallback() {
    if (this.#parts) return;
    const root = this.attachShadow({ mode: "open" });
    const style = document.createElement("style");
    style.textContent = STYLE;
    const button = (kind, label) => {
      const one = document.createElement("button");
      one.type = "button";
      one.className = kind;
      one.setAttribute("part", kind);
      one.setAttribute("aria-label", label);
      one.setAttribute("aria-pressed", "false");
      one.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${UP}"/></svg>`;
      one.addEventListener("click", () => this.rate(kind === "up" ? "positive" : "negative"));
      return one;
    };
    const what = this.getAttribute("label") || (this.#isStep() ? "this step" : "this answer");
    const up = button("up", `Good: ${what}`);
    const down = button("down", `Bad: ${what}`);
    const said = document.createElement("span");
    said.className = "said";
    said.setAttribute("part", "said");
    said.setAttribute("role", "status");
    const again = document.createElement("button");
    again.type = "button";
    again.className = "text";
    again.textContent = "Try again";
    again.hidden = true;
    again.style.display = "none";
    again.addEventListener("click", () => this.#send());
    this.setAttribute("role", "group");
    if (!this.hasAttribute("aria-label")) this.setAttribute("aria-label", `Rate ${what}`);
    root.append(style, up, down, said, again);
    this.#parts = { up, down, said, again };
    this.#show("idle");
  }

  attributeChangedCallback(_name, before, after) {
    if (this.#parts && before !== after) {
      this.#word = null; // it stands on another step now
      this.#show("idle");
    }
  }

  /** Say positive or negative of the step. Another word takes the place of the last. */
  rate(feedbackType) {
    if (this.state === "sending" || (this.state === "thanked" && this.#word?.feedbackType === feedbackType)) return;
    this.#word = { id: newId(), chatId: this.getAttribute("chat-id"), feedbackType, timestamp: new Date().toISOString() };
    if (this.hasAttribute("step-id")) this.#word.stepId = this.getAttribute("step-id");
    else if (this.hasAttribute("step-order")) this.#word.stepOrder = Number(this.getAttribute("step-order"));
    return this.#send();
  }

  #isStep() {
    return this.hasAttribute("step-id") || this.hasAttribute("step-order");
  }

  async #send() {
    const word = this.#word;
    if (!word || this.state === "sending") return;
    const { up, down, again } = this.#parts;
    if (this.shadowRoot.activeElement === again) (word.feedbackType === "positive" ? up : down).focus(); // it is hidden now
    this.#show("sending");
    try {
      const detail = await sendFeedback(this.getAttribute("api") || "/api", this.ticket, word);
      if (word !== this.#word) return;
      this.#show("thanked");
      this.dispatchEvent(new CustomEvent("thumbs-sent", { detail, bubbles: true, composed: true }));
    } catch (error) {
      if (word !== this.#word) return;
      this.#show("failed", error instanceof Refused ? error.message : "No answer from the server.");
      this.dispatchEvent(new CustomEvent("thumbs-failed", { detail: error, bubbles: true, composed: true }));
      if (this.shadowRoot.activeElement) again.focus(); // unless the person went on meanwhile
    }
  }

  #show(state, why = "") {
    const { up, down, said, again } = this.#parts;
    this.setAttribute("state", state);
    this.toggleAttribute("busy", state === "sending");
    this.setAttribute("aria-busy", String(state === "sending"));
    for (const [one, kind] of [[up, "positive"], [down, "negative"]]) {
      one.setAttribute("aria-disabled", String(state === "sending")); // not `disabled`: the focus would be lost
      one.setAttribute("aria-pressed", String(state !== "idle" && this.#word?.feedbackType === kind));
    }
    said.className = state === "failed" ? "said failed" : "said";
    said.textContent = { idle: "", sending: "Sending …", thanked: "Thank you!", failed: `Not sent. ${why}` }[state];
    again.hidden = state !== "failed";
    again.style.display = state === "failed" ? "" : "none";
  }
}

customElements.define("rlhf-thumbs", RlhfThumbs);
