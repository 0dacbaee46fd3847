"""The style sheet of the HTML report.

Knows no data: light and dark screens, paper, and the width of a phone.
"""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark; --paper: #faf9f6; --card: #ffffff; --ink: #1c1b19; --soft: #5f5b55; --faint: #8b867e;
  --rule: #e4e0d8; --hair: #efece6; --right: #1f64ad; --right-soft: #e3edf8; --wrong: #c2570c; --wrong-soft: #fbeadd;
  --before: #8b867e; --on-fill: #ffffff; --code: #f3f1ec;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #151514; --card: #1d1d1b; --ink: #ecebe7; --soft: #aeaaa2; --faint: #858179; --rule: #383632;
    --hair: #292826; --right: #6cacf0; --right-soft: #1b2c3f; --wrong: #ee9350; --wrong-soft: #3a2718;
    --before: #8f8a82; --on-fill: #10100f; --code: #232220;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
main { max-width: 1060px; margin: 0 auto; padding: 56px 32px 72px; }
h1 {
  font-size: 34px; line-height: 1.15; letter-spacing: -0.022em; font-weight: 680; margin: 0 0 8px; text-wrap: balance;
}
h2 { font-size: 21px; line-height: 1.25; letter-spacing: -0.012em; font-weight: 650; margin: 0 0 4px; }
h3 { font-size: 15px; font-weight: 650; margin: 0 0 10px; }
p { margin: 0; }
section { margin-top: 60px; break-inside: avoid-page; }
section.long { break-inside: auto; }
.lead { color: var(--soft); max-width: 76ch; margin-bottom: 20px; text-wrap: pretty; }
.eyebrow { font-size: 13px; color: var(--faint); letter-spacing: 0.02em; margin-bottom: 14px; }
.eyebrow b { color: var(--wrong); font-weight: 650; }
.subtitle { font-size: 18px; color: var(--soft); max-width: 62ch; text-wrap: pretty; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 20px 0 0; font-size: 14px; color: var(--soft); }
.facts span { overflow-wrap: anywhere; }
.facts b { font-weight: 500; color: var(--faint); margin-right: 6px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 28px 32px; }
.headline { display: grid; grid-template-columns: auto 1fr; gap: 18px 56px; align-items: center; margin-top: 36px; }
.jump {
  display: flex; align-items: baseline; gap: 16px; font-weight: 680; letter-spacing: -0.03em; line-height: 1;
  white-space: nowrap;
}
.jump .old { font-size: 34px; color: var(--before); }
.jump .arrow { font-size: 28px; font-weight: 400; color: var(--faint); }
.jump .new { font-size: 72px; color: var(--right); }
.jump small { font-size: 0.5em; letter-spacing: 0; margin-left: 0.06em; font-weight: 600; }
.jump.worse .new { color: var(--wrong); }
.jump-name { font-size: 14px; color: var(--soft); margin-bottom: 14px; }
.jump-note { font-size: 14px; color: var(--soft); margin-top: 14px; text-wrap: balance; }
.score { display: grid; grid-template-columns: minmax(64px, auto) 1fr 58px; gap: 14px; align-items: center; }
.scores { display: grid; gap: 2px; }
.score .name { width: 108px; font-size: 14px; overflow-wrap: anywhere; line-height: 1.25; }
.score .value { text-align: right; font-weight: 600; font-size: 15px; }
.track { position: relative; height: 34px; display: block; }
.track::before { content: ""; position: absolute; left: 0; right: 0; top: 50%; border-top: 1px solid var(--rule); }
.track i { position: absolute; top: 50%; }
.range { height: 10px; margin-top: -5px; border-radius: 5px; background: var(--before); opacity: 0.38; }
.track .dot {
  width: 14px; height: 14px; margin: -7px 0 0 -7px; border-radius: 50%; background: var(--before);
  border: 2px solid var(--card);
}
.after .range, .after .dot { background: var(--right); }
.track .chance { height: 34px; margin-top: -17px; border-left: 1px dashed var(--faint); }
.axis .track { height: 20px; font-size: 12px; color: var(--faint); }
.axis .track::before { display: none; }
.axis span span { position: absolute; transform: translateX(-50%); }
.score.axis > span:first-child { width: 108px; }
.stats {
  grid-column: 1 / -1; display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 18px 28px;
  border-top: 1px solid var(--rule); padding-top: 20px; margin: 6px 0 0;
}
.stats dt { font-size: 13px; color: var(--soft); }
.stats dd { margin: 2px 0 0; font-size: 19px; font-weight: 620; letter-spacing: -0.01em; }
.stats dd small { display: block; font-size: 13px; font-weight: 400; color: var(--soft); letter-spacing: 0; }
.verdict {
  display: flex; gap: 14px; align-items: baseline; margin-top: 16px; padding: 14px 20px; border-radius: 10px;
  background: var(--right-soft);
}
.verdict b { color: var(--right); white-space: nowrap; }
.verdict.kept { background: var(--wrong-soft); }
.verdict.kept b { color: var(--wrong); }
.keys { display: flex; gap: 4px 24px; font-size: 14px; color: var(--soft); margin-bottom: 14px; flex-wrap: wrap; }
.keys b { color: var(--ink); font-weight: 600; }
.key::before {
  content: ""; display: inline-block; width: 18px; border-top: 2.5px solid var(--before); margin-right: 8px;
  vertical-align: middle;
}
.key.validation::before { border-color: var(--right); }
.plot { position: relative; height: 250px; margin: 10px 8px 30px 40px; }
.plot svg { position: absolute; width: 100%; height: 100%; overflow: visible; }
.plot .grid { stroke: var(--hair); stroke-width: 1; }
.plot polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.plot line, .plot polyline { vector-effect: non-scaling-stroke; }
polyline.train { stroke: var(--before); }
polyline.validation { stroke: var(--right); }
.plot i { position: absolute; width: 10px; height: 10px; margin: 0 0 -5px -5px; border-radius: 50%; }
.plot i.train:hover { background: var(--before); }
.plot i.validation { background: var(--right); border: 2px solid var(--card); width: 11px; height: 11px; }
.plot span { position: absolute; font-size: 12px; color: var(--faint); }
.plot .y { right: 100%; margin-right: 10px; transform: translateY(50%); }
.plot .x { top: 100%; margin-top: 8px; transform: translateX(-50%); }
.axis-name { text-align: center; font-size: 12px; color: var(--faint); }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 32px; }
.pair.wide { grid-template-columns: minmax(0, 1fr); }
.pair h3 span { font-weight: 400; color: var(--soft); }
.scroll { overflow-x: auto; }
svg.matrix { display: block; height: auto; font-family: inherit; }
.matrix text { dominant-baseline: central; fill: var(--soft); }
.matrix .lattice { stroke: var(--hair); stroke-width: 1; fill: none; }
.matrix .right { fill: var(--right); }
.matrix .wrong { fill: var(--wrong); }
.matrix .count { font-size: 12px; text-anchor: middle; pointer-events: none; }
.matrix .count.strong { fill: var(--on-fill); font-weight: 600; }
.matrix .count.weak { fill: var(--ink); }
.matrix .share { font-size: 12px; fill: var(--ink); }
.swatch {
  display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 2px; background: var(--right);
}
.swatch.wrong { background: var(--wrong); }
.changes { list-style: none; margin: 0 0 8px; padding: 0; border-top: 1px solid var(--rule); }
.changes li {
  display: grid; grid-template-columns: 1fr auto; gap: 4px 28px; padding: 10px 0; border-bottom: 1px solid var(--hair);
  align-items: baseline;
}
.changes .text { overflow-wrap: anywhere; }
.move { white-space: nowrap; font-size: 14px; color: var(--faint); }
.pill {
  display: inline-block; padding: 1px 9px; border-radius: 20px; background: var(--wrong-soft); color: var(--wrong);
  max-width: 220px; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom;
}
.pill.ok { background: var(--right-soft); color: var(--right); font-weight: 600; }
.changes-head { margin-top: 26px; }
.changes-head span { font-weight: 400; color: var(--soft); }
details summary { cursor: pointer; color: var(--soft); font-size: 14px; padding: 8px 0; }
.none { color: var(--soft); }
table { width: 100%; border-collapse: collapse; font-size: 15px; }
th { text-align: left; font-weight: 500; font-size: 13px; color: var(--soft); }
th, td { padding: 9px 20px 9px 0; border-bottom: 1px solid var(--hair); vertical-align: baseline; }
thead th { border-bottom-color: var(--rule); padding-top: 0; }
th.n, td.n { text-align: right; white-space: nowrap; }
tfoot td { font-weight: 600; border-bottom: 0; border-top: 1px solid var(--rule); }
td.detail { color: var(--soft); font-size: 14px; padding-right: 0; overflow-wrap: anywhere; }
td.spark { width: 22%; }
.spark i { display: block; height: 8px; min-width: 2px; border-radius: 4px; background: var(--before); opacity: 0.6; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 16px; }
.sample {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px; font-size: 15px;
  break-inside: avoid;
}
.sample dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: 4px 14px; }
.sample dt { color: var(--faint); font-size: 13px; padding-top: 1px; }
.sample dd { margin: 0; overflow-wrap: anywhere; }
.sample dl + dl { border-top: 1px solid var(--hair); margin-top: 10px; padding-top: 10px; }
.sample .out dd {
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: 14px;
  color: var(--right);
}
.props { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 48px; }
.props h3 { margin-top: 18px; }
.props dl { margin: 0; font-size: 14px; }
.props dl div {
  display: grid; grid-template-columns: minmax(110px, 38%) 1fr; gap: 14px; padding: 7px 0;
  border-bottom: 1px solid var(--hair);
}
.props dt { color: var(--soft); }
.props dd { margin: 0; overflow-wrap: anywhere; }
pre {
  margin: 0 0 14px; padding: 16px 18px; border-radius: 10px; background: var(--code); overflow-x: auto;
  font: 14px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
footer { margin-top: 64px; padding-top: 16px; border-top: 1px solid var(--rule); font-size: 13px; color: var(--faint); }
@media screen and (max-width: 820px) {
  main { padding: 32px 18px 48px; }
  section { margin-top: 44px; }
  h1 { font-size: 27px; }
  .subtitle { font-size: 16px; }
  .card { padding: 20px 18px; }
  .headline, .pair, .props { grid-template-columns: minmax(0, 1fr); }
  .jump .new { font-size: 56px; }
  .jump .old { font-size: 28px; }
  .jump { gap: 12px; }
  .score .name, .score.axis > span:first-child { width: 74px; }
  .score { gap: 10px; }
  .track .dot { width: 10px; height: 10px; margin: -5px 0 0 -5px; border-width: 1.5px; }
  .stats { grid-template-columns: 1fr 1fr; }
  .changes li { grid-template-columns: minmax(0, 1fr); }
  .move { white-space: normal; }
  .plot { height: 200px; margin-left: 32px; }
  .verdict { flex-direction: column; gap: 2px; }
  th, td { padding-right: 12px; }
  td.spark, th.spark { display: none; }
  .stages .detail { display: none; }
}
@media print {
  body { font-size: 11pt; background: #fff; }
  main { max-width: none; padding: 0; }
  section { margin-top: 26pt; }
  .card { padding: 18px 20px; }
  .headline { gap: 14px 36px; }
  .jump .new { font-size: 54px; }
  .jump .old { font-size: 26px; }
  .pair { gap: 16px; }
  .plot { height: 190px; }
  .samples { grid-template-columns: 1fr 1fr; }
  h2, h3 { break-after: avoid; }
  .changes li, tr, .pair > div { break-inside: avoid; }
  pre { white-space: pre-wrap; }
  .headline { grid-template-columns: auto 1fr; }
}
"""
