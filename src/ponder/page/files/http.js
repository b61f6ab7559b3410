// The model behind a server that speaks OpenAI's protocol: this page's own.

import { Trouble, fromReply } from "./trouble.js";

const KEY = "ponder-key";

export class Http {
  constructor(base = new URL("./v1/", document.baseURI)) {
    this.base = base;
    this.model = "";
  }

  /** Keep the key as long as this tab lives. */
  unlock(key) {
    sessionStorage.setItem(KEY, key);
  }

  /** What is served: {name, positions}. */
  async open() {
    const reply = await this._ask("models", { method: "GET" });
    const listed = await reply.json();
    this.model = listed.data[0].id;
    return { name: this.model, positions: listed.data[0].max_model_len };
  }

  /** Answer a conversation; `grown(isThinking, text)` is told every piece. Returns {finish, tokens, thinking}. */
  async chat({ messages, maxThinking, temperature, signal, grown }) {
    const body = { model: this.model, messages, temperature, stream: true, stream_options: { include_usage: true } };
    if (maxThinking !== null) body.max_thinking_tokens = maxThinking;
    const reply = await this._ask("chat/completions", {
      method: "POST", body: JSON.stringify(body), signal, headers: { "content-type": "application/json" },
    });
    const told = { finish: "", tokens: null, thinking: null };
    for await (const event of events(reply.body)) {
      if (event === "[DONE]") return told;
      const data = JSON.parse(event);
      if (data.error) throw fromReply(500, data, null);
      for (const choice of data.choices) {
        if (choice.delta.reasoning_content) grown(true, choice.delta.reasoning_content);
        if (choice.delta.content) grown(false, choice.delta.content);
        told.finish = choice.finish_reason || told.finish;
      }
      if (data.usage) {
        told.tokens = data.usage.completion_tokens;
        told.thinking = (data.usage.completion_tokens_details || {}).reasoning_tokens ?? null;
      }
    }
    throw new Trouble("cut", "The connection was cut before the answer ended. Press Retry.");
  }

  async _ask(path, options) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    let reply;
    try {
      reply = await fetch(new URL(path, this.base), { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble("gone", "The server cannot be reached. See that it runs, then press Retry; your question is kept.");
    }
    if (reply.ok) return reply;
    throw fromReply(reply.status, await reply.json().catch(() => null), reply.headers.get("retry-after"));
  }
}

/** Data of server-sent events, whatever pieces they come in. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (waiting + value).split("\n");
      waiting = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6).trimEnd();
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("cut", "The connection was cut before the answer ended. Press Retry.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
