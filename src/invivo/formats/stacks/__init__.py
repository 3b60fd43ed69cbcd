"""Files with stacks: folded, what perf writes, JSON of invivo."""
