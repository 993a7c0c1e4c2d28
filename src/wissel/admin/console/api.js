// The API next to this page. The token is a header and never a cookie, so no foreign page can borrow it.

const KEPT = "wissel-admin-token";
const PATIENCE_MS = 10_000;

export class Problem extends Error {
  /** `status` is 0 where nobody answered. */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const keepToken = (token) => sessionStorage.setItem(KEPT, token);

export const forgetToken = () => sessionStorage.removeItem(KEPT);

export const hasToken = () => sessionStorage.getItem(KEPT) !== null;

export const get = (path) => call("GET", path);

/** `text` is sent as it is. */
export const post = (path, text = "{}") => call("POST", path, text);

/** What `/readyz` says, ready or not. */
export async function readiness() {
  const response = await answer("GET", "/readyz");
  return response.json();
}

async function call(method, path, text) {
  const response = await answer(method, path, text);
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const told = body?.error ?? {};
  throw new Problem(response.status, told.code ?? "", told.message ?? `status ${response.status}`);
}

async function answer(method, path, text) {
  const headers = text === undefined ? {} : { "content-type": "application/json" };
  const token = sessionStorage.getItem(KEPT);
  if (token) headers.authorization = `Bearer ${token}`;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    return await fetch(path, { method, headers, body: text, signal, credentials: "omit", cache: "no-store" });
  } catch (error) {
    throw new Problem(0, "unreachable", error.name === "TimeoutError" ? "no answer in time" : "no answer");
  }
}
