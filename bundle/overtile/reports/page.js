for (const image of document.querySelectorAll("figure img"))
  image.addEventListener("click", () => image.parentNode.classList.toggle("whole"));
for (const table of document.querySelectorAll("table.sortable"))
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
      const value = row => { const text = row.cells[column].textContent; const figure = parseFloat(text.replaceAll(",", "")); return isNaN(figure) || !column ? text : figure; };
      const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, {numeric: true});
      [...body.rows].sort((a, b) => (rising ? 1 : -1) * order(value(a), value(b))).forEach(row => body.append(row));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    });
  }
