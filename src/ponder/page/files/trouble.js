// What went wrong, in words that say what to do about it.

export class Trouble extends Error {
  /** `kind`: locked, busy, gone, cut, refused, broken. */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** The trouble that an HTTP reply tells of; `body` is its JSON, if it had any. */
export function fromReply(status, body, retryAfter) {
  const said = body && body.error && typeof body.error.message === "string" ? body.error.message : "";
  if (status === 401) return new Trouble("locked", "The server did not take the key. Enter the key it was started with.");
  if (status === 429 || status === 503) {
    const wait = /^\d{1,4}$/.test(retryAfter || "") ? `in ${retryAfter} seconds` : "in a moment";
    return new Trouble("busy", `The server has too much to do. Press Retry ${wait}.`);
  }
  if (status === 403) return new Trouble("refused", `The server refuses this page: ${said || "open it under the server's own address"}.`);
  if (status >= 400 && status < 500) {
    return new Trouble("refused", `The question cannot be answered like this: ${said || `status ${status}`}. Change it, or begin a new conversation.`);
  }
  return new Trouble("broken", `The server failed (${status}). Press Retry; if it stays so, look at what the server printed.`);
}
