"""The style and the script of the HTML page of an evaluation, on top of the style of the finetuning report.

Knows no data. The filters work without the script, which only searches.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

STYLE = """
.single .jump { display: block; }
.single .chance { display: none; }
.filters { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 0 0 14px; }
.filters label {
  border: 1px solid var(--rule); border-radius: 20px; padding: 3px 14px; font-size: 14px; color: var(--soft); cursor: pointer;
}
.filters input[type=search] {
  flex: 1 1 180px; min-width: 0; font: inherit; font-size: 14px; padding: 4px 12px; border-radius: 20px; border: 1px solid var(--rule);
  background: var(--card); color: var(--ink);
}
.pick { position: absolute; opacity: 0; pointer-events: none; }
#all:checked ~ .filters [for=all], #failed:checked ~ .filters [for=failed], #low:checked ~ .filters [for=low],
#high:checked ~ .filters [for=high] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
#failed:focus-visible ~ .filters [for=failed], #low:focus-visible ~ .filters [for=low], #high:focus-visible ~ .filters [for=high],
#all:focus-visible ~ .filters [for=all] { outline: 2px solid var(--right); outline-offset: 2px; }
#failed:checked ~ .rows > :not(.failed), #low:checked ~ .rows > :not(.low), #high:checked ~ .rows > :not(.high),
.rows > .unfound { display: none; }
.rows { border-top: 1px solid var(--rule); }
.rows details { border-bottom: 1px solid var(--hair); }
.rows summary {
  display: grid; grid-template-columns: 44px minmax(0, 1fr) minmax(0, 26%) 84px; gap: 4px 18px; align-items: baseline; padding: 9px 0;
  color: var(--ink); font-size: 15px; list-style: none;
}
.rows summary::-webkit-details-marker { display: none; }
.rows summary > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.rows summary .place { color: var(--faint); font-size: 13px; text-align: right; }
.rows summary .answer { color: var(--soft); }
.rows summary .pill { justify-self: end; }
.rows details[open] { background: var(--card); }
.pill.some { background: var(--code); color: var(--ink); }
.detail { padding: 2px 18px 18px 62px; font-size: 15px; }
.detail dl { display: grid; grid-template-columns: minmax(70px, auto) 1fr; gap: 6px 18px; margin: 0 0 12px; }
.detail dt { color: var(--faint); font-size: 13px; padding-top: 2px; }
.detail dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.detail .out dd { color: var(--right); }
.detail .error { color: var(--wrong); overflow-wrap: anywhere; white-space: pre-wrap; margin-bottom: 10px; }
.detail .cost { color: var(--faint); font-size: 13px; }
.histogram { display: flex; align-items: flex-end; gap: 3px; height: 160px; border-bottom: 1px solid var(--rule); }
.histogram i { flex: 1; background: var(--right); border-radius: 3px 3px 0 0; min-height: 0; }
.histogram-axis { display: flex; justify-content: space-between; font-size: 12px; color: var(--faint); margin-top: 6px; }
@media screen and (max-width: 820px) {
  .rows summary { grid-template-columns: 32px minmax(0, 1fr) 74px; }
  .rows summary .answer { grid-column: 2; grid-row: 2; }
  .detail { padding-left: 18px; }
}
@media print { .filters { display: none; } }
"""

SCRIPT = """
const search = document.querySelector("input[type=search]");
search.hidden = false;
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
  for (const row of document.querySelectorAll(".rows > details")) {
    const text = row.textContent.toLowerCase();
    row.classList.toggle("unfound", !words.every((word) => text.includes(word)));
  }
});
"""

SCRIPT_HASH = f"sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}"
"""What the page's policy lets run, and nothing else."""
