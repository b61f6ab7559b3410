// The model inside this page, as the page's transport.

import { opened, parted } from "./engine.js";

const MOST_TOKENS = 4096;

export class Local {
  constructor(base = new URL("./", document.baseURI)) {
    this.base = base;
    this.engine = null;
  }

  async open(told) {
    this.engine ??= await opened(this.base, told);
    return { name: this.engine.about.name, positions: this.engine.about.context };
  }

  async chat({ messages, maxThinking, temperature, signal, grown }) {
    const engine = this.engine;
    const used = (await engine.prompt(messages)).length;
    const maxTokens = Math.max(1, Math.min(MOST_TOKENS, engine.about.context - used));
    const shown = { thought: 0, answer: 0 };
    const tell = ({ text }) => {
      const parts = parted(text, engine.about.opened);
      for (const kind of ["thought", "answer"]) {
        if (parts[kind].length > shown[kind]) grown(kind === "thought", engine.unmark(parts[kind].slice(shown[kind])));
        shown[kind] = parts[kind].length;
      }
    };
    const seed = Math.floor(Math.random() * 2 ** 31);
    const drawn = await engine.generate(messages, { maxTokens, maxThinking, temperature, seed }, { signal, grown: tell });
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
    return { finish: drawn.finish, tokens: drawn.tokens.length, thinking: drawn.count };
  }
}
