// What tests/contract/test_tools.py compiles against the generated types, and runs against a server.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

declare const process: { argv: [string, string, string, string] };
const [, , baseUrl, token] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function need<T>(value: T | undefined, error: components["schemas"]["Problem"] | undefined): T {
  if (value === undefined) throw new Error(`unexpected problem: ${JSON.stringify(error)}`);
  return value;
}

const created = await client.POST("/users", { body: { email: "typed@example.com", display_name: "Typed" } });
const user = need(created.data, created.error);
const path = { user_id: user.id };

const again = await client.POST("/users", { body: { email: user.email, display_name: "" } });
const problem: string | undefined = again.error?.type;

const found = await client.GET("/users/{user_id}", { params: { path } });
const listed = await client.GET("/users", { params: { query: { limit: 200 } } });
const changed = await client.PATCH("/users/{user_id}", { params: { path }, body: { display_name: "Changed" } });
const stale = await client.PATCH("/users/{user_id}", {
  params: { path, header: { "If-Match": '"0-00000000"' } },
  body: { display_name: "Too late" },
});
const gone = await client.DELETE("/users/{user_id}", { params: { path } });

// @ts-expect-error A field that the document does not know does not compile.
user.password;

console.log(
  JSON.stringify({
    found: need(found.data, found.error).email,
    listed: need(listed.data, listed.error).items.map((one) => one.email).includes(user.email),
    changed: need(changed.data, changed.error).display_name,
    stale: stale.response.status,
    status: gone.response.status,
    problem,
  }),
);
