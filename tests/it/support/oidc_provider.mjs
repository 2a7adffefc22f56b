// The provider of OpenID Connect that npm has, with people who are whom they say: `node oidc_provider.mjs REDIRECT…`.
// Prints its issuer. Whoever signs in as NAME has the address NAME@example.com, confirmed unless NAME begins with `unsure`.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.MODULES}/`);
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{ client_id: "devsanctum", client_secret: "a secret: with / all + sorts", redirect_uris: process.argv.slice(2) }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "preferred_username"] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: !id.startsWith("unsure"), name: `The ${id}`, preferred_username: id }),
  }),
});
server.on("request", provider.callback());
console.log(issuer);
