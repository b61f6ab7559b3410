// A turn of the conversation on the page. Whatever a model says is put in as text, never as markup.

/** An element with a class and text. */
export function made(name, kind, text = "") {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}

/** A question. */
export function asked(text) {
  const turn = made("li", "asked");
  turn.append(made("h2", "", "You"), made("div", "text", text));
  return turn;
}

/** An answer that may still grow. */
export class Answer {
  constructor() {
    this.thought = "";
    this.text = "";
    this.element = made("li", "answer");
    this._folded = made("details");
    this._summary = made("summary", "", "Thinking");
    this._thought = made("div", "thought");
    this._text = made("div", "text");
    this._about = made("p", "about");
    this._tools = made("div", "tools");
    this._folded.append(this._summary, this._thought);
    this._folded.hidden = true;
    this._text.setAttribute("aria-live", "polite");
    this._text.setAttribute("aria-busy", "true");
    this.element.append(made("h2", "", "Model"), this._folded, this._text, this._about, this._tools);
  }

  grow(isThinking, text) {
    if (isThinking) {
      this.thought += text;
      this._thought.append(text);
      this._folded.hidden = false;
    } else {
      this.text += text;
      this._text.append(text);
    }
  }

  /** It grows no more; `about` says what there is to say of it. */
  end(about) {
    this._text.setAttribute("aria-busy", "false");
    this._summary.textContent = "Thoughts";
    this._about.textContent = about;
  }

  /** Buttons below it: [name, what it does]. */
  offer(tools) {
    this._tools.replaceChildren(...tools.map(([name, act]) => {
      const button = made("button", "", name);
      button.type = "button";
      button.addEventListener("click", () => act(button));
      return button;
    }));
  }
}
