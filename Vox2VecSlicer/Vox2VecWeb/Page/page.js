/* What the page does by itself: tabs, keys, uploads, drag and drop, and waiting for a server that has gone. */
(function () {
  "use strict";
  const KEEP = "vox2vec-tab";
  const tab = sessionStorage.getItem(KEEP) || Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");
  sessionStorage.setItem(KEEP, tab);

  const trame = () => window.trame;
  const get = (name) => trame().state.get(name);
  const set = (name, value) => trame().state.set(name, value);
  const call = (name, ...args) => trame().trigger(name, args);
  const mine = () => get("owner") === tab;
  let pointed = "Red";

  addEventListener("pagehide", () => navigator.sendBeacon(`leave/${tab}`));
  addEventListener("mousemove", (event) => {
    const cell = event.target.closest && event.target.closest("[data-view]");
    if (cell) pointed = cell.dataset.view;
  }, true);

  // Keys. Nothing reaches VTK's own shortcuts, which are made for debugging.
  const LAYOUTS = ["four", "rows"];
  const whole = (name) => (get("layout") === name ? (get("followUp") ? "rows" : "four") : name);
  const keys = {
    h: () => set("hover", !get("hover")),
    o: () => set("view", get("view") === "none" ? "similarity" : "none"),
    x: () => set("crosshair", !get("crosshair")),
    f: () => call("fit"),
    e: () => call("setTool", "explore"),
    b: () => call("setTool", "paint"),
    d: () => call("setTool", "erase"),
    "[": () => set("brush", Math.max(1, get("brush") - 1)),
    "]": () => set("brush", Math.min(50, get("brush") + 1)),
    l: () => call("setLayout", get("layout") === "four" ? LAYOUTS[1] : LAYOUTS[0]),
    " ": () => call("setLayout", whole(pointed)),
    n: () => call("whereNext"),
    s: () => { if (get("preview") || get("results").length) set("surface", !get("surface")); },
    u: () => { if (get("preview")) set("view", get("view") !== "uncertainty" ? "uncertainty" : get("tool") === "explore" ? "similarity" : "none"); },
    "?": () => set("help", !get("help")),
    Backspace: () => { const last = get("points").at(-1); if (last) call("removePoint", last.positive, last.index); },
    Escape: () => { if (get("help")) set("help", false); else if (get("progress")) call("cancel"); else call("dismiss"); },
    ArrowUp: () => call("scroll", pointed, 1),
    ArrowDown: () => call("scroll", pointed, -1),
    PageUp: () => call("scroll", pointed, 5),
    PageDown: () => call("scroll", pointed, -5),
  };
  addEventListener("keydown", (event) => {
    const field = event.target.closest && event.target.closest("input, select, textarea, button");
    if (field && field.matches("textarea, select, input[type=text]")) return;
    if (field && (event.key === " " || event.key === "Enter")) return;  // what presses a button presses it
    if (field && field.type === "range" && event.key.length > 1) return;  // what moves a slider moves it
    event.stopImmediatePropagation();
    if (!trame() || !mine()) return;
    const command = event.ctrlKey || event.metaKey;
    let action = command ? null : keys[event.key] || keys[event.key.toLowerCase()];
    if (command && event.key.toLowerCase() === "z") action = () => call(event.shiftKey ? "redo" : "undo");
    if (command && event.key.toLowerCase() === "y") action = () => call("redo");
    const preset = !command && /^[1-9]$/.test(event.key) && get("windows")[Number(event.key) - 1];
    if (preset) action = () => call("setWindow", preset.name);
    if (action) { event.preventDefault(); action(); }
  }, true);

  // Uploads go over HTTP and are streamed to disk there.
  function upload(files, purpose) {
    const list = Array.from(files);
    if (!list.length) return;
    const form = new FormData();
    for (const file of list) form.append("file", file, file.webkitRelativePath ? file.webkitRelativePath.replaceAll("/", "_") : file.name);
    const request = new XMLHttpRequest();
    request.open("POST", `upload/${purpose}`);
    request.upload.onprogress = (event) => set("uploading", event.lengthComputable ? Math.round((100 * event.loaded) / event.total) : 0);
    request.onloadend = () => {
      set("uploading", null);
      if (request.status !== 200) set("message", { text: request.responseText || "The upload failed.", kind: "error", number: Date.now() });
    };
    set("uploading", 0);
    request.send(form);
  }
  async function filesIn(transfer) {
    const found = [];
    async function walk(entry) {
      if (entry.isFile) found.push(await new Promise((done, failed) => entry.file(done, failed)));
      else {
        const reader = entry.createReader();
        for (;;) {
          const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
          if (!entries.length) break;
          for (const each of entries) await walk(each);
        }
      }
    }
    const entries = Array.from(transfer.items || [], (item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.length) return Array.from(transfer.files);
    for (const entry of entries) await walk(entry);
    return found;
  }
  const drop = document.createElement("div");
  drop.id = "drop";
  drop.innerHTML = '<div data-purpose="scan">Open as CT</div><div data-purpose="followUp">Open as follow-up</div>';
  const gone = document.createElement("div");
  gone.id = "gone";
  gone.textContent = "The viewer has stopped. Start “vox2vec view” again; this page comes back by itself.";
  addEventListener("DOMContentLoaded", () => document.body.append(drop, gone));
  if (document.body) document.body.append(drop, gone);
  addEventListener("dragover", (event) => { event.preventDefault(); if (mine()) drop.classList.add("shown"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("shown"); });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("shown");
    const zone = event.target.closest && event.target.closest("[data-purpose]");
    if (mine()) upload(await filesIn(event.dataTransfer), zone ? zone.dataset.purpose : "scan");
  });

  // The server has gone: say so, and come back with it.
  let lost = false;
  setInterval(async () => {
    try {
      const answer = await fetch("alive", { cache: "no-store" });
      if (lost && answer.ok) location.reload();
    } catch (_error) {
      lost = true;
      gone.classList.add("shown");
    }
  }, 1500);

  // trame keeps a change to itself while another message is under way, and sends it with the next change: send it now.
  setInterval(() => { if (!lost && trame() && mine()) trame().state.flush(); }, 100);

  let offered = null;
  window.vox2vec = {
    tab, upload,
    // While strokes are painted, two quick dabs are two dabs.
    enlarge(name) { if (get("tool") === "explore") call("enlarge", name, whole(name)); },
    arrive() { call("arrive", tab); },
    save(download) {
      if (!download || download.url === offered) return;
      offered = download.url;
      const link = document.createElement("a");
      link.href = download.url;
      link.download = download.name;
      link.click();
    },
    install(app) {
      app.directive("arrive", { mounted: () => window.vox2vec.arrive() });
      app.directive("save", { updated: (_el, binding) => window.vox2vec.save(binding.value) });
    },
  };
})();
