'use strict';
(() => {
  const windows = { '15m': ['15 min', 60, '15 minutes'], '1h': ['1 h', 60, 'hour'], '24h': ['24 h', 900, '24 hours'] };
  const palette = ['s0', 's1', 's2', 's3', 's4', 's5', 's6', 's7'];
  const special = { __system__: ['system', 'system', 'what a node uses beside its pods'], __unattributed__: ['unattributed', 'other', 'counted by the node, by no pod'],
    __idle__: ['idle', 'idle', 'idle energy that no pod carries'], __overhead__: ['overhead', 'overhead', 'the box itself: switch, fans, losses'] };
  const $ = id => document.getElementById(id);
  let chosen = location.hash.slice(1) in windows ? location.hash.slice(1) : '1h';
  let timer = 0, round = 0;

  // DOM. Text goes in as text, never as markup.
  function h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined) continue;
      if (name === 'class') node.className = value; else if (name === 'color') node.style.background = `var(--${value})`;
      else if (name === 'width') node.style.width = value; else node.setAttribute(name, value);
    }
    node.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined).map(c => c instanceof Node ? c : document.createTextNode(c)));
    return node;
  }
  function svg(tag, attributes, text) {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes || {})) { if (name === 'color') node.style.fill = `var(--${value})`; else node.setAttribute(name, value); }
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function table(id, columns, rows) {
    const head = h('tr', {}, columns.map(([name, kind, title]) => h('th', { class: kind, title }, name)));
    $(id).replaceChildren(h('thead', {}, head), h('tbody', {}, rows));
  }

  // Human units.
  const digits = v => Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : Math.abs(v) >= 1 ? 2 : 3;
  const number = v => v === 0 ? '0' : Math.abs(v) < 0.0005 ? '<0.001' : v.toLocaleString('en', { maximumFractionDigits: digits(v) });
  // With all its digits, so that figures below one another are read as one column.
  const fixed = v => v === 0 || Math.abs(v) < 0.0005 ? number(v) : v.toLocaleString('en', { minimumFractionDigits: digits(v), maximumFractionDigits: digits(v) });
  function scaled(value, base, units) {
    let i = 0;
    while (Math.abs(value) >= base && i < units.length - 1) { value /= base; i++; }
    return [fixed(value), units[i]];
  }
  const watts = w => Math.abs(w) < 0.9995 && w !== 0 ? [number(w * 1000), 'mW'] : scaled(w, 1000, ['W', 'kW', 'MW']);
  const energy = joules => scaled(joules / 3600, 1000, ['Wh', 'kWh', 'MWh', 'GWh']);
  const grams = g => g !== 0 && Math.abs(g) < 0.9995 ? [number(g * 1000), 'mg'] : scaled(g, 1000, ['g', 'kg', 't', 'kt']);
  const bytes = b => scaled(b, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
  const rate = b => scaled(b, 1000, ['B/s', 'kB/s', 'MB/s', 'GB/s']);
  const join = ([value, unit]) => value + '\u00a0' + unit;
  function money(amount, currency) {
    const value = Number(amount), small = value !== 0 && Math.abs(value) < 0.995;
    const format = { style: 'currency', currency, ...(small ? { maximumSignificantDigits: 3, minimumSignificantDigits: 2 } : {}) };
    try { return value.toLocaleString('en', format); } catch { return amount + ' ' + currency; }
  }
  function span(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 90) return s + ' s';
    if (s < 5400) return Math.round(s / 60) + ' min';
    return s < 172800 ? Math.round(s / 3600) + ' h' : Math.round(s / 86400) + ' days';
  }
  const clock = t => new Date(t).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
  const between = (from, to) => new Date(from).toDateString() === new Date(to).toDateString() ? `${clock(from)} to ${clock(to)}` : `${day(from)} ${clock(from)} to ${day(to)} ${clock(to)}`;
  const day = t => new Date(t).toLocaleDateString('en-GB', { weekday: 'short' });
  const marked = text => text.split('`').map((part, i) => i % 2 ? h('code', {}, part) : part); // `code` in a hint
  const plural = (n, word) => n + ' ' + word + (n === 1 ? '' : 's');

  async function get(path) {
    const token = sessionStorage.getItem('accumulus-token');
    const answer = await fetch(path, { headers: token ? { Authorization: 'Bearer ' + token } : {} })
      .catch(problem => { throw Object.assign(problem, { silent: true }); });
    if (answer.status === 401) throw Object.assign(new Error('token'), { gate: true });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail || answer.statusText);
    return body;
  }

  // Clusters.
  const stateClass = { ok: 'good', waiting: 'warn', lagging: 'warn', unreachable: 'bad', stopped: 'warn', removed: '' };
  function clusterRow(c, now) {
    const wait = c.nextWindow ? (new Date(c.nextWindow) - now) / 1000 : null;
    let state = c.settled ? `settled ${clock(c.settled)}` : wait === null ? 'no window yet' : wait > 0 ? `first window in ${span(wait)}` : 'first window is due';
    const lag = c.settled ? span(c.lagSeconds ?? (now - new Date(c.settled)) / 1000) : '–';
    const history = c.history && new Date(c.history.done) < new Date(c.history.to) ? c.history : null;
    const share = history ? (new Date(history.done) - new Date(history.from)) / (new Date(history.to) - new Date(history.from)) : 1;
    const trouble = c.lastError ? [h('div', {}, c.lastError.message), h('div', { class: 'dim' }, clock(c.lastError.time))]
      : history ? [h('div', { class: 'dim' }, `history ${Math.floor(share * 100)} % of ${span((new Date(history.to) - new Date(history.from)) / 1000)}`), h('span', { class: 'bar' }, h('i', { width: (share * 100).toFixed(1) + '%' }))]
      : [h('span', { class: 'dim' }, '–')];
    const next = c.settled && wait !== null ? (wait > 0 ? `next in ${span(wait)}` : 'next is due') : '';
    return h('tr', {},
      h('td', {}, h('div', { class: 'main' }, c.name), h('div', { class: 'dim' }, [c.provider, c.region, c.customer].filter(Boolean).join(' · '))),
      h('td', {}, h('span', { class: 'pill ' + (stateClass[c.state] ?? '') }, c.state)),
      h('td', { class: 'num' }, c.nodes ? String(c.nodes) : '–'), h('td', { class: 'num' }, lag),
      h('td', {}, h('div', {}, state), h('div', { class: 'dim' }, next)), h('td', { class: 'wide' }, trouble));
  }
  function showClusters(overview) {
    const now = new Date(overview.now);
    if (!overview.clusters.length) { $('clusters').replaceChildren(h('caption', { class: 'dim' }, 'No cluster yet: accumulus cluster add NAME --url http://…:8081')); return; }
    table('clusters', [['Cluster'], ['State'], ['Nodes', 'num'], ['Lag', 'num'], ['Window'], ['Last error, history']], overview.clusters.map(c => clusterRow(c, now)));
    const problems = [...overview.leader.problems.map(p => ['', p]), ...overview.clusters.flatMap(c => (c.problems ?? []).map(p => [c.name, p]))];
    const quiet = new Set(['no-window-yet', 'rows-waiting']);
    $('alerts').replaceChildren(...problems.filter(([, p]) => !quiet.has(p.code)).slice(0, 6).map(([name, p]) =>
      h('div', { class: 'alert' + (/unreachable|forbidden|unauthorized|mismatch/.test(p.code) ? ' bad' : '') }, h('b', {}, name ? `${name}: ` : '', p.message), h('p', {}, marked(p.hint)))));
  }
  function summary(overview, usage) {
    const live = overview.clusters.filter(c => c.state !== 'removed'), good = live.filter(c => c.state === 'ok').length;
    const filling = live.filter(c => c.history && new Date(c.history.done) < new Date(c.history.to)).length;
    const waiting = live.filter(c => !c.settled && c.nextWindow).map(c => (new Date(c.nextWindow) - new Date(overview.now)) / 1000);
    const parts = [`${good} of ${plural(live.length, 'cluster')} up to date`];
    if (usage.rows.length) parts.push(`metered until ${clock(usage.to)}`);
    else if (waiting.length) parts.push(`first window in ${span(Math.min(...waiting))}`);
    if (filling) parts.push(`filling history of ${plural(filling, 'cluster')}`);
    if (!overview.leader.running) parts.push('loops are stopped');
    $('summary').textContent = parts.join(' · ');
  }

  // Usage. The mean is over the time of which there are rows; energy comes some seconds
  // after them, so that of power is over the time of which there is energy.
  function shape(usage, steps) {
    const length = windows[chosen][1], times = new Map(), powered = new Map(), all = new Set();
    const note = (into, r) => { if (!into.has(r.key.cluster)) into.set(r.key.cluster, new Set()); into.get(r.key.cluster).add(r.from); };
    for (const r of steps.rows) {
      note(times, r); all.add(r.from);
      if (r.energyJoules > 0) note(powered, r);
    }
    const seconds = (of, cluster) => Math.max(1, (of.get(cluster)?.size ?? 0) * length);
    const rows = usage.rows.map(r => ({ ...r, id: r.key.cluster + '/' + r.key.namespace, seconds: seconds(times, r.key.cluster), watts: r.energyJoules / seconds(powered, r.key.cluster), kind: special[r.key.namespace] }));
    rows.sort((a, b) => Boolean(a.kind) - Boolean(b.kind) || b.energyJoules - a.energyJoules || b.cpuCoreSeconds - a.cpuCoreSeconds);
    let next = 0;
    for (const r of rows) r.color = r.kind ? r.kind[1] : next < palette.length ? palette[next++] : 'other';
    const order = [...all].sort(), waits = t => [...powered].some(([cluster, known]) => times.get(cluster).has(t) && !known.has(t));
    for (let i = 0; i < 5 && order.length && waits(order.at(-1)); i++) order.pop(); // the chart ends where all energy is known
    return { rows, times: order };
  }
  const costOf = r => r.cost !== null ? [[Number(r.cost), r.currency]] : (r.costs ?? []).map(c => [Number(c.cost), c.currency]);
  function costs(rows) {
    const sums = new Map();
    for (const [amount, currency] of rows.flatMap(costOf)) sums.set(currency, (sums.get(currency) ?? 0) + amount);
    return [...sums].map(([currency, amount]) => money(amount, currency));
  }
  // Carbon: what is unknown is no 0, and a sum says of how much of the energy it is.
  function carbonTile(rows) {
    const sum = name => rows.reduce((total, r) => total + (r[name] ?? 0), 0);
    const all = sum('energyJoules'), known = sum('locationEnergyJoules');
    if (!(known > 0)) return ['CO\u2082e', ['\u2013'], 'no grid is described'];
    const parts = ['by location' + (known < all * 0.9995 ? `, of ${hundred(known / all)} % of the energy` : '')];
    if (sum('locationEstimatedJoules') > 0) parts.push('yearly means');
    return ['CO\u2082e', grams(sum('locationGrams')), parts.join('; ')];
  }
  function showTiles(data, usage, carbon) {
    const sum = f => data.rows.reduce((total, r) => total + f(r), 0);
    const joules = sum(r => r.energyJoules), measured = sum(r => r.energyMeasuredJoules);
    const mean = f => sum(r => f(r) / r.seconds), power = sum(r => r.watts);
    const real = data.rows.filter(r => !r.kind && r.podSeconds > 0), alive = real.reduce((t, r) => t + r.podSeconds, 0);
    const coverage = real.reduce((t, r) => t + r.coverage * r.podSeconds, 0) / alive, worst = real.reduce((w, r) => w === null || r.coverage < w.coverage ? r : w, null);
    const tile = (name, [value, unit], sub) => h('div', { class: 'tile' }, h('div', { class: 'name' }, name), h('div', { class: 'value' }, value, unit ? h('small', {}, unit) : null), h('div', { class: 'sub' }, sub || '\u00a0'));
    const cost = costs(data.rows), none = !data.rows.length;
    $('tiles').replaceChildren(
      tile('Power', none ? ['–'] : watts(power), 'mean of the ' + windows[chosen][2]),
      tile('Energy', none ? ['–'] : energy(joules), joules ? `${hundred(Math.min(1, Math.max(0, measured / joules)))} % measured by meters` : 'no power model or meter'),
      tile(...carbonTile(carbon)),
      tile('Cost', [cost.length ? cost.join(' + ') : '–'], cost.length ? (usage.provisional.length ? 'newest minutes are provisional' : 'final') : 'no price list'),
      tile('CPU', none ? ['–'] : [number(mean(r => r.cpuCoreSeconds)), 'cores'], 'used, all nodes'),
      tile('Memory', none ? ['–'] : bytes(mean(r => r.memoryByteSeconds)), 'used, all nodes'),
      tile('Coverage', worst === null ? ['–'] : [hundred(coverage), '%'], worst === null ? '' : worst.coverage < 0.995 ? `least: ${worst.key.namespace}, ${worst.key.cluster}, ${hundred(worst.coverage)} %` : 'of the window has readings'));
  }
  const hundred = share => (share * 100).toLocaleString('en', { maximumFractionDigits: share > 0.9995 ? 0 : 1 });
  // A mixed quality says how much of the energy meters counted.
  const quality = (q, measured, all) => q !== 'mixed' || !(all > 0) ? badge(q) : measured / all > 0.9 ? badge('measured', hundred(Math.min(1, measured / all)) + ' % measured') : badge(q, hundred(measured / all) + ' % measured');
  const badge = (q, text) => h('span', { class: 'pill ' + ({ measured: 'good', mixed: 'warn' }[q] ?? ''), title: 'the rest is the model\'s estimate, until the meters have counted it' }, text ?? q);
  function showUsage(data, usage) {
    const most = Math.max(...data.rows.map(r => r.watts), 1e-9);
    table('usage', [['Namespace'], ['CPU', 'num'], ['Memory', 'num'], ['Network', 'num', 'received + transmitted'], ['Power', 'num', 'mean'], ['', 'grow'], ['Energy', 'num'], ['Cost', 'num'], ['Energy is']],
      data.rows.map(r => h('tr', {},
        h('td', { title: r.kind ? r.kind[2] : null }, h('span', { class: 'swatch', color: r.color }), h('span', { class: r.kind ? '' : 'main' }, r.kind ? r.kind[0] : r.key.namespace), ' ', h('span', { class: 'dim' }, r.key.cluster === '__box__' ? 'boxes' : r.key.cluster)),
        h('td', { class: 'num' }, fixed(r.cpuCoreSeconds / r.seconds), h('span', { class: 'dim' }, ' cores')), h('td', { class: 'num' }, join(bytes(r.memoryByteSeconds / r.seconds))),
        h('td', { class: 'num' }, join(rate((r.networkReceiveBytes + r.networkTransmitBytes) / r.seconds))),
        h('td', { class: 'num' }, join(watts(r.watts))), h('td', { class: 'grow' }, h('span', { class: 'bar' }, h('i', { color: r.color, width: Math.max(0, 100 * r.watts / most).toFixed(1) + '%' }))),
        h('td', { class: 'num' }, join(energy(r.energyJoules))), h('td', { class: 'num' }, costs([r]).join(' + ') || '–'), h('td', {}, quality(r.quality, r.energyMeasuredJoules, r.energyJoules)))));
    $('usageNote').textContent = data.rows.length ? `${between(usage.from, usage.to)}; means are over the time metered` : 'nothing metered in this window yet';
  }

  // The chart: stacked watts by namespace.
  function showChart(data, steps) {
    const times = data.times, holder = $('chart');
    $('powerNote').textContent = times.length > 1 ? 'watts by namespace, stacked' : '';
    if (times.length < 2) { holder.replaceChildren(h('div', { class: 'empty' }, 'The chart begins with the second window.')); return; }
    const width = holder.clientWidth || 1100, height = 210, left = 46, bottom = 22, top = 8;
    const index = new Map(times.map((t, i) => [t, i])), base = new Array(times.length).fill(0), order = [...data.rows].reverse();
    const bands = order.map(r => ({ r, values: new Array(times.length).fill(0) })), byId = new Map(bands.map(b => [b.r.id, b]));
    for (const r of steps.rows) { const band = byId.get(r.key.cluster + '/' + r.key.namespace); if (band && index.has(r.from)) band.values[index.get(r.from)] = Math.max(0, r.energyJoules / ((new Date(r.to) - new Date(r.from)) / 1000)); }
    const peak = Math.max(...times.map((_, i) => bands.reduce((t, b) => t + b.values[i], 0)), 1e-9), tick = niceTick(peak);
    const ceiling = Math.ceil(peak / tick) * tick;
    const first = new Date(times[0]).getTime(), last = new Date(times[times.length - 1]).getTime();
    const x = t => left + (width - left - 8) * (new Date(t) - first) / Math.max(1, last - first), y = v => top + (height - top - bottom) * (1 - v / ceiling);
    const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'Power by namespace' });
    for (let v = 0; v <= ceiling + tick / 2; v += tick) { picture.append(svg('line', { class: 'grid', x1: left, x2: width - 8, y1: y(v), y2: y(v) }), svg('text', { x: left - 8, y: y(v) + 4, 'text-anchor': 'end' }, join(watts(v)))); }
    for (const band of bands) {
      const upper = times.map((t, i) => `${x(t).toFixed(1)},${y(base[i] + band.values[i]).toFixed(1)}`), lower = times.map((t, i) => `${x(t).toFixed(1)},${y(base[i]).toFixed(1)}`).reverse();
      band.values.forEach((v, i) => { base[i] += v; });
      const area = svg('polygon', { points: upper.concat(lower).join(' '), color: band.r.color });
      area.append(svg('title', {}, (band.r.kind ? band.r.kind[0] : band.r.key.namespace) + ' ' + band.r.key.cluster)); picture.append(area);
    }
    const marks = Math.min(4, times.length - 1);
    for (let i = 0; i <= marks; i++) { const t = times[Math.round((times.length - 1) * i / marks)]; picture.append(svg('text', { x: x(t), y: height - 5, 'text-anchor': i === 0 ? 'start' : i === marks ? 'end' : 'middle' }, clock(t))); }
    holder.replaceChildren(picture);
  }
  function niceTick(peak) { const raw = peak / 3, power = 10 ** Math.floor(Math.log10(raw)); return [1, 2, 5, 10].find(m => m * power >= raw) * power; }

  // Boxes: what the meters counted beside what the model says of the same time, who
  // carries it, and by what rule the idle part is carried.
  const policies = { equal: 'by time alive', requests: 'by requests', usage: 'by CPU time', none: 'by nobody' };
  const cents = share => (share < 0 ? '\u2212' : '') + (Math.abs(share) * 100).toLocaleString('en', { maximumFractionDigits: Math.abs(share) < 0.0995 ? 1 : 0 }) + '\u00a0%';
  const signed = ([value, unit]) => (value.startsWith('-') ? '\u2212' + value.slice(1) : '+' + value) + '\u00a0' + unit;
  const kinds = { line: 'a line between idle and full load', curve: 'a curve through what is known', learned: 'learned from the meter', none: 'watts for each core' };
  function hardwareOf(box, fleet) {
    const count = new Map();
    for (const id of box.nodes) { const type = fleet.nodes.get(id)?.hardware ?? ''; count.set(type, (count.get(type) ?? 0) + 1); }
    return [...count].map(([type, n]) => {
      const known = fleet.hardware.get(type);
      if (!known) return h('li', {}, `${n} of unknown hardware: so many watts for each core`);
      const m = fleet.models.find(m => m.hardware === type && m.box === box.box) ?? fleet.models.find(m => m.hardware === type && !m.box), points = m?.points ?? [];
      const range = points.length ? [points[0].watts, points.at(-1).watts] : known.maxWatts ? [known.idleWatts ?? 0, known.maxWatts] : null;
      return h('li', {}, h('b', {}, `${n} × ${known.cpuType || type}`), range ? `, ${number(range[0])} to ${number(range[1])} W` : '',
        m ? h('span', { title: [m.why, m.source].filter(Boolean).join('; ') }, `: ${kinds[m.kind] ?? m.kind}` + (m.errorPercent ? `, off by ${number(m.errorPercent)} % on average` : '')) : '');
    });
  }
  function meterLines(box, fleet, now) {
    return box.meters.map(name => {
      const m = fleet.meters.get(name), silent = m?.lastReading ? (now - new Date(m.lastReading)) / 1000 : null;
      if (m?.error && !(silent < 120)) return h('li', { class: 'bad' }, h('b', {}, name), silent === null ? ' was not read yet: ' : ` is silent for ${span(silent)}: `, m.error);
      if (silent === null) return h('li', {}, h('b', {}, name), ' was not read yet');
      return h('li', {}, h('b', {}, name), ` read ${span(silent)} ago`, m.lagSeconds ? `, ${span(Math.abs(m.lagSeconds))} ${m.lagSeconds > 0 ? 'behind' : 'ahead'}` : '', m.origin === 'integrated' ? ', watts integrated' : '');
    });
  }
  function heatAndCarbon(box, fleet, fact) {
    const heat = fleet.heat.get(box), carbon = fleet.carbon.get(box), useful = heat?.usefulJoules ?? 0;
    const market = carbon?.marketGrams ?? null, avoided = carbon?.avoidedGrams ?? 0;
    return [heat?.producedJoules > 0 ? fact('Heat', join(energy(heat.producedJoules)), ' produced', useful > 0 ? [', ', h('b', {}, join(energy(useful))), ' of use'] : '') : null,
      (carbon?.locationGrams ?? null) === null ? null : fact('CO\u2082e', h('b', {}, join(grams(carbon.locationGrams))), ` by location (${carbon.locationQuality})`,
        market === null ? '' : `; ${join(grams(market))} by contracts`, avoided > 0 ? `; apart, ${join(grams(avoided))} avoided by its heat` : '')];
  }
  function showBoxes(answer, data, fleet) {
    const colors = new Map(data.rows.map(r => [r.id, r.color])), names = { idle: 'idle', overhead: 'overhead', unattributed: 'other' };
    $('boxesNote').textContent = answer.boxes.length ? `${between(answer.from, answer.to)}; the model is held against the meters over the time that they have counted` : 'no box is described: accumulus apply -f fleet.yaml';
    $('boxes').replaceChildren(...answer.boxes.map(b => {
      const parts = Object.entries(b.attributedJoules).filter(([, v]) => v > 0).sort((p, q) => (p[0] in names) - (q[0] in names) || q[1] - p[1]), total = parts.reduce((t, [, v]) => t + v, 0);
      const counted = b.measuredJoules > 0, whole = b.activeJoules + b.idleJoules + b.overheadJoules, most = Math.max(b.measuredJoules ?? 0, b.modelledJoules, 1e-9);
      const compare = (name, joules, power, color) => h('div', { class: 'compare' }, h('span', {}, name), h('span', { class: 'bar' }, h('i', { color, width: (100 * joules / most).toFixed(1) + '%' })),
        h('b', {}, join(energy(joules))), h('span', { class: 'dim' }, power === null ? '' : join(watts(power))));
      const off = b.measuredJoules - b.modelledJoules, fact = (name, ...value) => [h('dt', {}, name), h('dd', {}, value)];
      const notes = [];
      if (b.provisionalJoules > 0) notes.push(`${join(energy(b.provisionalJoules))} are the model's until the meter's interval closes`);
      if (b.estimatedJoules > 0 && b.meters.length) notes.push(`${join(energy(b.estimatedJoules))} are the model's: no meter counted them`);
      if (b.residualJoules) notes.push(`${join(energy(b.residualJoules))} that were measured are in no row`);
      const idle = b.attributedJoules.idle, modelPower = counted && b.measuredWatts ? b.measuredWatts * b.modelledJoules / b.measuredJoules : b.modelledWatts;
      return h('div', { class: 'box' },
        h('div', { class: 'row' }, h('span', {}, h('span', { class: 'main' }, b.box), ' ', h('span', { class: 'dim' }, [b.site, b.clusters.length > 1 ? 'shared by ' + b.clusters.join(', ') : b.clusters.join()].filter(Boolean).join(' · '))), quality(b.quality, b.measuredJoules, b.measuredJoules + b.provisionalJoules + b.estimatedJoules)),
        counted ? compare('measured', b.measuredJoules, b.measuredWatts, 'accent') : null, compare('modelled', b.modelledJoules, modelPower, 'other'),
        h('p', { class: 'off' }, counted ? [h('b', {}, signed(energy(off)), ' · ', signed([number(100 * off / b.measuredJoules), '%'])), ' measured beyond the model'] : b.meters.length ? 'nothing is measured yet in this window' : 'no meter: the model\u2019s estimate'),
        h('div', { class: 'stack', role: 'img', 'aria-label': 'who carries the energy' }, parts.map(([key, v]) => h('i', { color: names[key] ?? (key.endsWith('/__system__') ? 'system' : colors.get(key) ?? 'other'), width: (100 * v / total).toFixed(2) + '%', title: `${key.replace('__system__', 'system')}: ${join(energy(v))}, ${Math.round(100 * v / total)} %` }))),
        h('dl', {}, whole > 0 ? [fact('Idle', cents(b.idleJoules / whole), ' of the energy, ', h('b', {}, policies[b.idlePolicy] ?? b.idlePolicy), idle > 0 ? `; ${join(energy(idle))} by nobody` : ''),
          fact('Load', cents(b.activeJoules / whole), b.overheadJoules > 0 ? `, and ${cents(b.overheadJoules / whole)} of the box itself` : '')] : null,
          heatAndCarbon(b.box, fleet, fact), fact('Nodes', b.nodes.length ? h('ul', {}, hardwareOf(b, fleet)) : 'none'), fact('Meters', b.meters.length ? h('ul', {}, meterLines(b, fleet, new Date(fleet.now))) : 'none')),
        notes.map(note => h('p', { class: 'dim' }, note)));
    }));
  }
  // What the fleet says beside the numbers; the page does without what it may not see.
  async function describe(question) {
    const list = (path, of) => get(path).then(of, problem => { if (problem.gate) throw problem; return []; });
    const [nodes, hardware, meters, models, heat, carbon] = await Promise.all([list('/api/v1/fleet/node', a => a.items), list('/api/v1/fleet/hardware', a => a.items), list('/api/v1/meters', a => a.meters), list('/api/v1/models', a => a.models),
      list('/api/v1/heat?' + question, a => a.rows), list('/api/v1/carbon?' + question, a => a.rows)]);
    const byBox = rows => new Map(rows.map(r => [r.key.box, r]));
    return { models, carbonRows: carbon, heat: byBox(heat), carbon: byBox(carbon), nodes: new Map(nodes.map(o => [o.spec.cluster + '/' + o.spec.node, o.spec])), hardware: new Map(hardware.map(o => [o.metadata.name, o.spec])), meters: new Map(meters.map(m => [m.meter, m])) };
  }

  async function refresh() {
    const mine = ++round;
    clearTimeout(timer);
    try {
      const step = windows[chosen][1] + 's', question = `window=${chosen}&aggregate=cluster,namespace&limit=5000`;
      const [overview, usage, steps, boxes, fleet] = await Promise.all([get('/api/v1/status'), get('/api/v1/usage?' + question),
        get('/api/v1/usage?' + question.replace('5000', '50000') + '&step=' + step), get('/api/v1/boxes?window=' + chosen), describe(`window=${chosen}&aggregate=box`)]);
      if (mine !== round) return;
      $('gate').hidden = true; $('content').hidden = false;
      const data = shape(usage, steps);
      showClusters(overview); summary(overview, usage); showTiles(data, usage, fleet.carbonRows); showChart(data, steps); showUsage(data, usage); showBoxes(boxes, data, { ...fleet, now: overview.now });
      $('clock').textContent = 'updated ' + new Date().toLocaleTimeString('en-GB', { timeZoneName: 'short' });
    } catch (problem) {
      if (mine !== round) return;
      if (problem.gate) { $('gate').hidden = false; $('content').hidden = true; $('summary').textContent = 'A token is needed.'; return; }
      $('summary').textContent = problem.silent ? 'The leader does not answer; trying again…'
        : problem instanceof TypeError ? 'This page has a fault: ' + problem.message : 'The leader says: ' + problem.message;
    }
    timer = setTimeout(refresh, document.hidden ? 30000 : 5000);
  }

  function choose(name) {
    chosen = name; history.replaceState(null, '', '#' + name);
    for (const button of $('windows').children) button.setAttribute('aria-pressed', String(button.dataset.window === name));
    refresh();
  }
  for (const [name, [label]] of Object.entries(windows)) {
    const button = h('button', { type: 'button', 'data-window': name }, label);
    button.addEventListener('click', () => choose(name)); $('windows').append(button);
  }
  $('gateForm').addEventListener('submit', event => { event.preventDefault(); sessionStorage.setItem('accumulus-token', $('gateToken').value.trim()); refresh(); });
  document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
  choose(chosen);
})();
