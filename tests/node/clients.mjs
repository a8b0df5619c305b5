// One list of cases through fetch and through node:http2: `CLIENT VERSION | CASE | RESULT` a line.
// Usage: clients.mjs URL fetch|http2 [CA]

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [url, client, ca] = process.argv.slice(2);
const parts = Array.from({ length: 64 }, (_, n) => Buffer.alloc(65_536, n % 256));
const sha = (body) => `${body.length} ${createHash("sha256").update(body).digest("hex")}`;
const sorted = (value) => {
  const keys = Object.keys(value).sort();
  return "{" + keys.map((key) => `${JSON.stringify(key)}: ${JSON.stringify(value[key])}`).join(", ") + "}";
};
const told = (body) => sorted(JSON.parse(body));
const bytes = (text) => `b'${text}'`;

async function* upload() {
  yield* parts;
}

// Answers { status, headers: name -> [values], body: async iterable of buffers }.
async function byFetch(method, path, { headers = {}, body } = {}) {
  const answer = await fetch(url + path, { method, headers, body, duplex: "half", redirect: "manual" });
  const found = {};
  for (const [name, value] of answer.headers) (found[name] ??= []).push(value);
  return { status: answer.status, headers: found, body: answer.body ?? [] };
}

let session;
async function byHttp2(method, path, { headers = {}, body } = {}) {
  session ??= http2.connect(url, ca ? { ca: readFileSync(ca) } : {});
  const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream: body === undefined });
  const head = await new Promise((resolve, reject) => {
    stream.once("response", resolve).once("error", reject);
    if (body !== undefined) {
      (async () => {
        for await (const part of typeof body === "string" ? [Buffer.from(body)] : body) {
          if (!stream.write(part)) await new Promise((drained) => stream.once("drain", drained));
        }
        stream.end();
      })().catch(reject);
    }
  });
  const found = {};
  for (const [name, value] of Object.entries(head)) found[name] = [value].flat().map(String);
  return { status: head[":status"], headers: found, body: stream };
}

const call = client === "http2" ? byHttp2 : byFetch;
const version = client === "http2" ? "HTTP/2" : "HTTP/1.1";
const say = (name, result) => console.log(`node-${client} ${version} | ${name} | ${result}`);

async function read(body) {
  const whole = [];
  for await (const part of body) whole.push(Buffer.from(part));
  return Buffer.concat(whole);
}
async function whole(method, path, more) {
  const answer = await call(method, path, more);
  return { ...answer, body: await read(answer.body) };
}

say("get", told((await whole("GET", "/echo?a=1&b=%20x", { headers: { "x-thing": "a thing" } })).body));
const head = await whole("HEAD", "/bytes/1000");
say("head", `${head.status} ${head.headers["content-length"]} ${head.body.length}`);
const plain = { "content-type": "text/plain" };
say("post", told((await whole("POST", "/echo", { headers: plain, body: "hello" })).body));
const stream = { "content-type": "application/octet-stream" };
say("upload", told((await whole("POST", "/echo", { headers: stream, body: upload() })).body));
say("download", sha((await whole("GET", "/bytes/4194304")).body));
say("chunks", sha((await whole("GET", "/chunks/1048576")).body));
const part = await whole("GET", "/file", { headers: { range: "bytes=1000-1999" } });
say("range", `${part.status} ${part.headers["content-range"]} ${sha(part.body)}`);
const codes = [];
for (const code of [204, 304, 404, 500]) codes.push((await whole("GET", `/status/${code}`)).status);
say("status", `[${codes.join(", ")}]`);
const jar = (await whole("GET", "/cookies")).headers["set-cookie"];
say("cookies", `[${jar.sort().map((cookie) => `'${cookie}'`).join(", ")}]`);
const packed = await whole("GET", "/gzip");
const unpack = async (body) => (client === "fetch" ? body : (await import("node:zlib")).gunzipSync(body));
say("gzip", sha(await unpack(packed.body)));
for (const method of ["PUT", "PATCH", "DELETE", "OPTIONS"]) say(method, told((await whole(method, "/echo")).body));
say("big", told((await whole("GET", "/echo", { headers: { "x-big": "b".repeat(4_000) } })).body));
const name = `node-${client}-${process.pid}`;
const events = await call("GET", `/events/${name}`);
const seen = [];
for await (const event of events.body) {
  seen.push(...Buffer.from(event).toString().split("\n").filter(Boolean));
  if (seen.length === 1) await whole("GET", `/go/${name}`);
}
say("events", `[${seen.map(bytes).join(", ")}]`);
let kept = 0;
for (let n = 0; n < 20; n++) kept += (await whole("GET", "/bytes/1")).status === 200 ? 1 : 0;
say("kept", kept);
session?.close();
