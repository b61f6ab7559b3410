// llama.cpp in this page, by wllama: tokens, prompts and completions of the model that lies beside the page.
//
// wllama reads names of special tokens in every prompt as these tokens, whoever wrote them. In the file beside this page
// they therefore bear other names, whose first and last character nobody can type: MARK_OPEN and MARK_CLOSE. What a user
// writes can then be no special token, and is refused if it holds one of these characters.

import { Trouble } from "./trouble.js";

const MARK_OPEN = "\u0002";
const MARK_CLOSE = "\u0003";
const OPEN = "<think>";
const CLOSE = "</think>";
const MARKED = /\u0002[^\u0002\u0003]*\u0003/g;
const REFUSED = /[\u0002\u0003]/;
// Whole characters: wllama fails at writing down others, which a model may draw at a high temperature.
const CHARACTERS = "root ::= .*";
// Never with `n_probs`: wllama fails at writing down a drawn token that is a part of a character.
const PLAIN = { samplers: ["top_k", "top_p", "temperature"], min_p: 0, repeat_penalty: 1, cache_prompt: true, verbose: true, return_tokens: true };

export class Engine {
  /** `about`: what ponder-web.json says; `wllama`: with the model loaded. */
  constructor(wllama, about) {
    this.wllama = wllama;
    this.about = about;
    this._marked = new Map(Object.entries(about.specials).map(([name, id]) => [mark(name), id]));
    this._names = new Map(Object.keys(about.specials).map((name) => [mark(name), name]));
    this._lookAlike = new RegExp(Object.keys(about.specials).sort((a, b) => b.length - a.length)
      .map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") || "(?!)", "g");
    this._busy = Promise.resolve();
    this._known = new Map();
  }

  /** Token ids of a text; with `special` names of special tokens are read as these tokens. */
  async encode(text, special = false) {
    refuse(text);
    const ids = [];
    let at = 0;
    for (const match of special ? text.matchAll(this._lookAlike) : []) {
      ids.push(...await this._plain(text.slice(at, match.index)), this.about.specials[match[0]]);
      at = match.index + match[0].length;
    }
    return [...ids, ...await this._plain(text.slice(at))];
  }

  /** The conversation as text with the generation prompt, by the file's own template. */
  async render(messages, thinking = true) {
    return this.unmark(await this._rendered(messages, thinking));
  }

  /** Token ids that `generate` begins from. */
  async prompt(messages) {
    return this._ids(await this._rendered(messages, true));
  }

  /**
   * One completion: {text, tokens, forced, finish, prompt, count}.
   * sampling: {maxTokens, maxThinking (null: unlimited), temperature, topP, topK, seed, commit}
   */
  async generate(messages, sampling, { signal = null, grown = null } = {}) {
    const rendered = await this._rendered(messages, true);
    const prompt = await this._ids(rendered);
    if (prompt.length + sampling.maxTokens > this.about.context) {
      throw new Trouble("refused", `${prompt.length} prompt tokens and ${sampling.maxTokens} new ones do not fit the ${this.about.context} positions`);
    }
    const drawn = { text: "", tokens: [], lost: 0, forced: [], inside: this.about.opened, count: 0, ended: false };
    const commit = sampling.commit ? await this.encode(`\n\n${sampling.commit}`) : [];
    while (!drawn.ended && drawn.tokens.length + drawn.lost < sampling.maxTokens) {
      if (signal && signal.aborted) break;
      if (drawn.inside && sampling.maxThinking !== null && drawn.count >= sampling.maxThinking) {
        this._force(drawn, [this.about.think[1], ...commit], sampling.commit ? `\n\n${sampling.commit}` : "");
        if (grown) grown(drawn);
      } else {
        await this._draw(rendered, sampling, drawn, signal, grown);
      }
    }
    return { ...drawn, text: this.unmark(drawn.text), prompt, finish: drawn.ended ? "stop" : "length" };
  }

  /**
   * (token, log-probability) of the k likeliest tokens behind a text with marks, or null where it is not cut into `ids`.
   * `parts`: tokens that are no whole characters, which wllama fails at writing down: the distribution is that of the others.
   */
  async expected(text, ids, k, parts) {
    if ((await this._ids(text)).join() !== ids.join()) return null;
    const reply = await this._complete({
      ...PLAIN, prompt: text, n_predict: 1, temperature: 1, samplers: [], n_probs: k, post_sampling_probs: true,
      logit_bias: parts.map((id) => [id, false]),
    });
    const [row] = reply.choices[0].logprobs.content;
    return row.top_probs.filter(({ prob }) => prob > 0).map(({ id, prob }) => [id, Math.log(prob)]);
  }

  /** A text as people know it. */
  unmark(text) {
    return text.replace(MARKED, (name) => this._names.get(name) ?? name);
  }

  async _draw(rendered, sampling, drawn, signal, grown) {
    const limit = sampling.maxThinking;
    let count = sampling.maxTokens - drawn.tokens.length - drawn.lost;
    if (limit !== null) count = Math.min(count, drawn.inside ? limit - drawn.count : Math.max(1, limit));
    const before = { text: drawn.text.length, tokens: drawn.tokens.length, inside: drawn.inside, count: drawn.count };
    let predicted = 0;
    const asked = {
      ...PLAIN, prompt: rendered + drawn.text, n_predict: count, temperature: sampling.temperature,
      grammar: CHARACTERS, top_k: sampling.topK || 0, top_p: sampling.topP ?? 1, seed: (sampling.seed + before.tokens) % 2 ** 32,
      stream: true, onData: (chunk) => {
        predicted = Math.max(predicted, (chunk.__verbose || {}).tokens_predicted || 0);
        this._take(chunk, drawn);
        if (grown) grown(drawn);
      }, ...(signal ? { abortSignal: signal } : {}),
    };
    let final = null;
    try {
      final = await this._complete(asked);
    } catch (error) {
      if ((signal && signal.aborted) || drawn.tokens.length === before.tokens) throw error;
      return; // bytes that are no character all the same: from what stands, it is drawn on
    }
    if (predicted > drawn.tokens.length - before.tokens) await this._recover(drawn, before, predicted);
    if (this.about.ends.includes(drawn.tokens.at(-1)) || (final && final.choices[0].finish_reason === "stop")) drawn.ended = true;
    else if (predicted === 0 && drawn.tokens.length === before.tokens) drawn.ended = true;
  }

  /** What one piece of a stream adds. */
  _take(chunk, drawn) {
    const [choice] = chunk.choices;
    if (choice.finish_reason) return;
    drawn.text += choice.text;
    for (const token of (chunk.__verbose || {}).tokens || []) {
      drawn.tokens.push(token);
      this._step(drawn, token);
    }
  }

  /** A character of several tokens comes with the last of them alone: the others are found in the text, or counted. */
  async _recover(drawn, before, predicted) {
    const ids = await this._ids(drawn.text.slice(before.text));
    if (this.about.ends.includes(drawn.tokens.at(-1))) ids.push(drawn.tokens.at(-1));
    if (ids.length !== predicted) {
      drawn.lost += predicted - (drawn.tokens.length - before.tokens);
      return;
    }
    drawn.tokens.length = before.tokens;
    [drawn.inside, drawn.count] = [before.inside, before.count];
    for (const token of ids) {
      drawn.tokens.push(token);
      this._step(drawn, token);
    }
  }

  _force(drawn, tokens, text) {
    for (const token of tokens) {
      drawn.forced.push(drawn.tokens.length);
      drawn.tokens.push(token);
      this._step(drawn, token);
    }
    drawn.text += mark(CLOSE) + text;
  }

  _step(drawn, token) {
    const [opening, closing] = this.about.think;
    if (drawn.inside && token !== closing) drawn.count += 1;
    drawn.inside = (drawn.inside || token === opening) && token !== closing;
  }

  /**
   * One request at a time: there is one model and one thread. A request that leaves the choice of a slot to llama.cpp
   * makes it keep the prompt before in memory, up to 8 GiB, which is more than a page can have.
   */
  _complete(options, chat = false) {
    const asked = { ...options, id_slot: 0 };
    const work = () => (chat ? this.wllama.createChatCompletion(asked) : this.wllama.createCompletion(asked));
    const result = this._busy.then(work, work);
    this._busy = result.catch(() => {});
    return result;
  }

  async _rendered(messages, thinking) {
    messages.forEach(({ content, reasoning_content }) => refuse(content + (reasoning_content || "")));
    const reply = await this._complete({
      messages, max_tokens: 1, temperature: 0, verbose: true, chat_template_kwargs: { enable_thinking: thinking },
    }, true);
    return reply.__verbose.prompt;
  }

  async _ids(rendered) {
    const ids = [];
    let at = 0;
    for (const match of rendered.matchAll(MARKED)) {
      if (!this._marked.has(match[0])) continue;
      ids.push(...await this._plain(rendered.slice(at, match.index)), this._marked.get(match[0]));
      at = match.index + match[0].length;
    }
    return [...ids, ...await this._plain(rendered.slice(at))];
  }

  /** llama.cpp tells the tokens of a text where it is asked to make them less likely. */
  async _plain(text) {
    if (!text) return [];
    let ids = this._known.get(text);
    if (ids === undefined) {
      const reply = await this._complete({ prompt: mark(this.about.first), n_predict: 1, temperature: 0, verbose: true, logit_bias: [[text, -0.001]] });
      ids = reply.__verbose.generation_settings.logit_bias.map(({ token }) => token);
      if (text.length < 200 && this._known.size < 512) this._known.set(text, ids);
    }
    return ids;
  }
}

/** {thought, answer} of a growing text with marks; `begun`: the prompt ends inside a thought. */
export function parted(text, begun) {
  const whole = begun ? mark(OPEN) + text : text;
  const at = whole.indexOf(mark(OPEN));
  if (at < 0) return { thought: "", answer: whole.trimStart() };
  const inner = whole.slice(at + mark(OPEN).length);
  const end = inner.indexOf(mark(CLOSE));
  if (end < 0) return { thought: inner.trimStart(), answer: whole.slice(0, at).trimStart() };
  return {
    thought: inner.slice(0, end).trimStart(),
    answer: (whole.slice(0, at) + inner.slice(end + mark(CLOSE).length)).trimStart(),
  };
}

/** The model beside the page, loaded. */
export async function opened(base, told = () => {}) {
  const about = await read(new URL("ponder-web.json", base)).then((reply) => reply.json());
  const { Wllama } = await import(new URL("wllama/index.js", base));
  const quiet = { debug() {}, log() {}, warn() {}, error() {} };
  const wllama = new Wllama({ default: new URL("wllama/wllama.wasm", base).href }, { allowOffline: true, logger: quiet, suppressNativeLog: true });
  told(`Loading the model (${Math.ceil(about.bytes / 1e6)} MB) ...`);
  const blob = await read(new URL(about.file, base)).then((reply) => reply.blob());
  if (blob.size !== about.bytes) throw new Trouble("cut", "The model did not arrive whole. Press Retry.");
  try {
    await wllama.loadModel([blob], { n_ctx: about.context, ...(about.threads ? { n_threads: about.threads } : {}), n_gpu_layers: 0, n_parallel: 1, warmup: false });
  } catch (error) {
    throw new Trouble("broken", `The browser could not load the model: ${error.message}. Close other tabs, or use another browser.`);
  }
  return new Engine(wllama, about);
}

async function read(url) {
  let reply;
  try {
    reply = await fetch(url);
  } catch {
    throw new Trouble("gone", "The files of this page cannot be reached. See that you are connected, then press Retry.");
  }
  if (!reply.ok) throw new Trouble("gone", `${url.pathname} is missing (${reply.status}). Copy the whole folder to the server.`);
  return reply;
}

function mark(name) {
  return MARK_OPEN + name.slice(1, -1) + MARK_CLOSE;
}

function refuse(text) {
  if (REFUSED.test(text)) throw new Trouble("refused", "The text holds the control character U+0002 or U+0003, which stands for something else here. Take it out.");
}
