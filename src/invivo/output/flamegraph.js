// What a flame graph does in a browser. State: zoom (x, y) and search (s) stand in the address.
"use strict";
let boxes, details, unzoomButton, searchButton, caseButton, matched, inner, total;
let zoomed = null, term = "", ignoresCase = false, shown = "";

function init() {
    const id = name => document.getElementById(name);
    details = id("details").firstChild;
    unzoomButton = id("unzoom");
    searchButton = id("search");
    caseButton = id("ignorecase");
    matched = id("matched");
    const frames = id("frames");
    total = Number(frames.getAttribute("data-total"));
    inner = Number(document.documentElement.getAttribute("width")) - 2 * PAD;
    boxes = Array.from(frames.children, (g, index) => {
        const [title, rect, text] = g.children;
        const label = title.textContent;
        const box = {
            g, rect, text, label, index,
            name: label.replace(/ \([^()]*\)$/, ""),
            x: Number(rect.getAttribute("data-x")),
            w: Number(rect.getAttribute("data-w")),
            y: Number(rect.getAttribute("y")),
            fill: rect.getAttribute("fill"),
        };
        g.box = box;
        return box;
    });
    frames.addEventListener("click", event => { const box = boxOf(event); if (box) zoom(box); });
    frames.addEventListener("mouseover", event => { const box = boxOf(event); if (box) say("Function: " + box.label); });
    frames.addEventListener("mouseout", () => say(" "));
    unzoomButton.addEventListener("click", unzoom);
    searchButton.addEventListener("click", () => { if (term) search(""); else askSearch(); });
    caseButton.addEventListener("click", toggleCase);
    window.addEventListener("keydown", event => {
        const key = (event.key || "").toLowerCase();
        if (key === "f3" || event.ctrlKey && key === "f") { event.preventDefault(); askSearch(); }
        else if (event.ctrlKey && key === "i") { event.preventDefault(); toggleCase(); }
        else if (key === "escape") { search(""); }
    });
    window.addEventListener("popstate", restore);
    restore();
}

function boxOf(event) {
    const g = event.target.closest ? event.target.closest("#frames > g") : event.target.parentNode;
    return g && g.box;
}

function say(text) { details.nodeValue = text; }

// -- zoom

function zoom(box) {
    if (!box.w) return;
    draw(box);
    keep();
}

function unzoom() {
    draw(null);
    keep();
}

function draw(target) {
    zoomed = target && target.index ? target : null;
    const from = zoomed ? zoomed.x : 0, width = zoomed ? zoomed.w : total;
    const upwards = boxes.length > 1 && boxes[0].y > boxes[boxes.length - 1].y;
    const nearer = box => upwards ? box.y > zoomed.y : box.y < zoomed.y;
    const scale = width ? inner / width : 0;
    for (const box of boxes) {
        let x = box.x - from, w = box.w;
        let hidden = false, parent = false;
        if (zoomed) {
            if (nearer(box)) {
                // Those below are the stack that leads here, and stay as wide as the picture.
                parent = box.x <= from && box.x + box.w >= from + width;
                hidden = !parent;
                x = 0;
                w = width;
            } else {
                hidden = x < 0 || x + w > width;
            }
        }
        classed(box.g, "hide", hidden);
        classed(box.g, "parent", parent);
        if (hidden) continue;
        box.rect.setAttribute("x", PAD + x * scale);
        box.rect.setAttribute("width", w * scale);
        box.text.setAttribute("x", PAD + x * scale + INSIDE);
        box.text.textContent = fitting(box.name, w * scale);
    }
    classed(unzoomButton, "hide", !zoomed);
}

function fitting(name, width) {
    const room = Math.floor((width - 2 * INSIDE) / CHARACTER);
    if (room < FEWEST) return "";
    let cells = 0, short = "";
    for (const character of name) {
        cells += character.codePointAt(0) >= 0x1100 ? 2 : 1;
        if (cells > room) return short + "..";
        if (cells <= room - 2) short += character;
    }
    return name;
}

function classed(element, name, on) {
    if (on) element.classList.add(name); else element.classList.remove(name);
}

// -- search

function askSearch() {
    const answer = window.prompt("Search by a regular expression; nothing ends the search.", term);
    if (answer !== null) search(answer);
}

function toggleCase() {
    ignoresCase = !ignoresCase;
    classed(caseButton, "on", ignoresCase);
    search(term);
}

function search(text) {
    mark(text);
    keep();
}

function mark(text) {
    let pattern = null;
    term = text;
    if (term) {
        try { pattern = new RegExp(term, ignoresCase ? "i" : ""); }
        catch (problem) { term = ""; say("Search: " + problem.message); }
    }
    const found = [];
    for (const box of boxes) {
        const hit = pattern !== null && box.index > 0 && pattern.test(box.name);
        box.rect.setAttribute("fill", hit ? "rgb(230,0,230)" : box.fill);
        if (hit) found.push(box);
    }
    classed(searchButton, "on", term !== "");
    searchButton.textContent = term ? "Reset Search" : "Search";
    matched.textContent = term ? "Matched: " + share(found) : " ";
}

// One frame above another that matches, too, is not counted twice.
function share(found) {
    let sum = 0, end = 0;
    for (const box of found.slice().sort((one, other) => one.x - other.x || other.w - one.w)) {
        const from = Math.max(box.x, end), to = box.x + box.w;
        if (to > from) { sum += to - from; end = to; }
    }
    return (total ? 100 * sum / total : 0).toFixed(1) + "%";
}

// -- state in the address

function keep() {
    const state = new URLSearchParams();
    if (zoomed) {
        state.set("x", zoomed.rect.getAttribute("data-x"));
        state.set("y", zoomed.y);
    }
    if (term) state.set("s", term);
    if (ignoresCase) state.set("ic", "1");
    const text = state.toString();
    try { window.history.replaceState(null, "", text ? "?" + text : window.location.pathname); }
    catch (problem) { shown = text; } // a document without an address of its own
}

function restore() {
    const state = new URLSearchParams(window.location.search);
    ignoresCase = state.get("ic") === "1";
    classed(caseButton, "on", ignoresCase);
    const x = Number(state.get("x")), y = Number(state.get("y"));
    const target = state.has("x") && state.has("y") && boxes.find(box => box.x === x && box.y === y);
    draw(target || null);
    mark(state.get("s") || "");
}
