"use strict";
// Mosaics: owners of the places of tiles, drawn on a canvas that pans and zooms to single weights.
const HOLE = 255;

async function bytes(text) {
  const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function colour(owner, dark) {
  if (owner === HOLE) return dark ? [29, 42, 40] : [233, 239, 238];
  const hue = (205 + owner * 137.508) % 360, s = 0.55, l = dark ? 0.6 : 0.48;
  const a = s * Math.min(l, 1 - l);
  const f = (n) => { const k = (n + hue / 30) % 12; return Math.round(255 * (l - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)))); };
  return [f(0), f(8), f(4)];
}

class Mosaic {
  constructor(root) {
    this.root = root; this.canvas = root.querySelector("canvas"); this.out = root.querySelector("output");
    const d = root.dataset; this.rows = +d.rows; this.columns = +d.columns; this.depth = +d.depth; this.channels = +d.channels;
    this.zoom = 1; this.x = 0; this.y = 0;
  }
  async load() {
    if (this.owners) return;
    this.owners = await bytes(this.root.dataset.owners);
    if (this.root.dataset.weights) this.weights = new Int8Array((await bytes(this.root.dataset.weights)).buffer);
    this.listen(); this.paint(); this.fit();
  }
  paint() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches, table = [];
    for (let i = 0; i < 256; i++) table.push(colour(i, dark));
    // Rows lie along x: a layer has more inputs than tiles as a rule.
    const image = new ImageData(this.rows, this.columns);
    for (let r = 0; r < this.rows; r++) for (let c = 0; c < this.columns; c++) {
      const p = 4 * (c * this.rows + r), rgb = table[this.owners[r * this.columns + c]];
      image.data[p] = rgb[0]; image.data[p + 1] = rgb[1]; image.data[p + 2] = rgb[2]; image.data[p + 3] = 255;
    }
    this.picture = document.createElement("canvas"); this.picture.width = this.rows; this.picture.height = this.columns;
    this.picture.getContext("2d").putImageData(image, 0, 0);
  }
  // Small layers fill the width, with places as tall as they are wide.
  fit() {
    const width = this.canvas.getBoundingClientRect().width, place = Math.min(28, width / this.rows);
    this.canvas.style.height = `${Math.round(Math.min(420, Math.max(90, place * this.columns)))}px`;
    this.size(); this.zoom = Math.min(this.canvas.width / this.rows, this.canvas.height / this.columns); this.x = this.y = 0; this.draw();
  }
  size() { const r = devicePixelRatio || 1, b = this.canvas.getBoundingClientRect(); this.canvas.width = Math.max(1, b.width * r); this.canvas.height = Math.max(1, b.height * r); }
  draw() {
    const g = this.canvas.getContext("2d"); g.imageSmoothingEnabled = this.zoom < 1;
    g.clearRect(0, 0, this.canvas.width, this.canvas.height);
    g.drawImage(this.picture, -this.x * this.zoom, -this.y * this.zoom, this.rows * this.zoom, this.columns * this.zoom);
    if (this.zoom >= 5 && this.depth > 1) {
      g.fillStyle = getComputedStyle(this.canvas).color; // rows that a tile has for what collides
      for (let c = 0; c < this.columns; c++) if (c % this.depth) g.fillRect(-this.x * this.zoom, (c - this.y) * this.zoom, Math.max(2, this.zoom / 5), this.zoom);
    }
    if (this.cursor) {
      const [r, c] = this.at(this.canvas.width / 2, this.canvas.height / 2);
      g.lineWidth = 2; g.strokeStyle = getComputedStyle(this.canvas).color; g.strokeRect((r - this.x) * this.zoom, (c - this.y) * this.zoom, Math.max(4, this.zoom), Math.max(4, this.zoom));
    }
    if (this.zoom >= 22 && this.weights) {
      g.font = `${Math.round(this.zoom * 0.38)}px system-ui`; g.textAlign = "center"; g.textBaseline = "middle"; g.fillStyle = "#fff";
      for (let r = Math.floor(this.x); r < Math.min(this.rows, this.x + this.canvas.width / this.zoom); r++)
        for (let c = Math.floor(this.y); c < Math.min(this.columns, this.y + this.canvas.height / this.zoom); c++)
          if (this.owners[r * this.columns + c] !== HOLE) g.fillText(this.weights[r * this.columns + c], (r + 0.5 - this.x) * this.zoom, (c + 0.5 - this.y) * this.zoom);
    }
  }
  at(px, py) { return [Math.floor(this.x + px / this.zoom), Math.floor(this.y + py / this.zoom)]; }
  tell(px, py) {
    const [r, c] = this.at(px, py);
    if (r < 0 || c < 0 || r >= this.rows || c >= this.columns) { this.out.textContent = ""; return; }
    const owner = this.owners[r * this.columns + c], where = `tile ${Math.floor(c / this.depth)}, window position ${this.position(r)}`;
    const weight = this.weights && owner !== HOLE ? `, weight ${this.weights[r * this.columns + c]}` : "";
    this.out.textContent = owner === HOLE ? `${where}: empty` : `${where}: kernel ID ${owner}${weight}`;
  }
  position(r) { const positions = +this.root.dataset.positions; return `${r % positions}, channel ${Math.floor(r / positions)}`; }
  zoomBy(factor, px, py) {
    const [x, y] = [this.x + px / this.zoom, this.y + py / this.zoom];
    this.zoom = Math.min(80, Math.max(0.02, this.zoom * factor)); this.x = x - px / this.zoom; this.y = y - py / this.zoom; this.draw();
  }
  listen() {
    const c = this.canvas, scale = () => devicePixelRatio || 1; let drag = null;
    c.addEventListener("pointerdown", (e) => { this.cursor = false; drag = [e.clientX, e.clientY]; c.setPointerCapture(e.pointerId); });
    c.addEventListener("pointerup", () => { drag = null; });
    c.addEventListener("pointermove", (e) => {
      if (drag) { this.x -= (e.clientX - drag[0]) * scale() / this.zoom; this.y -= (e.clientY - drag[1]) * scale() / this.zoom; drag = [e.clientX, e.clientY]; this.draw(); }
      const b = c.getBoundingClientRect(); this.tell((e.clientX - b.left) * scale(), (e.clientY - b.top) * scale());
    });
    c.addEventListener("wheel", (e) => { if (!e.ctrlKey && document.activeElement !== c) return; e.preventDefault(); const b = c.getBoundingClientRect(); this.zoomBy(e.deltaY < 0 ? 1.3 : 1 / 1.3, (e.clientX - b.left) * scale(), (e.clientY - b.top) * scale()); }, { passive: false });
    const middle = () => [c.width / 2, c.height / 2], step = () => Math.max(1, Math.round(c.width / 24 / this.zoom));
    const keys = { "+": () => this.zoomBy(1.5, ...middle()), "=": () => this.zoomBy(1.5, ...middle()), "-": () => this.zoomBy(1 / 1.5, ...middle()), "0": () => this.fit(),
      ArrowLeft: () => { this.x -= step(); this.draw(); }, ArrowRight: () => { this.x += step(); this.draw(); }, ArrowUp: () => { this.y -= step(); this.draw(); }, ArrowDown: () => { this.y += step(); this.draw(); } };
    c.addEventListener("keydown", (e) => { if (keys[e.key]) { e.preventDefault(); this.cursor = e.key !== "0"; keys[e.key](); this.tell(...middle()); } });
    this.root.querySelectorAll("button").forEach((b) => b.addEventListener("click", () => { keys[b.dataset.key](); this.tell(...middle()); }));
    new ResizeObserver(() => { const z = this.zoom; this.size(); this.zoom = z; this.draw(); }).observe(c);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.paint(); this.draw(); });
  }
}

document.querySelectorAll("[data-owners]").forEach((root) => {
  const mosaic = new Mosaic(root), box = root.closest("details");
  const load = () => mosaic.load().catch(() => { mosaic.out.textContent = "this browser cannot draw the mosaic; the figures above describe it"; });
  if (!box || box.open) load(); else box.addEventListener("toggle", load, { once: true });
});
