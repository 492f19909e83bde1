// Everything is delegated: pytest-html draws its table anew on each click.
(() => {
  document.documentElement.lang = 'en';
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const named = (hash) => document.getElementById(decodeURIComponent(hash.slice(1)));

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
    const those = near ? all('img', near) : [picture];
    beside.pictures = those.filter((each) => each.getClientRects().length);
    turnTo(beside.pictures.indexOf(picture));
    zoom.showModal();
  };

  // The table of checks: its filters hide rows by a class, which paper does not know.
  const table = document.querySelector('table.checks');
  const checks = () => all('tbody > tr[id]', table);
  // Pictures of a check stand in a row of their own below it.
  const more = (row) => (row.nextElementSibling?.matches('.more') ? row.nextElementSibling : null);
  const tools = document.querySelector('.tools[role=search]');
  const tell = (text) => {
    tools.querySelector('output').textContent = text;
  };
  const filter = () => {
    const asked = (name) => tools.querySelector(`[name=${name}]`)?.value ?? '';
    const words = asked('text').toLowerCase().split(/\s+/);
    const statuses = new Set(all('[name=status]:checked', tools).map((box) => box.value));
    const rows = checks();
    for (const row of rows) {
      const { family, status } = row.dataset;
      const text = row.textContent.toLowerCase();
      const fits =
        statuses.has(status) &&
        ['', family].includes(asked('family')) &&
        ['', ...row.dataset.class.split(' ')].includes(asked('class')) &&
        words.every((word) => text.includes(word));
      row.classList.toggle('off', !fits);
      more(row)?.classList.toggle('off', !fits);
    }
    const left = rows.filter((row) => !row.matches('.off')).length;
    tell(left === rows.length ? `${left} checks` : `${left} of ${rows.length} checks`);
  };
  const unfilter = () => {
    for (const box of all('[name=status]', tools)) box.checked = true;
    for (const field of all('[type=search], select', tools)) field.value = '';
    filter();
  };
  const sort = (title) => {
    const column = title.cellIndex;
    const up = title.ariaSort !== 'ascending';
    for (const other of all('th', title.parentElement)) other.removeAttribute('aria-sort');
    title.ariaSort = up ? 'ascending' : 'descending';
    const key = (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.order ?? cell.dataset.value;
      return value === undefined ? cell.textContent : Number(value);
    };
    const compare = (one, other) => {
      if (one === '' || other === '') return (one === '') - (other === ''); // What has no value comes last.
      const less = typeof one === 'number' ? one - other : one.localeCompare(other, 'en', { numeric: true });
      return up ? less : -less;
    };
    const rows = checks().map((row) => [key(row), [row, more(row)].filter(Boolean)]);
    rows.sort(([one], [other]) => compare(one, other));
    table.tBodies[0].append(...rows.flatMap(([, both]) => both));
  };
  const save = () => {
    const quoted = (text) => `"${text.replace(/^[=+\-@]/, "'$&").replaceAll('"', '""')}"`; // A formula stays text.
    const cells = (row, read) =>
      [...row.cells]
        .slice(0, -1)
        .flatMap((cell) => (cell.dataset.sign === undefined ? [read(cell)] : [quoted(cell.dataset.sign), read(cell)]))
        .join(',');
    const titles = cells(table.tHead.rows[0], (cell) => quoted(cell.firstChild.textContent));
    const rows = all('tbody > tr[id]:not(.off)', table).map((row) =>
      cells(row, (cell) => cell.dataset.value ?? quoted((cell.querySelector('a') ?? cell).textContent)),
    );
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([[titles, ...rows, ''].join('\n')], { type: 'text/csv' }));
    link.download = 'checks.csv';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href));
  };
  const copy = async (button) => {
    const { copy: text } = button.dataset;
    const whole = text.startsWith('#') ? location.href.split('#')[0] + text : text;
    try {
      await navigator.clipboard.writeText(whole);
    } catch {
      // A page that is served without encryption has no clipboard.
      const field = document.createElement('textarea');
      field.value = whole;
      button.after(field);
      field.select();
      document.execCommand('copy');
      field.remove();
      button.focus();
    }
    tell(`copied: ${button.textContent} of ${button.closest('tr').id}`);
  };
  tools?.addEventListener('input', filter);

  const reveal = (hash) => {
    const found = named(hash);
    if (found?.closest('.off')) unfilter();
    const pictures = found?.closest('tr.more');
    if (pictures) pictures.hidden = false;
    for (let fold = found?.closest('details'); fold; fold = fold.parentElement.closest('details')) fold.open = true;
    (pictures?.previousElementSibling ?? found)?.scrollIntoView();
  };

  document.addEventListener('click', (event) => {
    const at = (selector) => event.target.closest(selector);
    if (at('#zoom')) return zoom.close();
    if (at('.stress img')) return enlarge(at('.stress img'));
    if (at('.checks thead button')) return sort(at('th'));
    if (at('.copy')) return copy(at('.copy'));
    if (at('.csv')) return save();
    const link = at('a[href^="#"]');
    const shown = at('.checks tbody th') && link?.hash.startsWith('#pictures-') && more(at('tr'));
    if (shown && !shown.hidden) {
      event.preventDefault();
      shown.hidden = true;
    } else if (link) setTimeout(() => reveal(link.getAttribute('href')));
  });
  document.addEventListener('keydown', (event) => {
    if (zoom.open && ['ArrowLeft', 'ArrowRight'].includes(event.key)) {
      event.preventDefault();
      return turnTo(beside.at + (event.key === 'ArrowRight' ? 1 : -1));
    }
    if (event.key === 'Enter' && event.target.matches?.('.stress img')) enlarge(event.target);
  });

  // Of the mistakes, those of the chosen confusion and of enough confidence.
  const mistakes = document.querySelector('.mistakes');
  const choose = () => {
    const { value: key } = mistakes.querySelector('[name=confusion]');
    const sure = Number(mistakes.querySelector('[name=sure]')?.value ?? 0);
    const tiles = all('.gallery li', mistakes);
    for (const tile of tiles) tile.hidden = !['', tile.dataset.key].includes(key) || Number(tile.dataset.sure) < sure;
    const shown = tiles.filter((tile) => !tile.hidden).length;
    mistakes.querySelector('output').textContent = `${shown} images${sure ? `, confidence at least ${sure}%` : ''}`;
  };
  mistakes?.addEventListener('input', choose);
  if (mistakes) choose();

  // What pytest-html leaves to the mouse gets buttons; it listens on cells, and draws them anew.
  const press = (event) => {
    if (!event.target.matches?.('.col-result > button')) return;
    event.stopPropagation();
    const { id } = event.target.closest('tbody');
    event.target.parentElement.click();
    dress();
    document.getElementById(id).querySelector('.col-result > button').focus();
  };
  const pressable = (cell) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = cell.textContent;
    cell.replaceChildren(button);
    return button;
  };
  const dress = () => {
    for (const cell of all('#results-table .collapsible > .col-result:not(:has(button))')) {
      pressable(cell).ariaExpanded = String(!cell.matches('.collapsed'));
    }
    for (const picture of all('.stress img[alt]')) {
      picture.tabIndex = 0;
      picture.role = 'button';
    }
    for (const log of all('.logwrapper:has(.log)')) log.tabIndex = 0;
    for (const empty of all('#results-table .media.hidden')) empty.remove();
  };
  // What can be scrolled must be reached by keys, too.
  const measure = () => {
    table?.style.setProperty('--head', `${table.tHead.offsetHeight}px`);
    for (const [at, part] of all('.stress .scroll').entries()) {
      if (part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight) {
        part.tabIndex = 0;
        part.role = 'region';
        part.ariaLabel = `table ${at + 1}`;
      }
    }
  };
  document.addEventListener('click', press, true);
  document.addEventListener('toggle', measure, true);
  addEventListener('resize', measure);
  const leading = ['known', 'worse', 'example', 'margins', 'comparison'];
  addEventListener('DOMContentLoaded', () => {
    const list = document.querySelector('[data-name="tests"]');
    if (document.getElementById('results-table')) {
      // Into the part of the page that it belongs to, folded where it is long.
      const fold = list.appendChild(document.createElement('details'));
      const tests = all('#results-table > tbody').length;
      fold.open = tests <= 40;
      fold.append(document.createElement('summary'), ...all('.run-count, p.filter, .controls, #results-table'));
      fold.firstChild.textContent = `${tests} tests`;
      if (document.querySelector('#not-found-message') && !document.querySelector('input.filter:not(:checked)')) {
        for (const each of [list, document.querySelector('nav a[href="#report-tests"]')]) each.hidden = true;
      }
      const header = document.createElement('header');
      header.append(...all('body > h1, body > p'));
      document.body.prepend(header);
      for (const title of all('#results-table th.sortable')) {
        pressable(title).dataset.columnType = title.dataset.columnType;
      }
      for (const box of all('input.filter')) box.ariaLabel = box.nextElementSibling.textContent.replace(',', '');
      new MutationObserver(dress).observe(fold, { childList: true });
    }
    // A phone shows what leads, and the rest folded.
    if (matchMedia('(max-width: 40rem)').matches) {
      for (const section of all('.section').filter((each) => !leading.includes(each.dataset.name))) {
        const fold = document.createElement('details');
        fold.className = 'printed';
        fold.append(document.createElement('summary'), ...section.childNodes);
        fold.firstChild.append(fold.querySelector('h2'));
        section.append(fold);
      }
    }
    dress();
    measure();
  });
  for (const event of ['load', 'hashchange']) addEventListener(event, () => reveal(location.hash));
  const opened = [];
  addEventListener('beforeprint', () => {
    for (const item of all('details.printed:not([open])')) {
      item.open = true;
      opened.push(item);
    }
  });
  addEventListener('afterprint', () => {
    for (const item of opened.splice(0)) item.open = false;
  });
})();
