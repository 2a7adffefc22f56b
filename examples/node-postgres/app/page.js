// The one page there is.
const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => text.replace(/[&<>"']/g, (character) => entities[character]);

const style = `
  :root {
    color-scheme: light dark;
    --paper: #f6f5f1; --card: #fff; --ink: #22252b; --faint: #6b7078; --line: #e2e0d9; --accent: #31628d;
  }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #16181c; --card: #1f2227; --ink: #e6e7ea; --faint: #9aa0a9; --line: #31353c; --accent: #8fbde6; }
  }
  * { box-sizing: border-box; }
  body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
  main { max-width: 40rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 4rem) 1.25rem; }
  h1 { margin: 0; font: 600 clamp(1.8rem, 6vw, 2.6rem)/1.15 ui-serif, Georgia, serif; letter-spacing: -0.01em; }
  header p, footer, time { color: var(--faint); }
  header p { margin: .4rem 0 2rem; }
  form, article { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.15rem; }
  form { display: grid; gap: .75rem; margin-bottom: 2rem; }
  label { display: grid; gap: .25rem; font-size: .85rem; color: var(--faint); }
  input, textarea, button { font: inherit; border-radius: .5rem; padding: .55rem .7rem; }
  input, textarea { width: 100%; color: var(--ink); background: var(--paper); border: 1px solid var(--line); }
  textarea { min-height: 5.5rem; resize: vertical; }
  button { justify-self: end; padding-inline: 1.2rem; border: 0; background: var(--accent); color: var(--card); cursor: pointer; }
  button:hover { filter: brightness(1.08); }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  article { margin-bottom: .75rem; }
  article p { margin: 0 0 .5rem; white-space: pre-wrap; overflow-wrap: anywhere; }
  article footer { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1rem; font-size: .85rem; }
  article b { color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }
`;

const article = ({ author, text, written }) => `
      <article>
        <p>${escape(text)}</p>
        <footer><b>${escape(author)}</b><time datetime="${written.toISOString()}">${written.toISOString().slice(0, 16).replace("T", " ")} UTC</time></footer>
      </article>`;

const counted = (count) => (count === 0 ? "Nobody has written yet." : count === 1 ? "One note so far." : `${count} notes so far.`);

export const page = (notes, count, longest) => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Guest book</title>
    <style>${style}</style>
  </head>
  <body>
    <main>
      <header>
        <h1>Guest book</h1>
        <p>${counted(count)}</p>
      </header>
      <form method="post" action="/notes">
        <label>Your name <input name="author" maxlength="${longest.author}" autocomplete="name"></label>
        <label>Your note <textarea name="text" maxlength="${longest.text}" required></textarea></label>
        <button>Leave a note</button>
      </form>${notes.map(article).join("")}
    </main>
  </body>
</html>
`;
