// Everything is delegated: pytest-html draws its table anew on each click.
(() => {
  document.documentElement.lang = 'en';
  const zoom = document.getElementById('zoom');
  const beside = { pictures: [], at: 0 };
  const turnTo = (at) => {
    const { pictures } = beside;
    beside.at = (at + pictures.length) % pictures.length;
    const { src, alt, naturalWidth } = pictures[beside.at];
    Object.assign(zoom.querySelector('img'), { src, alt });
    zoom.classList.toggle('small', naturalWidth < 100);
    const place = pictures.length > 1 ? ` (${beside.at + 1} of ${pictures.length}, turn with ← and →)` : '';
    zoom.querySelector('p').textContent = alt + place;
  };
  const enlarge = (picture) => {
    const near = picture.closest('.gallery, [id^="pictures-"], .section');
    const all = near ? [...near.querySelectorAll('img')] : [picture];
    beside.pictures = all.filter((each) => each.getClientRects().length);
    turnTo(beside.pictures.indexOf(picture));
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
    if (zoom.open && ['ArrowLeft', 'ArrowRight'].includes(event.key)) {
      event.preventDefault();
      return turnTo(beside.at + (event.key === 'ArrowRight' ? 1 : -1));
    }
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
