// A Better Auth service on loopback, as its documentation builds one. What it is to be, the first
// argument says as JSON; it prints its address once it listens.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { admin, bearer, jwt, multiSession } from "better-auth/plugins";
import { redisStorage } from "@better-auth/redis-storage";
import { Redis } from "ioredis";
import { createPool } from "mysql2/promise";
import pg from "pg";

const given = JSON.parse(process.argv[2]);
const { redis, secret, prefix, plugins, pluginOptions = {}, postgresql, mariadb, ...options } = given;
const known = { admin, bearer, jwt, multiSession };
const names = ["user", "session", "account", "verification", "jwks", "rateLimit"];

const tables = Object.fromEntries(names.map((name) => [name, []]));
const pool = postgresql ? new pg.Pool(postgresql) : mariadb && createPool(mariadb);

async function makeAdmin(id) {
  if (postgresql) await pool.query(`UPDATE "user" SET role = 'admin' WHERE id = $1`, [id]);
  else if (mariadb) await pool.execute("UPDATE user SET role = 'admin' WHERE id = ?", [id]);
  else tables.user.find((user) => user.id === id).role = "admin";
}

let handler;
const server = createServer(async (request, response) => {
  // There is no way to become an administrator by an interface.
  const id = request.url.startsWith("/make-admin/") && request.url.slice("/make-admin/".length);
  if (!id) return handler(request, response);
  await makeAdmin(id);
  response.end("null");
});
server.listen(0, "127.0.0.1", async () => {
  const baseURL = `http://127.0.0.1:${server.address().port}`;
  const config = {
    baseURL,
    secret,
    database: pool ?? memoryAdapter(tables),
    secondaryStorage: redis && redisStorage({ client: new Redis(redis), keyPrefix: prefix }),
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    plugins: plugins.map((name) => known[name](pluginOptions[name])),
    ...options,
  };
  if (pool) await (await getMigrations(config)).runMigrations();
  handler = toNodeHandler(betterAuth(config));
  console.log(baseURL);
});
