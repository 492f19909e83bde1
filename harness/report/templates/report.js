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
    const found = document.getElementById(decodeURIComponent(hash.slice(1)));
    const folded = found?.closest('details:not([open])');
    if (folded) {
      folded.open = true;
      found.scrollIntoView();
    }
  };
  const reveal = (hash) => {
    unfold(hash);
    if (!hash.startsWith('#pictures-')) return;
    const find = () => document.getElementById(decodeURIComponent(hash.slice(1)));
    if (!find()) for (const box of document.querySelectorAll('input.filter:not(:checked)')) box.click();
    const row = find()?.closest('tbody');
    if (row?.querySelector('.extras-row.hidden')) row.querySelector('.col-result').click();
    find()?.scrollIntoView();
  };
  document.addEventListener('click', (event) => {
    if (event.target.closest('#zoom')) return zoom.close();
    const picture = event.target.closest('.stress img');
    if (picture) return enlarge(picture);
    const link = event.target.closest('a[href^="#"]');
    if (link) setTimeout(() => reveal(link.getAttribute('href')));
  });
  const operable = '.stress img, .collapsible > .col-result, #results-table th.sortable';
  const focusable = () => {
    for (const each of document.querySelectorAll(operable)) {
      each.tabIndex = 0;
      if (each.matches('img')) each.setAttribute('role', 'button');
    }
  };
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !event.target.matches?.(operable)) return;
    if (event.target.matches('img')) enlarge(event.target);
    else event.target.click();
  });
  document.addEventListener('focusin', focusable);
  addEventListener('load', () => {
    focusable();
    reveal(location.hash);
  });
  addEventListener('beforeprint', () => {
    for (const item of document.querySelectorAll('details.printed')) item.open = true;
  });
})();
