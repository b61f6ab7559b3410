// The page: a conversation with whatever model a transport reaches.

import { Answer, asked } from "./turns.js";

const KEPT = "ponder-conversation";
const BUDGETS = [0, 16, 32, 64, 128, 256, 512, 1024, null];
const SLOW_SECONDS = 5;
const AGAIN = 0.7; // temperature of another try, so that it is another

const found = (id) => document.getElementById(id);

export class Page {
  /** A transport has open(), chat({messages, maxThinking, temperature, signal, grown}) and, if it can be locked, unlock(key). */
  constructor(transport) {
    this.transport = transport;
    this.turns = []; // {role, content, reasoning_content?, cut?}
    this.running = null;
    this.ready = false;
  }

  async begin() {
    found("ask").addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    found("question").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send(); }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.running) { event.preventDefault(); this.stop(); }
    });
    found("stop").addEventListener("click", () => this.stop());
    found("anew").addEventListener("click", () => this.anew());
    found("budget").addEventListener("input", () => this._showBudget());
    found("locked").addEventListener("close", () => this._unlocked());
    this._showBudget();
    this._restore();
    await this._open();
    this._offerUnanswered();
  }

  get budget() {
    return BUDGETS[Number(found("budget").value)];
  }

  /** Ask what stands in the field. */
  async send() {
    const text = found("question").value.trim();
    if (!text || this.running || !this.ready) return;
    found("question").value = "";
    this._add({ role: "user", content: text });
    await this._answer(0);
  }

  stop() {
    if (this.running) this.running.abort();
  }

  anew() {
    this.stop();
    this.turns = [];
    this._keep();
    found("log").replaceChildren();
    found("welcome").hidden = false;
    this._trouble("");
    found("question").focus();
  }

  async _open() {
    this._state("Getting the model ready ...");
    try {
      const about = await this.transport.open((text) => this._state(text));
      found("model").textContent = about.name;
      document.title = `${about.name} - Ponder`;
      this.ready = true;
      found("send").disabled = false;
      this._trouble("");
      this._state("");
    } catch (error) {
      this._state("");
      this._fail(error, () => this._open());
    }
  }

  /** Draw an answer to the conversation as it stands. */
  async _answer(temperature) {
    const answer = new Answer();
    found("log").append(answer.element);
    const running = new AbortController();
    this._begin(running);
    const began = performance.now();
    let first = null;
    const watch = setInterval(() => this._waiting(began, first), 1000);
    let told = null;
    let problem = null;
    try {
      told = await this.transport.chat({
        messages: this.turns.map(({ role, content, reasoning_content }) =>
          ({ role, content, ...(reasoning_content ? { reasoning_content } : {}) })),
        maxThinking: this.budget,
        temperature,
        signal: running.signal,
        grown: (isThinking, text) => {
          if (this.running !== running) return;
          first ??= performance.now();
          answer.grow(isThinking, text);
          this._follow();
        },
      });
    } catch (error) {
      problem = error;
    }
    clearInterval(watch);
    if (this.running !== running && !answer.element.isConnected) return;
    this._end();
    this._close(answer, told, problem, (performance.now() - (first ?? began)) / 1000);
  }

  _close(answer, told, problem, seconds) {
    const stopped = problem && problem.name === "AbortError";
    if (problem && !stopped && !answer.text && !answer.thought) answer.element.remove();
    else this._settle(answer, about(told, stopped, seconds), Boolean(problem));
    if (problem && !stopped) this._fail(problem, () => this._again(answer, 0));
    if (!found("locked").open) found("question").focus();
  }

  /** An answer that has ended, kept and with its buttons. */
  _settle(answer, text, cut) {
    answer.end(text);
    this.turns.push({ role: "assistant", content: answer.text, reasoning_content: answer.thought, about: text, cut });
    this._keep();
    this._offer(answer);
  }

  _offer(answer) {
    answer.offer([
      ["Copy", (button) => this._copy(answer.text, button)],
      ["Retry", () => this._again(answer, AGAIN)],
    ]);
  }

  /** Draw the last answer anew. */
  async _again(answer, temperature) {
    if (this.running) return;
    this._trouble("");
    const turns = [...found("log").children];
    const at = turns.indexOf(answer.element);
    if (at >= 0) {
      turns.slice(at).forEach((turn) => turn.remove());
      this.turns.splice(at);
    }
    await this._answer(temperature);
  }

  async _copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      this._state("Copied.");
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.closest("li").querySelector(".text"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      this._state("The browser does not let this page copy: the answer is selected, copy it with Ctrl+C.");
    }
  }

  _add(turn) {
    this.turns.push(turn);
    this._keep();
    found("welcome").hidden = true;
    found("log").append(asked(turn.content));
    this._follow();
  }

  _begin(running) {
    this.running = running;
    this._trouble("");
    found("stop").hidden = false;
    found("send").disabled = true;
    this._state("Thinking ...");
  }

  _end() {
    this.running = null;
    found("stop").hidden = true;
    found("send").disabled = !this.ready;
    this._state("");
  }

  _waiting(began, first) {
    const seconds = Math.round((performance.now() - began) / 1000);
    if (first === null && seconds >= SLOW_SECONDS) this._state(`Waiting for ${seconds} seconds; Esc gives up.`);
    else if (first !== null) this._state(`Answering, ${seconds} seconds.`);
  }

  _fail(error, again) {
    if (error.kind === "locked") {
      this._trouble(error.message);
      this._retry = again;
      if (!found("locked").open) found("locked").showModal();
      return;
    }
    this._trouble(error.kind ? error.message : `Something failed that should not: ${error.message}. Reload the page.`, again);
  }

  async _unlocked() {
    const key = found("key").value.trim();
    found("key").value = "";
    if (!key || !this.transport.unlock) return;
    this.transport.unlock(key);
    const again = this._retry;
    this._trouble("");
    await (again || (() => this._open()))();
  }

  _trouble(text, again = null) {
    const place = found("trouble");
    place.textContent = text;
    place.hidden = !text;
    if (!text || !again) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Retry";
    button.addEventListener("click", again);
    place.append(" ", button);
  }

  _state(text) {
    found("state").textContent = text;
  }

  _showBudget() {
    const text = this.budget === null ? "no limit" : this.budget === 0 ? "not at all" : `${this.budget} tokens`;
    found("allowed").textContent = text;
    found("budget").setAttribute("aria-valuetext", text);
  }

  _follow() {
    const place = document.querySelector("main");
    if (place.scrollHeight - place.scrollTop - place.clientHeight < 120) place.scrollTop = place.scrollHeight;
  }

  _keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.turns));
    } catch {
      // no room, or not allowed: the conversation then ends with the page
    }
  }

  /** What was said before a reload. */
  _restore() {
    let turns = [];
    try {
      turns = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
    } catch {
      // nothing that can be read
    }
    for (const turn of Array.isArray(turns) ? turns : []) {
      if (turn.role === "user") { this._add(turn); continue; }
      const answer = new Answer();
      if (turn.reasoning_content) answer.grow(true, turn.reasoning_content);
      answer.grow(false, turn.content);
      found("log").append(answer.element);
      this._settle(answer, turn.about || "", turn.cut);
    }
  }

  /** A question whose answer a reload cut off can be asked again. */
  _offerUnanswered() {
    const last = this.turns[this.turns.length - 1];
    if (this.ready && last && last.role === "user") {
      this._trouble("The page was left before the answer came.", () => this._again({}, 0));
    }
  }
}

/** How an answer came about, in a line. */
function about(told, stopped, seconds) {
  if (stopped) return "Stopped.";
  if (!told) return "Not whole.";
  const parts = [];
  if (told.tokens !== null) parts.push(`${told.tokens} tokens${told.thinking ? `, ${told.thinking} of thinking` : ""}`);
  if (told.tokens && seconds > 0) parts.push(`${Math.round(told.tokens / seconds)} tokens/s`);
  if (told.finish === "length") parts.push("cut off at its longest");
  return parts.length ? `${parts.join("; ")}.` : "";
}
