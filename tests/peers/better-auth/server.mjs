// A Better Auth service on loopback, as its documentation builds one. What it is to be, the first
// argument says as JSON; it prints its address once it listens.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { admin, bearer, jwt, multiSession } from "better-auth/plugins";
import { redisStorage } from "@better-auth/redis-storage";
import { Redis } from "ioredis";

const { redis, secret, prefix, plugins, pluginOptions = {}, ...options } = JSON.parse(process.argv[2]);
const known = { admin, bearer, jwt, multiSession };
const names = ["user", "session", "account", "verification", "jwks", "rateLimit"];

const tables = Object.fromEntries(names.map((name) => [name, []]));

let handler;
const server = createServer((request, response) => {
  // There is no way to become an administrator by an interface.
  const id = request.url.startsWith("/make-admin/") && request.url.slice("/make-admin/".length);
  if (!id) return handler(request, response);
  tables.user.find((user) => user.id === id).role = "admin";
  response.end("null");
});
server.listen(0, "127.0.0.1", () => {
  const baseURL = `http://127.0.0.1:${server.address().port}`;
  const auth = betterAuth({
    baseURL,
    secret,
    database: memoryAdapter(tables),
    secondaryStorage: redisStorage({ client: new Redis(redis), keyPrefix: prefix }),
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    plugins: plugins.map((name) => known[name](pluginOptions[name])),
    ...options,
  });
  handler = toNodeHandler(auth);
  console.log(baseURL);
});
