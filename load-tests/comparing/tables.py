"""Figures as Markdown."""

PEER = "HAProxy"


def of(case, found):
    if "idle_kib" in found[0]:
        rows = memory(found)
    elif "shares" in found[0]:
        rows = spread(found)
    else:
        rows = driven(case, found)
    return f"### {case.name}: {case.about}\n\n" + "\n".join(rows)


def driven(case, found):
    head = ["program", f"CPU per {case.unit} (spread)", "user, system", f"to {PEER}", "a second", "busy", "p50, p99"]
    calls = any(figure["calls"] for figure in found)
    rows = [head + ["system calls"] * calls, ["---"] * (len(head) + calls)]
    peer = next((figure.get("cpu_us") for figure in found if figure["program"] == PEER), None)
    for figure in found:
        if "cpu_us" not in figure:
            rows.append([figure["program"], "no run without a fault"] + [""] * (len(head) - 2 + calls))
            continue
        low, high = figure["spread"]
        row = [
            figure["program"],
            f"{figure['cpu_us']:.1f} us ({low:.1f} to {high:.1f})",
            f"{figure['user_us']:.1f}, {figure['system_us']:.1f}",
            f"{figure['cpu_us'] / peer:.2f}" if peer else "",
            f"{figure['per_second']:,.0f}",
            f"{figure['busy']:.0%}",
            f"{figure['p50_us'] / 1e3:.3f}, {figure['p99_us'] / 1e3:.2f} ms",
        ]
        rows.append(row + [shown(figure["calls"])] * calls)
    return ["| " + " | ".join(row) + " |" for row in rows]


def shown(calls):
    if not calls:
        return ""
    each = ", ".join(f"{name} {count:.2f}" for name, count in sorted(calls.items(), key=lambda one: -one[1]))
    return f"{sum(calls.values()):.2f}: {each}"


def spread(found):
    counts = list(found[0]["shares"])
    rows = ["| program | " + " | ".join(f"{count} connections: median, most" for count in counts) + " |", "|---" * (1 + len(counts)) + "|"]
    for figure in found:
        each = [f"{shares[len(shares) // 2]:.0%}, {shares[-1]:.0%}" for shares in figure["shares"].values()]
        rows.append(f"| {figure['program']} | " + " | ".join(each) + " |")
    return rows


def memory(found):
    rows = ["| program | idle | with the connections | each |", "|---|---|---|---|"]
    for figure in found:
        rows.append(f"| {figure['program']} | {figure['idle_kib'] / 1024:.1f} MiB | {figure['full_kib'] / 1024:.0f} MiB | {figure['each_kib']:.1f} KiB |")
    return rows
