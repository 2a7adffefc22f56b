// A guest book: notes that people leave, kept in PostgreSQL.
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { page } from "./page.js";

const port = Number(process.env.PORT ?? 3000);
const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 5, connectionTimeoutMillis: 3000 });
// A connection that breaks while nobody uses it; the next query takes a new one.
database.on("error", (error) => console.error(`database: ${error.message}`));

const longestBody = 16_384;
const longest = { author: 60, text: 1000 };
let ready = false;
let ending = false;

async function prepare() {
  for (let wait = 250; !ready && !ending; wait = Math.min(wait * 2, 4000)) {
    try {
      await database.query(`create table if not exists notes (
        id bigint generated always as identity primary key,
        author text not null,
        text text not null,
        written timestamptz not null default now()
      )`);
      ready = true;
      console.log("the database answers");
    } catch (error) {
      console.log(`waiting for the database: ${error.message || error.code}`);
      await sleep(wait);
    }
  }
}

async function form(request) {
  const parts = [];
  let size = 0;
  // Left alone when too long: destroyed, it would take the answer with it.
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    size += part.length;
    if (size > longestBody) return null;
    parts.push(part);
  }
  return new URLSearchParams(Buffer.concat(parts).toString());
}

function answer(response, status, body, headers = {}) {
  if (ending) response.setHeader("connection", "close");
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff", ...headers });
  response.end(body);
}

async function addNote(request, response) {
  const fields = await form(request);
  if (!fields) return answer(response, 413, "That is too long.\n", { connection: "close" });
  // PostgreSQL keeps every character but NUL.
  const field = (name) => (fields.get(name) ?? "").replaceAll("\0", "").trim().slice(0, longest[name]);
  const text = field("text");
  if (!text) return answer(response, 400, "A note needs a text.\n");
  await database.query("insert into notes (author, text) values ($1, $2)", [field("author") || "Somebody", text]);
  answer(response, 303, "", { location: "/" });
}

async function showNotes(response) {
  const [notes, count] = await Promise.all([
    database.query("select author, text, written from notes order by id desc limit 50"),
    database.query("select count(*)::int as all from notes"),
  ]);
  answer(response, 200, page(notes.rows, count.rows[0].all, longest), {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
  });
}

async function handle(request, response) {
  const path = request.url.split("?")[0];
  const route = `${request.method === "HEAD" ? "GET" : request.method} ${path}`;
  if (route === "GET /healthz") {
    if (ready) await database.query("select 1");
    return answer(response, ready ? 200 : 503, ready ? "ok\n" : "waiting for the database\n");
  }
  if (!["GET /", "POST /notes"].includes(route)) return answer(response, 404, "There is nothing here.\n");
  if (!ready) return answer(response, 503, "The database does not answer yet; try again in a moment.\n", { "retry-after": "2" });
  return route === "GET /" ? showNotes(response) : addNote(request, response);
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(`${request.method} ${request.url}: ${error.message}`);
    if (response.headersSent) response.destroy();
    else answer(response, 503, "The database does not answer; try again in a moment.\n");
  });
});

function end(signal) {
  if (ending) return;
  ending = true;
  console.log(`${signal}: ending`);
  setTimeout(() => process.exit(1), 5000).unref();
  // What is being answered is answered first.
  server.close(() => database.end().then(() => process.exit(0)));
}
process.on("SIGTERM", end);
process.on("SIGINT", end);

server.listen(port, () => console.log(`listening on port ${port}`));
prepare();
