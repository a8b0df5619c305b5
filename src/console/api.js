// The admin port as this page asks it. The token is kept in this module's memory and nowhere else: it is gone with the page.

const PATIENCE_MS = 15_000;

let token = "";

export function useToken(text) {
  token = text.trim();
}

/** What the admin port refused, with its problem document. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the answer was ${status}`);
    this.status = status;
    this.faults = problem.faults ?? [];
  }
}

/** One call; its answer read as JSON. */
export async function call(method, path, body) {
  const answer = await ask(path, {
    method,
    headers: headers(),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  return answer.status === 204 ? null : answer.json();
}

/**
 * Events after the one numbered `after`, as they come, until the stream ends. By `fetch` and not by `EventSource`, which cannot say
 * who asks. `heard` is told of every piece that arrives, also of those that only keep the connection.
 */
export async function listen(path, after, signal, { opened, heard, event }) {
  const answer = await ask(path, { headers: headers({ accept: "text/event-stream", "last-event-id": String(after) }), signal });
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length > 0) event(JSON.parse(data.join("\n")));
    }
  }
}

async function ask(path, options) {
  const answer = await fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", ...options });
  if (!answer.ok) throw new Refusal(answer.status, await problem(answer));
  return answer;
}

const headers = (more) => ({ accept: "application/json", ...(token && { authorization: `Bearer ${token}` }), ...more });

// Something between this page and serin may answer with another kind of document.
async function problem(answer) {
  try {
    return await answer.json();
  } catch {
    return { title: answer.statusText };
  }
}

/** A name as one part of a path. */
export const part = encodeURIComponent;
