"""How a report looks and what it does in a browser: one style sheet and one script, inside the page."""

STYLE = """
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 :root { color-scheme: light; --ink: #1b1e23; --soft: #5a626e; --line: #d5d9df; --page: #fff; --card: #f5f7f9;
  --good: #0072b2; --goodback: #e8f3fa; --part: #a86a00; --partback: #fdf4e0; --bad: #c04a00; --badback: #fcece2; }
 @media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --ink: #e4e7eb; --soft: #a3abb6; --line: #3a4149; --page: #15181c; --card: #1e2329;
   --good: #5db4e8; --goodback: #14303f; --part: #e8b04a; --partback: #3a2d10; --bad: #ff9152; --badback: #43220f; }
  .stress .figure:not(.map) img { filter: invert(.91) hue-rotate(180deg); }
  .logwrapper, .logwrapper .logexpander { background: #262c33 !important; color: var(--ink) !important; }
  .logwrapper .log { color: var(--ink) !important; border-color: var(--line) !important; }
 }
 html { scroll-padding-top: .5rem; }
 body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: var(--ink); background: var(--page);
  margin: 0 auto; padding: 0 1rem 3rem; max-width: 76rem; min-width: 0; }
 body > h1 { font-size: 1.05rem; margin: .7rem 0 .2rem; color: var(--soft); font-weight: 600; }
 body h2 { font-size: 1.2rem; color: var(--ink); margin: 1.6em 0 .4em; }
 body h3 { font-size: 1rem; margin: 1em 0 .3em; }
 body p { color: var(--ink); margin: .4em 0; }
 body a { color: var(--good); }
 body > p { color: var(--soft); font-size: .8rem; margin: 0; }
 /* What pytest-html knows of the environment is of use to nobody before the verdict. */
 #environment-header, #environment, .summary__data > h2, .summary__spacer, .summary__reload { display: none; }
 .summary, .summary__data { display: block; }
 .controls { flex-wrap: wrap; gap: .5rem 1rem; }
 .filters { flex-wrap: wrap; gap: .2rem .4rem; }
 .filters button, .collapse button { color: var(--good); }
 #results-table { font-size: 13px; color: var(--ink); border-color: var(--line); table-layout: fixed; }
 #results-table th, #results-table td { border-color: var(--line); overflow-wrap: anywhere; }
 #results-table .col-result { width: 6.5rem; }
 #results-table .col-duration { width: 7rem; }
 #results-table .col-links, #results-table thead th:nth-child(4) { display: none; }
 .passed .col-result, span.passed { color: var(--good); }
 .failed .col-result, .error .col-result, span.failed, span.error { color: var(--bad); }
 .skipped .col-result, span.skipped { color: var(--part); }
 .stress .headline { padding: .5em .8em; border-left: .5rem solid; margin: .5rem 0; }
 .stress .headline strong { font-size: 1.45rem; line-height: 1.25; display: block; }
 .stress .pass { border-color: var(--good); background: var(--goodback); }
 .stress .partial { border-color: var(--part); background: var(--partback); }
 .stress .fail, .stress .error { border-color: var(--bad); background: var(--badback); }
 .stress .hints { margin: .5em 0; padding-left: 1.2em; font-size: 1.05rem; }
 .stress .hints b { color: var(--bad); }
 .stress .hints .plain { font-size: .95rem; }
 .stress nav { font-size: .85rem; margin: .4rem 0; }
 .stress nav a { margin-right: .9em; white-space: nowrap; }
 .stress .columns { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 26rem); gap: 0 1.6rem; }
 .stress .columns > .alone { grid-column: 1 / -1; }
 .stress table { border-collapse: collapse; margin: .4em 0; color: var(--ink); }
 .stress th, .stress td { text-align: left; vertical-align: top; padding: .22em .9em .22em 0; }
 .stress .cards td:first-child { min-width: 8.5rem; }
 .stress thead th, .stress tr:first-child > th { font-weight: 600; }
 .stress tr { border-bottom: 1px solid var(--line); }
 .stress tr:target { background: var(--partback); }
 .stress .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
 .stress .soft { color: var(--soft); font-size: .87em; }
 .stress .worse { color: var(--bad); font-weight: 600; }
 .stress code { overflow-wrap: anywhere; }
 .stress p, .stress td, .stress li { overflow-wrap: break-word; }
 .stress .scroll { overflow-x: auto; }
 .stress img { max-width: 100%; height: auto; display: block; margin: .4em 0; cursor: zoom-in; }
 .stress figure { margin: 0; }
 .stress .panel { max-width: calc(100% - 1rem); }
 .stress figcaption { font-size: .87rem; color: var(--soft); max-width: 30rem; }
 .stress .figures { display: grid; gap: 1.6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
 .stress .figure img { background: #fff; border-radius: 6px; width: 100%; }
 .stress .figure h3 { margin: 0; }
 .stress summary { cursor: pointer; color: var(--good); }
 #zoom { border: 0; padding: 0; background: none; max-width: 98vw; max-height: 98vh; margin: auto; }
 #zoom::backdrop { background: rgb(0 0 0 / .75); }
 #zoom img { display: block; width: min(96vw, 150vh, 70rem); max-height: 92vh; object-fit: contain; background: #fff;
  cursor: zoom-out; }
 #zoom p { color: #fff; background: #000; margin: 0; padding: .3em .6em; font-size: .85rem; }
 @media (max-width: 60rem) { .stress .columns { grid-template-columns: minmax(0, 1fr); } }
 @media (max-width: 40rem) {
  body { padding: 0 .7rem 2rem; }
  .stress .headline strong { font-size: 1.2rem; }
  .stress .cards tr:first-child { display: none; }
  .stress .cards tr { display: block; padding: .4em 0; }
  .stress .cards td { display: block; padding: 0; text-align: left; }
  .stress .cards td[data-title] { display: inline; white-space: normal; }
  .stress .cards td[data-title]::before { content: attr(data-title) " "; color: var(--soft); font-weight: 400; }
  .stress .cards td[data-title] + td[data-title]::before { content: ", " attr(data-title) " "; }
  .stress .compare tr { display: grid; grid-template-columns: repeat(var(--models), minmax(0, 1fr)); }
  .stress .compare td:first-child { grid-column: 1 / -1; }
  .stress .compare th:first-child { display: none; }
  .stress .compare .number { text-align: left; white-space: normal; }
  #results-table .col-duration, #results-table thead th:nth-child(3) { display: none; }
  #results-table .col-result { width: 4.6rem; }
 }
 @media print {
  .stress nav, .controls, .filter { display: none; }
  .stress .scroll { overflow: visible; }
  .stress .columns { display: block; }
  .stress figure, .stress tr { break-inside: avoid; }
 }
</style>
"""

SCRIPT = """
<dialog id="zoom"><img alt=""><p></p></dialog>
<script>
 // Everything is delegated: pytest-html draws its table anew on each click.
 (() => {
  document.documentElement.lang = 'en';
  const zoom = document.getElementById('zoom');
  const enlarge = (picture) => {
   zoom.querySelector('img').src = picture.src;
   zoom.querySelector('img').alt = picture.alt;
   zoom.querySelector('p').textContent = picture.alt;
   zoom.showModal();
  };
  const unfold = (hash) => {
   const found = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
   const folded = found && found.closest('details:not([open])');
   if (folded) { folded.open = true; found.scrollIntoView(); }
  };
  const reveal = (hash) => {
   unfold(hash);
   if (!hash.startsWith('#pictures-')) return;
   const find = () => document.getElementById(decodeURIComponent(hash.slice(1)));
   if (!find()) document.querySelectorAll('input.filter:not(:checked)').forEach((box) => box.click());
   const row = find() && find().closest('tbody');
   if (row && row.querySelector('.extras-row.hidden')) row.querySelector('.col-result').click();
   if (find()) find().scrollIntoView();
  };
  document.addEventListener('click', (event) => {
   if (event.target.closest('#zoom')) return zoom.close();
   const picture = event.target.closest('.stress img');
   if (picture) return enlarge(picture);
   const link = event.target.closest('a[href^="#"]');
   if (link) setTimeout(() => reveal(link.getAttribute('href')));
  });
  const focusable = () => document.querySelectorAll('.stress img').forEach((picture) => {
   picture.tabIndex = 0;
   picture.setAttribute('role', 'button');
  });
  document.addEventListener('keydown', (event) => {
   if (event.key === 'Enter' && event.target.matches && event.target.matches('.stress img')) enlarge(event.target);
  });
  document.addEventListener('focusin', focusable);
  addEventListener('load', () => { focusable(); reveal(location.hash); });
  addEventListener('beforeprint', () => document.querySelectorAll('details').forEach((item) => { item.open = true; }));
 })();
</script>
"""
