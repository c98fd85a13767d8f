// A table of scenes: columns sort, rows can be picked and switched on and off, all from the keyboard too.
function render({ model, el }) {
  el.classList.add("ftrack-table");
  const table = document.createElement("table");
  el.append(table);
  let sort = { column: 0, up: true };

  const send = (name, values) => { model.set(name, values); model.save_changes(); };
  const toggle = (name, id) => {
    const now = new Set(model.get(name));
    now.has(id) ? now.delete(id) : now.add(id);
    send(name, [...now]);
  };

  function headline(columns, rows) {
    const row = document.createElement("tr");
    const off = new Set(model.get("off"));
    const all = document.createElement("input");
    Object.assign(all, { type: "checkbox", checked: rows.every((r) => !off.has(r.id)), title: "use all, or none" });
    all.setAttribute("aria-label", "use all scenes");
    all.onchange = () => send("off", all.checked ? [] : rows.map((r) => r.id));
    const first = document.createElement("th");
    first.append(all, " use");
    row.append(first);
    columns.forEach((name, k) => {
      const cell = document.createElement("th");
      const button = document.createElement("button");
      const mark = sort.column === k ? (sort.up ? " ▲" : " ▼") : "";
      button.textContent = name + mark;
      button.title = "sort by " + name;
      button.onclick = () => { sort = { column: k, up: sort.column === k ? !sort.up : true }; draw("th button", k); };
      cell.setAttribute("aria-sort", mark ? (sort.up ? "ascending" : "descending") : "none");
      cell.append(button);
      row.append(cell);
    });
    return row;
  }

  function line(scene, off, picked) {
    const row = document.createElement("tr");
    row.dataset.id = scene.id;
    row.tabIndex = 0;
    row.title = scene.id;
    row.className = (off.has(scene.id) ? "off " : "") + (picked.has(scene.id) ? "picked" : "");
    row.setAttribute("aria-selected", picked.has(scene.id));
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: !off.has(scene.id) });
    box.setAttribute("aria-label", "use " + scene.id);
    box.onchange = () => toggle("off", scene.id);
    box.onclick = (event) => event.stopPropagation();
    const cell = document.createElement("td");
    cell.append(box);
    row.append(cell);
    for (const value of scene.cells) {
      const one = document.createElement("td");
      one.textContent = value === null ? "?" : value;
      if (typeof value === "number") one.className = "number";
      row.append(one);
    }
    row.onclick = () => send("picked", [scene.id]);
    row.onkeydown = (event) => {
      if (event.target !== row) return;
      if (event.key === "Enter") row.onclick();
      if (event.key === " ") { event.preventDefault(); toggle("off", scene.id); }
      if (event.key === "ArrowDown") { event.preventDefault(); row.nextSibling?.focus(); }
      if (event.key === "ArrowUp") { event.preventDefault(); row.previousSibling?.focus(); }
    };
    return row;
  }

  function draw(focus, number = 0) {
    const active = el.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.id : null;
    const [off, picked] = [new Set(model.get("off")), new Set(model.get("picked"))];
    const rows = [...model.get("rows")].sort((a, b) => {
      const [x, y] = [a.cells[sort.column], b.cells[sort.column]];
      return (x === y ? 0 : x === null || x < y ? -1 : 1) * (sort.up ? 1 : -1);
    });
    const head = document.createElement("thead");
    head.append(headline(model.get("columns"), rows));
    const body = document.createElement("tbody");
    body.append(...rows.map((scene) => line(scene, off, picked)));
    table.replaceChildren(head, body);
    if (focus) table.querySelectorAll(focus)[number]?.focus();
    else if (active) body.querySelector(`[data-id="${CSS.escape(active)}"]`)?.focus({ preventScroll: true });
  }
  const pick = () => {
    draw();
    const first = table.querySelector("tr.picked");
    if (first) el.scrollTop = Math.max(0, first.offsetTop - el.clientHeight / 2);
  };
  model.on("change:rows", () => draw());
  model.on("change:off", () => draw());
  model.on("change:picked", pick);
  draw();
}
export default { render };
