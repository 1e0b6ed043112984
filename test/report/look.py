#!/usr/bin/python3
"""Opens pages in headless Chromium and says what is wrong with them: one line a complaint, and at the end how many looks were taken.

usage: look.py FOLDER            every *.html of it, at three widths, light and dark, with and without scripts
       look.py --picture FILE OUT.png WIDTH HEIGHT

The browser is driven by chromedriver through python3-selenium.  Both are Debian's own packages, and the driver is built from
the browser's source, so that they are of one version; nothing is downloaded.
"""
import base64
import json
import os
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

WIDTHS = (360, 1280, 1920)
CONTRAST = 4.5  # WCAG 2.1, success criterion 1.4.3

# What is wrong with the page that is open: computed in it.
LOOK = r"""
(function () {
  var wrong = [], root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    var wide = Array.from(document.querySelectorAll("body *")).filter(function (e) {
      return !e.closest(".scroll") && e.getBoundingClientRect().right > root.clientWidth + 1;
    })[0];
    wrong.push("it is " + root.scrollWidth + " pixels wide instead of " + root.clientWidth + ": " + (wide ? wide.outerHTML.slice(0, 100) : "?"));
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("it has " + document.querySelectorAll("h1").length + " h1");
  if (!root.lang) wrong.push("it has no language");
  if (!document.title) wrong.push("it has no title");
  if (document.querySelectorAll("main").length !== 1) wrong.push("it has not one main part");
  var level = 1;
  document.querySelectorAll("h1,h2,h3,h4").forEach(function (h) {
    var l = +h.tagName[1];
    if (l > level + 1) wrong.push("a heading leaves out a level: " + h.textContent.slice(0, 60));
    level = l;
    if (!h.textContent.trim()) wrong.push("an empty heading");
  });
  document.querySelectorAll("th").forEach(function (th) { if (!th.scope) wrong.push("a table header without scope: " + th.textContent.slice(0, 60)); });
  document.querySelectorAll("table").forEach(function (t) { if (!t.tHead) wrong.push("a table without headers"); });
  document.querySelectorAll("svg[role=img]").forEach(function (s) { if (!s.getAttribute("aria-label")) wrong.push("a drawing without a name"); });
  document.querySelectorAll(".scroll").forEach(function (s) { if (!s.getAttribute("aria-label") || s.tabIndex !== 0) wrong.push("a part that scrolls cannot be reached by keyboard"); });
  document.querySelectorAll(".st").forEach(function (s) { if (!/[a-z]{4}/.test(s.textContent) && !/^\d+$/.test(s.textContent)) wrong.push("a colour without a word: " + s.outerHTML.slice(0, 100)); });
  var foreign = document.querySelectorAll("img,iframe,object,embed,form,input,base,audio,video,link:not([rel=icon]),a[href],script[src],style ~ style");
  if (foreign.length) wrong.push("it has an element that it should not have: " + foreign[0].outerHTML.slice(0, 100));
  if (document.scripts.length !== 1) wrong.push("it has " + document.scripts.length + " scripts");
  document.querySelectorAll("*").forEach(function (e) {
    Array.from(e.attributes).forEach(function (a) {
      if (/^on/i.test(a.name)) wrong.push("it has an event handler: " + a.name);
      if (/^(src|href|xlink:href|action|data)$/i.test(a.name) && a.value !== "data:,") wrong.push("it has a reference: " + a.value.slice(0, 60));
    });
  });
  var ids = {};
  document.querySelectorAll("[id]").forEach(function (e) { if (ids[e.id]) wrong.push("the id " + e.id + " is there twice"); ids[e.id] = true; });

  function rgb(text) {
    var m = /rgba?\(([^)]*)\)/.exec(text);
    if (!m) return null;
    var p = m[1].split(/[ ,\/]+/).map(Number);
    return { r: p[0], g: p[1], b: p[2], a: p.length > 3 ? p[3] : 1 };
  }
  function over(top, below) {
    return { r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1 };
  }
  function luminance(c) {
    return [c.r, c.g, c.b].map(function (v) { v /= 255; return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); })
      .reduce(function (sum, v, i) { return sum + v * [0.2126, 0.7152, 0.0722][i]; }, 0);
  }
  function ground(e) {
    var colours = [], box = e.closest("g");
    if (e instanceof SVGTextElement && box && box.querySelector(".box")) colours.push(rgb(getComputedStyle(box.querySelector(".box")).fill));
    for (; e; e = e.parentElement) { var c = rgb(getComputedStyle(e).backgroundColor); if (c && c.a > 0) colours.push(c); }
    return colours.reduceRight(function (below, c) { return over(c, below); }, matchMedia("(prefers-color-scheme: dark)").matches ? { r: 18, g: 18, b: 18, a: 1 } : { r: 255, g: 255, b: 255, a: 1 });
  }
  var texts = 0, least = 99, walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), bad = {};
  while (walker.nextNode()) {
    var e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || /^(SCRIPT|STYLE|TITLE|title)$/.test(e.tagName)) continue;
    var style = getComputedStyle(e), below = ground(e), ink = rgb(e instanceof SVGElement ? style.fill : style.color);
    if (!ink || style.display === "none") continue;
    var a = luminance(over(ink, below)), b = luminance(below), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts++;
    if (ratio < least) least = ratio;
    if (ratio < CONTRAST) bad[style.color + " " + e.className] = ratio.toFixed(2) + ": " + walker.currentNode.data.trim().slice(0, 60);
  }
  Object.keys(bad).forEach(function (k) { wrong.push("contrast " + bad[k] + " (" + k + ")"); });
  return { wrong: wrong, texts: texts, least: least, buttons: document.querySelectorAll("button").length, tables: document.querySelectorAll("table.sort").length };
})()
"""


def browser():
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    profile = tempfile.mkdtemp(prefix="look.")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--disable-extensions",
                     "--disable-background-networking", "--disable-component-update", "--no-first-run", "--user-data-dir=" + profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def cdp(driver, command, **arguments):
    return driver.execute_cdp_cmd(command, arguments)


def evaluate(driver, expression):
    answer = cdp(driver, "Runtime.evaluate", expression=expression, returnByValue=True)
    if "exceptionDetails" in answer:
        raise RuntimeError(json.dumps(answer["exceptionDetails"])[:1000])
    return answer["result"].get("value")


def screen(driver, width, height, dark):
    cdp(driver, "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    cdp(driver, "Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])


def requests(driver, url):
    """What was asked for besides the page itself, and the icon that keeps the browser from asking for one."""
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked = message["params"]["request"]["url"]
            if asked not in (url, "data:,") and not asked.startswith(("chrome:", "about:")):
                yield asked


def look_at(driver, path, width, dark, scripts):
    url = "file://" + path
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get_log("performance")
    screen(driver, width, 900, dark)
    cdp(driver, "Emulation.setScriptExecutionDisabled", value=not scripts)
    cdp(driver, "Page.navigate", url=url)
    while evaluate(driver, "location.href + ' ' + document.readyState") != url + " complete":
        pass
    found = evaluate(driver, LOOK.replace("CONTRAST", str(CONTRAST)))
    wrong = list(found["wrong"])
    if found["texts"] < 5:
        wrong.append("it says nothing")
    # it can sort with scripts, and shows the same without them
    if scripts and found["tables"] > 0 and found["buttons"] == 0:
        wrong.append("its script did not run")
    if not scripts and found["buttons"] > 0:
        wrong.append("its script ran")
    if scripts and found["buttons"] > 0:
        evaluate(driver, "document.querySelectorAll('thead th button').forEach(function (b) { b.click(); b.click(); b.click(); })")
        evaluate(driver, "document.querySelectorAll('.graph [data-t]').forEach(function (g) { g.dispatchEvent(new Event('mouseenter')); g.dispatchEvent(new Event('mouseleave')); })")
    wrong += ["console: " + entry["message"] for entry in driver.get_log("browser")]
    wrong += ["it asks for " + asked for asked in requests(driver, url)]
    cdp(driver, "Emulation.setScriptExecutionDisabled", value=False)
    return wrong, found["least"]


def look(folder):
    driver = browser()
    looks, least = 0, 99
    try:
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".html"):
                continue
            for width in WIDTHS:
                for dark, scripts in ((False, True), (True, True), (False, False)):
                    wrong, contrast = look_at(driver, os.path.join(folder, name), width, dark, scripts)
                    looks += 1
                    least = min(least, contrast)
                    for what in wrong:
                        print(f"{name}, {width} pixels, {'dark' if dark else 'light'}{'' if scripts else ', without scripts'}: {what}")
    finally:
        driver.quit()
    print(f"{looks} looks, the least contrast is {least:.2f}")


def picture(path, out, width, height, dark):
    driver = browser()
    try:
        screen(driver, width, height, dark)
        driver.get("file://" + os.path.abspath(path))
        with open(out, "wb") as file:
            file.write(base64.b64decode(cdp(driver, "Page.captureScreenshot", format="png")["data"]))
    finally:
        driver.quit()


if __name__ == "__main__":
    if sys.argv[1] == "--picture":
        picture(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), len(sys.argv) > 6)
    else:
        look(sys.argv[1])
