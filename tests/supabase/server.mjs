// A Supabase-compatible server for tests: @supabase/lite over a real Postgres, in one process.
//   node server.mjs --migrations DIR --socket PATH --state FILE [--port 0] [--jwt-expiry 3600] [--confirm-email]
// Prints one line of JSON when it answers. Stops on SIGTERM and when its standard input closes, so that a killed test run
// leaves nothing behind. Keys and the token secret are kept in --state: a server started again is the same server.
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { serve } from "@hono/node-server";
import { App, generateApiKey, InMemoryEmailDriver } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";

const { values: options } = parseArgs({ options: {
  migrations: { type: "string" }, socket: { type: "string" }, state: { type: "string" },
  port: { type: "string", default: "0" }, "jwt-expiry": { type: "string", default: "3600" },
  "confirm-email": { type: "boolean", default: false },
} });

if (!existsSync(options.state)) {
  writeFileSync(options.state, JSON.stringify({
    publishable_key: (await generateApiKey("publishable")).key, secret_key: (await generateApiKey("secret")).key,
    jwt_secret: randomBytes(32).toString("hex"),
  }));
}
const state = JSON.parse(readFileSync(options.state, "utf8"));

// Times as the hosted service writes them (ISO 8601); the server's own way is refused by the client library.
const iso = (value) => value == null ? value : String(value).replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");
const connection = createPostgresConnection({ url: "postgres://postgres:x@localhost/postgres", postgresOptions: {
  path: options.socket, max: 8, onnotice: () => {},
  types: { timestamptz: { to: 1184, from: [1184], serialize: (value) => value, parse: iso } },
} });
const raw = (sql) => connection.driver.unsafe(sql).simple();
const mail = new InMemoryEmailDriver();
const app = new App({
  connection,
  api: { schemas: ["public"], max_rows: 1000, pg_safe_update: true },
  auth: {
    enabled: true, site_url: "http://127.0.0.1:8501", jwt_secret: state.jwt_secret, jwt_expiry: Number(options["jwt-expiry"]),
    enable_signup: true, publishable_key: state.publishable_key, secret_key: state.secret_key, minimum_password_length: 8,
    email: { enable_signup: true, enable_confirmations: options["confirm-email"] },
  },
  options: { server: { admin: false }, drivers: { email: mail } },
});
await app.ensureSystemSchema();
for (const [role, right] of [["anon", ""], ["authenticated", ""], ["service_role", "bypassrls"]])
  await raw(`do $$ begin create role ${role} nologin noinherit ${right}; exception when duplicate_object then null; end $$`);
await raw("grant usage on schema auth to anon, authenticated, service_role"); // as on the hosted service

const files = readdirSync(options.migrations).filter((name) => name.endsWith(".sql")).sort();
const apply = async (name, again = false) => {
  try { await raw(readFileSync(join(options.migrations, name), "utf8")); }
  catch (error) {
    if (again && error.code === "42883") return; // a function that a later file replaced; that file says its privileges in full
    console.error(`${name}: ${error.code ?? ""} ${error.message}`); process.exit(1);
  }
};
const [{ there }] = await connection.driver.unsafe("select to_regclass('public.profiles') is not null as there");
if (!there) for (const name of files) await apply(name);
// On its first request this server grants everything to everybody; make that request, then put our grants back.
await app.fetch(new Request("http://127.0.0.1/rest/v1/profiles?limit=1", { headers: { apikey: state.publishable_key } }));
for (const name of files.filter((name) => name.includes("grants"))) await apply(name, true);

// The hosted API passes Postgres' error codes on; this server turns some into its own. Put them back.
const CODES = [[/violates check constraint/, "23514", 400], [/due to statement timeout/, "57014", 500],
  [/deadlock detected/, "40P01", 500], [/^this needs the role|given by an administrator|may not rate in the name/, "42501", 403],
  [/^there is no (account|import|export|queue)|is closed; choose another$/, "P0002", 400], [/^the last administrator|parts arrived$/, "22023", 400]];
const answer = async (request, env) => {
  const response = await app.fetch(request, { peerAddress: env.incoming.socket?.remoteAddress ?? null });
  if (response.status < 500 || !response.headers.get("content-type")?.includes("json")) return response;
  const body = await response.json().catch(() => ({}));
  if (body.code !== "SUP") return Response.json(body, { status: response.status });
  const message = String(body.message).replace(/^(PostgresError|error): /, "");
  const [, code, status] = CODES.find(([pattern]) => pattern.test(message)) ?? [null, "SUP", 500];
  return Response.json({ ...body, code, message }, { status });
};
// last mails, for tests of sign-up and recovery
const route = async (request, env) => new URL(request.url).pathname === "/test/mail"
  ? Response.json([...mail.messages.values()].flat()) : answer(request, env);
const server = serve({ fetch: route, port: Number(options.port), hostname: "127.0.0.1" }, (info) => console.log(JSON.stringify({
  url: `http://127.0.0.1:${info.port}`, publishable_key: state.publishable_key, secret_key: state.secret_key })));
server.keepAliveTimeout = 120_000;
let stopping = false;
const stop = async () => {
  if (stopping) return;
  stopping = true;
  setTimeout(() => process.exit(0), 2000); // closing can wait for ever on a query whose client went away
  server.closeAllConnections?.(); server.close();
  try { await connection.close(); } finally { process.exit(0); }
};
process.on("SIGTERM", stop); process.on("SIGINT", stop);
process.stdin.on("end", stop).on("error", stop).resume();
