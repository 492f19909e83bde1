(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const isShown = (element) => element.getClientRects().length > 0;

  const zoom = document.getElementById('zoom');
  const turnTo = (at) => {
    const { pictures } = zoom;
    zoom.at = (at + pictures.length) % pictures.length;
    const { src, alt, naturalWidth } = pictures[zoom.at];
    Object.assign(zoom.querySelector('img'), { src, alt });
    zoom.classList.toggle('small', naturalWidth < 100);
    const place = pictures.length > 1 ? ` (${zoom.at + 1} of ${pictures.length}, turn with ← and →)` : '';
    zoom.querySelector('p').textContent = alt + place;
  };
  const enlarge = (picture) => {
    const near = picture.closest('.gallery, [id^="pictures-"], .section') ?? document;
    zoom.pictures = all('img', near).filter(isShown);
    turnTo(zoom.pictures.indexOf(picture));
    zoom.showModal();
  };

  // The table of checks: its filters hide rows by a class, which paper does not know.
  const table = document.querySelector('table.checks');
  const checks = () => all('tbody > tr[id]', table);
  // Pictures of a check stand in a row of their own below it.
  const more = (row) => (row.nextElementSibling?.matches('.more') ? row.nextElementSibling : null);
  const tools = document.querySelector('.tools');
  const tell = (text) => {
    tools.querySelector('output').textContent = text;
  };
  const filter = () => {
    const words = tools.querySelector('[type=search]').value.toLowerCase().split(/\s+/);
    const statuses = new Set(all('[name=status]:checked', tools).map((box) => box.value));
    const rows = checks();
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = statuses.has(row.dataset.status) && words.every((word) => text.includes(word));
      row.classList.toggle('off', !fits);
      more(row)?.classList.toggle('off', !fits);
    }
    const left = rows.filter((row) => !row.matches('.off')).length;
    tell(left === rows.length ? `${left} checks` : `${left} of ${rows.length} checks`);
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
  };
  const copy = async (button) => {
    const { copy: text } = button.dataset;
    const whole = text.startsWith('#') ? location.href.split('#')[0] + text : text;
    // A page that is served without encryption has no clipboard.
    if (navigator.clipboard) await navigator.clipboard.writeText(whole);
    else prompt('Copy this:', whole);
    tell(`copied: ${button.textContent} of ${button.closest('[id]').id}`);
  };
  tools?.addEventListener('input', () => {
    filter();
    stopAtFirstRow();
  });

  // A group of alike elements is one tab stop, so the keyboard gets past it in one step; arrows move inside it.
  const picturesBeside = (picture) =>
    all('img', picture.closest('[id^="pictures-"]') ?? picture.closest('.gallery, .pictures, .figures') ?? document);
  const inRows = '.checks tbody > tr[id] :is(a, button)';
  const controls = (row) => all('a[href], button', row);
  const shownRows = () => checks().filter((row) => !row.matches('.off'));
  const makeOneStop = (group, stop) => {
    for (const element of group) element.tabIndex = element === stop ? 0 : -1;
  };
  const stopInRows = (control) => makeOneStop(checks().flatMap(controls), control);
  const stopAtFirstRow = () => stopInRows(shownRows().flatMap(controls)[0]);
  const neighbor = (from, key) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[key];
    const row = from.closest('tr[id]');
    const beside = row ? controls(row) : picturesBeside(from);
    if (!row || key === 'ArrowLeft' || key === 'ArrowRight') return beside[beside.indexOf(from) + step];
    const rows = shownRows();
    const other = rows[rows.indexOf(row) + step];
    // Not every row has a link to its behavior, but all end with the same buttons.
    return other && (controls(other).at(beside.indexOf(from) - beside.length) ?? controls(other)[0]);
  };

  const reveal = (hash) => {
    const found = document.getElementById(decodeURIComponent(hash.slice(1)));
    if (found?.closest('.off')) {
      for (const box of all('[name=status]', tools)) box.checked = true;
      tools.querySelector('[type=search]').value = '';
      filter();
      stopAtFirstRow();
    }
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
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (zoom.open && step) {
      event.preventDefault();
      return turnTo(zoom.at + step);
    }
    if (event.key === 'Enter' && event.target.matches?.('.stress img')) enlarge(event.target);
    if (event.key.startsWith('Arrow') && event.target.matches?.(`.stress img, ${inRows}`)) {
      const next = neighbor(event.target, event.key);
      if (next) event.preventDefault();
      next?.focus();
    }
  });
  document.addEventListener('focusin', ({ target }) => {
    if (target.matches('.stress img')) makeOneStop(picturesBeside(target), target);
    if (target.matches(inRows)) stopInRows(target);
  });

  const fold = (section, title, parts) => {
    const folded = document.createElement('details');
    folded.append(document.createElement('summary'), ...parts);
    folded.firstChild.append(title);
    section.append(folded);
    return folded;
  };
  const leading = ['known', 'worse', 'example', 'margins', 'comparison'];
  addEventListener('DOMContentLoaded', () => {
    if (table) stopAtFirstRow();
    for (const picture of all('.stress img')) picture.tabIndex = picturesBeside(picture)[0] === picture ? 0 : -1;
    // A phone shows what leads, and the rest folded.
    if (matchMedia('(max-width: 40rem)').matches) {
      for (const section of all('.section').filter((each) => !leading.includes(each.dataset.name))) {
        fold(section, section.querySelector('h2'), section.childNodes).className = 'printed';
      }
    }
  });
  for (const event of ['load', 'hashchange']) addEventListener(event, () => reveal(location.hash));
  for (const [event, open] of [
    ['beforeprint', true],
    ['afterprint', false],
  ]) {
    addEventListener(event, () => {
      for (const item of all('details.printed')) item.open = open;
    });
  }
})();
