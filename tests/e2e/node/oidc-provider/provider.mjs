// A second issuer, on a free port of this machine: people log in by any name, and "robot" is a machine client.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const claimsOf = (sub) => ({ email: `${sub}@example.com`, email_verified: true });

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "web",
        application_type: "native",
        token_endpoint_auth_method: "none",
        redirect_uris: ["http://127.0.0.1/callback"],
      },
      {
        client_id: "robot",
        client_secret: "not-a-secret-outside-of-this-test",
        grant_types: ["client_credentials"],
        response_types: [],
        redirect_uris: [],
      },
    ],
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: "second-issuer" }] },
    cookies: { keys: ["not-a-secret-outside-of-this-test"] },
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub, ...claimsOf(sub) }) }),
    extraTokenClaims: (_context, token) => (token.accountId ? claimsOf(token.accountId) : undefined),
    ttl: { Interaction: 600, Session: 600, Grant: 600, IdToken: 300, AccessToken: 300, ClientCredentials: 300 },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, resource) => ({
          scope: "users:read users:write",
          audience: resource === "urn:tandem" ? "tandem-api" : "something-else",
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
  server.on("request", provider.callback());
  console.log(`issuer ${issuer}`);
});
