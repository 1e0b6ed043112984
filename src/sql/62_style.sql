-- 62_style.sql: what all pages have in common: the style sheet, the script, and the frame of a page.

-- Colours are text colours: each has at least 4.5 : 1 on the ground and on the panels, in the light and in the dark scheme
-- (test/report computes it of every text on the pages).
CREATE FUNCTION fleet_catalog.page_style() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN $css$
:root{color-scheme:light dark;--bg:#fbfbf9;--panel:#f2f2ee;--ink:#1c2024;--dim:#555d66;--line:#d9dad4;--ok:#1d6a3d;--no:#b3201a;--ca:#75480a;--sk:#5a626b;--un:#7a2a9a;--re:#8a4207;--ru:#0a579f;--qu:#5a626b;--fok:#4c9a6a;--fno:#d2453c;--fca:#b98a3e;--fsk:#a9afb6;--fun:#a766c4;--fre:#d98a4a;--fru:#3f8fd6;--fqu:#c3c8cd;--mark:#fff3c4}
@media (prefers-color-scheme:dark){:root{--bg:#15181b;--panel:#1e2226;--ink:#e6e8ea;--dim:#a3acb5;--line:#343a40;--ok:#6fcb92;--no:#ff8d84;--ca:#e0b061;--sk:#a3acb5;--un:#d59af0;--re:#f0a868;--ru:#7dbcf5;--qu:#a3acb5;--fok:#3f8a5c;--fno:#e0554c;--fca:#a67c38;--fsk:#6b737b;--fun:#a06abd;--fre:#c77d42;--fru:#3a82c4;--fqu:#4a5158;--mark:#4a3f14}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:105rem;padding:1.25rem 1.5rem 3rem;background:var(--bg);color:var(--ink);font:0.9375rem/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.2;margin:0 0 .25rem;font-weight:650;letter-spacing:-.01em}
h2{font-size:1.0625rem;margin:2rem 0 .6rem;font-weight:650;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:.9375rem;margin:0 0 .35rem;font-weight:650}
p{margin:.35rem 0;max-width:75ch}
bdi{unicode-bidi:isolate}
.dim,.sub td,caption,footer{color:var(--dim)}
.crumb{color:var(--dim);font-size:.8125rem;margin:0 0 .5rem}
.verdict{font-size:1.0625rem;margin:.15rem 0 1rem}
.st{white-space:nowrap;font-weight:600}
.ok{color:var(--ok)}.no{color:var(--no)}.ca{color:var(--ca)}.sk{color:var(--sk)}.un{color:var(--un)}.re{color:var(--re)}.ru{color:var(--ru)}.qu{color:var(--qu)}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.65rem 1.25rem;margin:.75rem 0}
dl.facts div{min-width:0}dt{color:var(--dim);font-size:.75rem}dd{margin:0;font-variant-numeric:tabular-nums}
code,pre,.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.8125rem}
pre{margin:.35rem 0;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;line-height:1.4}
.scroll{overflow-x:auto;max-width:100%;position:relative}
.scroll:focus-visible,summary:focus-visible,button:focus-visible,a:focus-visible{outline:2px solid var(--ru);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.84375rem}
th,td{text-align:start;vertical-align:top;padding:.28rem .7rem .28rem 0;border-bottom:1px solid var(--line)}
thead th{font-weight:600;color:var(--dim);font-size:.75rem;white-space:nowrap;border-bottom-color:var(--dim)}
thead th button{all:unset;cursor:pointer}thead th button:hover{text-decoration:underline}
thead th[aria-sort=ascending] button::after{content:" \25B4"}thead th[aria-sort=descending] button::after{content:" \25BE"}
tbody th{font-weight:500;min-width:9rem;max-width:22rem}
.n{font-variant-numeric:tabular-nums;white-space:nowrap;text-align:end}
td{overflow-wrap:break-word}td.m{overflow-wrap:anywhere;min-width:12rem;max-width:40rem}
caption{text-align:start;padding:0 0 .4rem;font-size:.8125rem}
.sub th{font-weight:400}
.l1 th{padding-inline-start:1.1rem}.l2 th{padding-inline-start:2.2rem}.l3 th{padding-inline-start:3.3rem}.l4 th{padding-inline-start:4.4rem}
.tag{display:inline-block;border:1px solid var(--line);border-radius:3px;padding:0 .3rem;font-size:.75rem;color:var(--dim);white-space:nowrap;font-weight:400}
.fail{border:1px solid var(--line);border-inline-start:4px solid var(--fno);background:var(--panel);padding:.7rem .9rem;margin:0 0 .75rem;border-radius:4px}
.fail pre.msg{font-size:.9375rem;font-weight:600;margin:.3rem 0 .5rem}
.fail dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem .8rem;margin:.3rem 0}.fail dl pre{margin:0}
.fail dt{font-size:.8125rem}
.log{border-top:1px solid var(--line);margin-top:.5rem;padding-top:.35rem}
.log b{font-weight:600}
.note{background:var(--panel);border-radius:4px;padding:.55rem .8rem;max-width:75ch}
.bar{display:flex;height:.75rem;border-radius:3px;overflow:hidden;background:var(--fqu);margin:.4rem 0;max-width:60rem}
.bar i{display:block;min-width:2px}
i.ok,.k.ok{background:var(--fok)}i.no,.k.no{background:var(--fno)}i.ca,.k.ca{background:var(--fca)}i.sk,.k.sk{background:var(--fsk)}i.un,.k.un{background:var(--fun)}i.re,.k.re{background:var(--fre)}i.ru,.k.ru{background:var(--fru)}i.qu,.k.qu{background:var(--fqu)}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1rem;font-size:.8125rem;color:var(--dim);margin:.4rem 0;padding:0;list-style:none}
.k{display:inline-block;width:.8rem;height:.65rem;border-radius:2px;margin-inline-end:.3rem}
.k.crit{background:none;border:2px solid var(--ink)}.k.exp{background:var(--ink);height:2px;border-radius:0;vertical-align:middle}.k.wait{height:2px;background:var(--dim);vertical-align:middle;border-radius:0}.k.old{background:repeating-linear-gradient(45deg,var(--fre) 0 2px,transparent 2px 4px)}
.gantt{display:grid;grid-template-columns:minmax(6rem,12rem) minmax(0,1fr);font-size:.8125rem;gap:0 .7rem}
.gantt .srv{grid-column:1;padding-top:.2rem;border-top:1px solid var(--line);overflow:hidden;text-overflow:ellipsis}
.gantt .lanes{grid-column:2;padding:.2rem 0;border-top:1px solid var(--line);background-image:none}
.gantt svg{display:block;width:100%;height:.95rem;margin:1px 0;overflow:hidden}
.gantt svg.lot{height:.5rem}
.gantt svg.wait{height:1.6rem}
.axis{position:relative;height:1.15rem;grid-column:2;color:var(--dim);font-size:.75rem}.axis span{position:absolute;white-space:nowrap;border-inline-start:1px solid var(--line);padding-inline-start:.2rem}
svg .ok{fill:var(--fok)}svg .no{fill:var(--fno)}svg .ca{fill:var(--fca)}svg .sk{fill:var(--fsk)}svg .un{fill:var(--fun)}svg .re{fill:var(--fre)}svg .ru{fill:var(--fru)}svg .qu{fill:var(--fqu)}
svg rect.old{fill-opacity:.45;stroke:var(--fre);stroke-width:1;vector-effect:non-scaling-stroke}
.gantt rect{stroke:var(--bg);stroke-width:1;vector-effect:non-scaling-stroke}.gantt .bg,.gantt .w,.gantt .x{stroke:none}svg .crit,.gantt .crit{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
svg .w{fill:var(--dim);fill-opacity:.55}svg .x{fill:var(--ink)}
.bg{fill:var(--panel)}
.graph svg{display:block}
.graph text{fill:var(--ink);font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
.graph text.d{font-size:11.5px}
.graph text.ok{fill:var(--ok)}.graph text.no{fill:var(--no)}.graph text.ca{fill:var(--ca)}.graph text.sk{fill:var(--sk)}.graph text.un{fill:var(--un)}.graph text.re{fill:var(--re)}.graph text.ru{fill:var(--ru)}.graph text.qu{fill:var(--qu)}
.graph .box{fill:var(--panel);stroke:var(--line)}.graph .box.crit{stroke:var(--ink);stroke-width:2}.graph .box.idle{stroke-dasharray:4 3}
.graph path{fill:none;stroke:var(--dim);stroke-width:1.2;opacity:.5}
.graph path.t{stroke-width:2;opacity:1}.graph path.failure{stroke-dasharray:7 4}.graph path.completion{stroke-dasharray:2 3}
.graph path.t.success{stroke:var(--fok)}.graph path.t.failure{stroke:var(--fno)}.graph path.t.completion{stroke:var(--fru)}
.graph .hot path{opacity:.15}.graph .hot path.on{opacity:1;stroke-width:2.5}
.graph marker path{fill:var(--dim);stroke:none;opacity:1}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--dim);font-size:.84375rem}details[open]>summary{margin-bottom:.4rem}
.grid td{padding:.2rem .35rem;text-align:center;border:0}.grid th{border:0}.grid tr{border-bottom:1px solid var(--line)}
.grid td{min-width:1.9rem}.grid td.n{text-align:end;padding-inline-end:.9rem}.grid .st{font-size:.8125rem}
.meter{display:inline-block;width:5rem;height:.55rem;border-radius:2px;background:var(--fqu);overflow:hidden;vertical-align:middle;margin-inline-end:.4rem}.meter i{display:block;height:100%;background:var(--fru)}
.vh{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}.grid td{position:relative}
p.item{max-width:none;margin:0;padding:.35rem 0;border-bottom:1px solid var(--line)}
footer{margin-top:2.5rem;padding-top:.75rem;border-top:1px solid var(--line);font-size:.8125rem}
@media (max-width:40rem){body{padding:.9rem .9rem 2rem}h1{font-size:1.25rem}dl.facts{grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.5rem .9rem}.gantt{grid-template-columns:minmax(0,1fr)}.gantt .srv,.gantt .lanes,.axis{grid-column:1}.gantt .lanes{border-top:0}.fail{padding:.55rem .65rem}.fail dl{grid-template-columns:minmax(0,1fr)}.fail dd{margin-bottom:.25rem}}
@media print{:root{color-scheme:light}body{max-width:none;padding:0;font-size:9pt;background:#fff}.scroll{overflow:visible}section,.fail,tr{break-inside:avoid}section{break-inside:auto}h2{break-after:avoid}.bar,.gantt,.k,.meter{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
$css$::text;
COMMENT ON FUNCTION fleet_catalog.page_style() IS 'The style sheet of the pages';

-- Nothing of a page needs it: it sorts tables, and shows the edges of the task under the pointer.
CREATE FUNCTION fleet_catalog.page_script() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN $js$
"use strict";
document.querySelectorAll("table.sort").forEach(function (table) {
  var groups = Array.from(table.tBodies), rows = groups.length > 1 ? groups : Array.from(groups[0] ? groups[0].rows : []);
  function value(row, column) {
    var line = row.rows ? row.rows[0] : row, cell = line.cells[column];
    if (!cell) return "";
    return cell.dataset.v !== undefined ? parseFloat(cell.dataset.v) : cell.classList.contains("n") ? -1 : cell.textContent.trim().toLowerCase();
  }
  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.appendChild(button);
    button.addEventListener("click", function () {
      var old = head.getAttribute("aria-sort"), order = old === "descending" ? "ascending" : old === "ascending" ? null : "descending";
      Array.from(table.tHead.rows[0].cells).forEach(function (other) { other.removeAttribute("aria-sort"); });
      if (order) head.setAttribute("aria-sort", order);
      var sorted = rows.slice();
      if (order) sorted.sort(function (a, b) {
        var x = value(a, column), y = value(b, column), d = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return order === "ascending" ? d : -d;
      });
      sorted.forEach(function (row) { row.parentNode.appendChild(row); });
    });
  });
});
document.querySelectorAll(".graph [data-t]").forEach(function (node) {
  var all = node.ownerSVGElement, task = node.dataset.t;
  node.addEventListener("mouseenter", function () {
    all.classList.add("hot");
    all.querySelectorAll("path[data-e]").forEach(function (path) {
      path.classList.toggle("on", path.dataset.e.split(" ").indexOf(task) >= 0);
    });
  });
  node.addEventListener("mouseleave", function () { all.classList.remove("hot"); });
});
$js$::text;
COMMENT ON FUNCTION fleet_catalog.page_script() IS 'The script of the pages';

-- The policy lets nothing be fetched, and no other script run, whatever a page contains.
CREATE FUNCTION fleet_catalog.page_frame(a_title text, a_body text) RETURNS text
    LANGUAGE sql STABLE
    RETURN '<!DOCTYPE html>' || pg_catalog.chr(10) || '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        || '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; img-src data:; script-src &#39;sha256-'
        || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(fleet_catalog.page_script(), 'UTF8')), 'base64') || '&#39;">'
        || '<meta name="generator" content="pg_fleet"><link rel="icon" href="data:,"><title>' || a_title || '</title><style>' || fleet_catalog.page_style() || '</style></head><body>'
        || a_body || '<script>' || fleet_catalog.page_script() || '</script></body></html>' || pg_catalog.chr(10);
COMMENT ON FUNCTION fleet_catalog.page_frame(text, text) IS 'A page, from its title and body, which are HTML';

-- What scrolls by itself, so that the page does not.
CREATE FUNCTION fleet_catalog.scroll(a_label text, a_html text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '<div class="scroll" role="region" tabindex="0" aria-label="' || a_label || '">' || a_html || '</div>';
COMMENT ON FUNCTION fleet_catalog.scroll(text, text) IS 'A part of a page that scrolls to the side by itself';

CREATE FUNCTION fleet_catalog.page_footer(a_more text) RETURNS text
    LANGUAGE sql STABLE
    RETURN '<footer><p>Made by pg_fleet ' || coalesce((SELECT fleet_catalog.html(e.extversion, 100) FROM pg_catalog.pg_extension AS e WHERE e.extname = 'pg_fleet'), '')
        || ' in database <bdi>' || fleet_catalog.html(pg_catalog.current_database()::text, 200) || '</bdi> for <bdi>' || fleet_catalog.html(CURRENT_USER::text, 200) || '</bdi> on '
        || fleet_catalog.time_text(pg_catalog.now()) || ' ' || fleet_catalog.html(pg_catalog.current_setting('TimeZone'), 100)
        || ', which is the time zone of all times here. ' || a_more || '</p></footer>';
COMMENT ON FUNCTION fleet_catalog.page_footer(text) IS 'The last lines of a page';
