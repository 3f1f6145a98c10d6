'use strict';
// Tables: a click on a column title, or Enter on it, sorts by it; once more reverses the order. Empty cells stay last.
for (const table of document.querySelectorAll('table.sortable')) {
  table.querySelectorAll('thead button').forEach((button) => {
    const head = button.parentElement, column = head.cellIndex;
    button.addEventListener('click', () => {
      const rows = [...table.tBodies[0].rows];
      const key = (row) => {
        const cell = row.cells[column], text = cell.textContent.trim();
        return cell.dataset.value !== undefined ? Number(cell.dataset.value) : text;
      };
      const numeric = rows.some((row) => typeof key(row) === 'number');
      const before = head.getAttribute('aria-sort');
      const direction = before ? (before === 'ascending' ? 'descending' : 'ascending') : (numeric ? 'descending' : 'ascending');
      const sign = direction === 'ascending' ? 1 : -1;
      const missing = (value) => value === '' || Number.isNaN(value);
      rows.sort((one, other) => {
        const a = key(one), b = key(other);
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return sign * (typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b)));
      });
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', direction);
      table.tBodies[0].append(...rows);
    });
  });
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const narrow = () => window.innerWidth < 640;
const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ['select2d', 'lasso2d'] };

function layoutOf(own, lines) {
  const text = colour('--text'), grid = colour('--grid');
  const axis = (given) => ({ gridcolor: grid, zerolinecolor: colour('--line'), linecolor: colour('--line'), automargin: true,
                             ...given, title: { standoff: 8, ...(given || {}).title } });
  const rows = narrow() ? lines : Math.ceil(lines / 4);  // of the legend, which is below the plot
  return {
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { color: text, size: narrow() ? 12 : 13 },
    margin: { l: 10, r: 10, t: 10, b: 10 }, dragmode: narrow() ? false : 'zoom', hovermode: 'closest',
    hoverlabel: { font: { size: 13 } }, showlegend: lines > 1,
    modebar: { bgcolor: 'rgba(0,0,0,0)', color: colour('--soft'), activecolor: text },
    height: 360 + (lines > 1 ? 22 * rows : 0), ...own,
    legend: { orientation: 'h', yref: 'container', y: 0, yanchor: 'bottom', x: 0, xanchor: 'left', ...own.legend },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
  };
}

function drawChart(script) {
  const { data, layout } = JSON.parse(script.textContent), place = document.getElementById(script.dataset.chart);
  const lines = data.filter((trace) => trace.showlegend !== false).length;
  Plotly.react(place, data, layoutOf(layout, lines), config);
}

function drawMap(script, made) {
  const number = script.dataset.map, content = JSON.parse(script.textContent);
  const place = document.getElementById(`map-${number}`), slider = document.getElementById(`progress-${number}`);
  const shown = document.getElementById(`shown-${number}`), heaviest = document.getElementById(`heaviest-${number}`);
  const select = document.getElementById(`group-${number}`);
  const text = (value) => value === null ? '' : value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2)));
  const draw = () => {
    const weights = content.weights[select ? select.value : Object.keys(content.weights)[0]];
    const table = weights[slider.value], share = `${Math.round(100 * content.progress[slider.value])}%`;
    const most = Math.max(...weights.flat(2).filter((value) => value !== null));
    const cells = table.flatMap((row, t) => row.map((value, s) => ({ value, t, s }))).filter((cell) => cell.value !== null);
    const best = cells.reduce((a, b) => (b.value > a.value ? b : a));
    shown.textContent = share;
    slider.setAttribute('aria-valuetext', share);
    heaviest.textContent = `At ${share}: the heaviest is ${content.teacher[best.t]} → ${content.student[best.s]} with ` +
      `${text(best.value)}.`;
    const small = narrow() && content.student.length > 5 || content.student.length > 10;
    Plotly.react(place, [{
      type: 'heatmap', z: table, x: content.student, y: content.teacher, zmin: 0, zmax: most || 1, colorscale: 'Viridis',
      xgap: 2, ygap: 2, hoverongaps: false,
      hovertemplate: 'teacher %{y}<br>student %{x}<br>weight %{z}<extra></extra>',
      colorbar: { title: { text: 'weight', side: 'right' }, thickness: 12, outlinewidth: 0 },
    }, {  // the numbers, dark on the light end of the colours
      type: 'scatter', mode: 'text', hoverinfo: 'skip', x: cells.map((cell) => content.student[cell.s]),
      y: cells.map((cell) => content.teacher[cell.t]), text: small ? [] : cells.map((cell) => text(cell.value)),
      textfont: { size: 13, color: cells.map((cell) => (cell.value > 0.55 * most ? '#000' : '#fff')) },
    }], layoutOf({
      xaxis: { title: { text: 'layer of the student' }, type: 'category', showgrid: false },
      yaxis: { title: { text: 'layer of the teacher' }, type: 'category', autorange: 'reversed', showgrid: false },
      height: 150 + Math.max(160, 44 * content.teacher.length),
    }, 1), config);
  };
  if (!made) {
    slider.addEventListener('input', draw);
    if (select) select.addEventListener('change', draw);
  }
  draw();
}

function drawAll(made) {
  document.querySelectorAll('script[data-chart]').forEach(drawChart);
  document.querySelectorAll('script[data-map]').forEach((script) => drawMap(script, made));
}

async function start() {
  const packed = Uint8Array.from(atob(document.getElementById('plotly').textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const library = document.createElement('script');
  library.textContent = await new Response(unpacked).text();
  document.head.append(library);
  drawAll(false);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => drawAll(true));
  matchMedia('(max-width: 640px)').addEventListener('change', () => drawAll(true));
  document.documentElement.dataset.ready = 'yes';
}

start().catch((error) => {
  const status = document.getElementById('status');
  status.hidden = false;
  status.textContent = `The figures cannot be drawn in this browser (${error.message}). The tables have the same values.`;
});
