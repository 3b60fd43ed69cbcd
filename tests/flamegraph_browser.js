// As much of a browser as the script of a flame graph needs: runs it on an SVG, does what it is told, says what is seen.
// usage: node flamegraph_browser.js FILE.svg ADDRESS < steps (JSON: a list of steps, each a list of words)
"use strict";
const fs = require("fs");
const vm = require("vm");

const unescaped = text => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&quot;/g, '"').replace(/&amp;/g, "&");

class Element {
    constructor(tag, attributes) {
        this.tag = tag;
        this.attributes = attributes;
        this.children = [];
        this.firstChild = { nodeValue: "" };
        this.listeners = {};
        const element = this;
        const classes = () => new Set((attributes.get("class") || "").split(" ").filter(Boolean));
        const set = names => attributes.set("class", [...names].join(" "));
        this.classList = {
            add(name) { set(classes().add(name)); },
            remove(name) { const names = classes(); names.delete(name); set(names); },
            contains(name) { return classes().has(name); },
        };
        Object.defineProperty(this, "textContent", {
            get() { return element.firstChild.nodeValue; },
            set(text) { element.firstChild.nodeValue = String(text); },
        });
    }
    getAttribute(name) { return this.attributes.has(name) ? this.attributes.get(name) : null; }
    setAttribute(name, value) { this.attributes.set(name, String(value)); }
    addEventListener(kind, action) { this.listeners[kind] = action; }
    closest() { return this.parent; }
}

function parse(text) {
    const script = /<!\[CDATA\[([^]*?)\]\]>/.exec(text)[1];
    const roots = [], open = [];
    const tokens = text.replace(/<!\[CDATA\[[^]*?\]\]>/, "").replace(/<\?.*?\?>/, "").matchAll(/<([^>]*)>|([^<]+)/g);
    for (const [, tag, content] of tokens) {
        if (content !== undefined) {
            if (open.length) open[open.length - 1].firstChild.nodeValue += unescaped(content);
        } else if (tag.startsWith("/")) {
            open.pop();
        } else {
            const attributes = new Map();
            for (const [, name, value] of tag.matchAll(/([\w:-]+)="([^"]*)"/g)) attributes.set(name, unescaped(value));
            const element = new Element(/^\w+/.exec(tag)[0], attributes);
            if (open.length) { element.parent = open[open.length - 1]; element.parent.children.push(element); }
            else roots.push(element);
            if (!tag.endsWith("/")) open.push(element);
        }
    }
    return { script, root: roots[0] };
}

function all(element) { return [element, ...element.children.flatMap(all)]; }

const { script, root } = parse(fs.readFileSync(process.argv[2], "utf-8"));
const window = {
    location: { search: process.argv[3], pathname: "/x.svg" },
    history: { replaceState(_, __, address) { window.location.search = address.startsWith("?") ? address : ""; } },
    listeners: {},
    addEventListener(kind, action) { this.listeners[kind] = action; },
    prompt: () => window.answer,
};
const document = { documentElement: root, getElementById: name => all(root).find(each => each.getAttribute("id") === name) };
const context = vm.createContext({ window, document, URLSearchParams, console });
vm.runInContext(script, context);
vm.runInContext(root.getAttribute("onload"), context);

const id = document.getElementById;
const boxes = () => id("frames").children.map(g => {
    const [title, rect, text] = g.children;
    return {
        title: title.textContent, x: Number(rect.getAttribute("x")), width: Number(rect.getAttribute("width")),
        y: Number(rect.getAttribute("y")), fill: rect.getAttribute("fill"), text: text.textContent,
        hidden: g.classList.contains("hide"), parent: g.classList.contains("parent"),
    };
});
const box = name => id("frames").children.find(g => g.children[0].textContent.startsWith(name + " ("));
const seen = () => ({
    boxes: boxes(), details: id("details").textContent, matched: id("matched").textContent,
    search: id("search").textContent, address: window.location.search,
    unzoom: !id("unzoom").classList.contains("hide"),
});
const steps = {
    click(name) { id("frames").listeners.click({ target: box(name).children[1] }); box(name); },
    hover(name) { id("frames").listeners.mouseover({ target: box(name).children[1] }); },
    leave() { id("frames").listeners.mouseout({}); },
    press(name, answer) { window.answer = answer === undefined ? null : answer; id(name).listeners.click({}); },
    key(name, answer) {
        window.answer = answer === undefined ? null : answer;
        const ctrlKey = name.startsWith("ctrl-");
        window.listeners.keydown({ key: name.replace("ctrl-", ""), ctrlKey, preventDefault() {} });
    },
};
const told = [seen()];
for (const [name, ...words] of JSON.parse(fs.readFileSync(0, "utf-8"))) {
    steps[name](...words);
    told.push(seen());
}
console.log(JSON.stringify(told));
