"use strict";
// Tells what is under the pointer. Every text comes from the page's own numbers and is set as text, never as HTML.
(function () {
  function nearest(points, share) {
    let best = null;
    for (const point of points) {
      if (best === null || Math.abs(point[0] - share) < Math.abs(best[0] - share)) best = point;
    }
    return best;
  }
  function held(points, share) { // the value that a step has kept since its last point
    let last = null;
    for (const point of points) {
      if (point[0] > share) break;
      last = point;
    }
    return last;
  }
  function line(tip, text, tone) {
    const row = document.createElement("div");
    if (tone) {
      const key = document.createElement("i");
      key.className = tone;
      row.append(key);
    }
    row.append(text);
    tip.append(row);
    return row;
  }
  function overTime(tip, numbers, share, tolerance) {
    line(tip, nearest(numbers.times, share)[1]);
    for (const curve of numbers.curves) {
      const point = curve.held ? held(curve.points, share) : nearest(curve.points, share);
      if (point) line(tip, curve.label + " " + point[1], curve.tone);
    }
    const mark = nearest(numbers.marks, share);
    if (mark && Math.abs(mark[0] - share) < tolerance) line(tip, mark[1]).className = "why";
    return true;
  }
  function overBars(tip, numbers, share) {
    const bar = numbers.bars.find((one) => one[0] <= share && share < one[1]);
    if (bar) line(tip, bar[2] + ": " + bar[3] + " jobs");
    return Boolean(bar);
  }
  for (const figure of document.querySelectorAll("figure.chart")) {
    const plot = figure.querySelector(".plot"), source = figure.querySelector("script");
    if (!plot || !source) continue;
    const numbers = JSON.parse(source.textContent);
    const tip = document.createElement("div"), cursor = document.createElement("div");
    tip.className = "tip";
    cursor.className = "cursor";
    tip.hidden = cursor.hidden = true;
    plot.append(cursor, tip);
    const leave = () => { tip.hidden = cursor.hidden = true; };
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      tip.replaceChildren();
      const shown = numbers.curves ? overTime(tip, numbers, share, 8 / box.width) : overBars(tip, numbers, share);
      if (!shown) return leave();
      tip.hidden = cursor.hidden = false;
      cursor.style.left = share * 100 + "%";
      const right = share > 0.5;
      tip.style.left = right ? "auto" : "calc(" + share * 100 + "% + 12px)";
      tip.style.right = right ? "calc(" + (1 - share) * 100 + "% + 12px)" : "auto";
    });
    plot.addEventListener("pointerleave", leave);
  }
})();
