"""BENCHMARKS.md from what was measured."""

import math
import re

from .sides import quartiles, ratios


def write_page(results, path, notes, rows):
    """Writes the page; those of `rows` that were not measured are named and left out."""
    own = sections(notes.read_text()) if notes.exists() else {}
    parts = [HEAD]
    if results:
        parts += [machine(results), *filter(None, [own.get("Conditions")]), summary(results), limits(results)]
    for name, (title, detail) in DETAILS.items():
        texts = [detail(results)] if set(name.split()) <= set(results) else []
        note = own.get(title)
        if texts:
            parts.append("\n\n".join([f"## {title}", *texts, *([note] if note else [])]))
    missing = [name for name in rows if name not in results]
    if missing:
        parts.insert(1, f"**Not measured yet**: {', '.join(missing)} (`benches/peers/run --only ROW`).")
    if results:
        parts.append(checks(results))
    path.write_text("\n\n".join(parts) + "\n")


def sections(text):
    """The parts of a page by their second-level headings."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {title.strip(): body.strip() for title, body in zip(parts[::2], parts[1::2])}


# Rows of training alone.
TRAINED = ["autoencoder-sgd", "autoencoder-adam", "convnet"]
# Rows whose limit is that of large products.
BY_PRODUCTS = {"autoencoder-sgd", "autoencoder-adam", "convnet", "streaming", "layers"}

HEAD = """# Benchmarks

Written by `benches/peers/run`, which installs the peers, builds the benchmarks, and measures the two sides of each pair in turn, so that both see
the same machine. Every program is warm when it is measured: imports, data, compilation and set-up do not count. Each side has two threads. Both begin
with the same weights, data and order, and their results are compared while they are timed (last section). Times are medians with quartiles in
brackets; a ratio is the median of the ratios of runs that followed each other. Memory is the peak of the whole process, the data and, for Python,
the libraries included.

Python's side keeps the memory that it frees (`MALLOC_TRIM_THRESHOLD_` and its kin, see `benches/peers/run`), as ours does: with the settings of glibc, PyTorch
and NumPy give it back and have it cleared anew all the time, which takes up to two thirds of theirs here. *Memory not kept* is PyTorch without these
settings, as most people run it."""


def machine(results):
    last = max(results.values(), key=lambda row: row["date"])
    m = last["machine"]
    rates = [rate for name, row in results.items() if name in BY_PRODUCTS for rate in limit_rates(row)]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    commits = ", ".join(sorted({row["machine"]["commit"] for row in results.values()}))
    text = (
        f"Machine: {m['cpu']}, {m['cores']} cores, {m['memory'] / 2**30:.0f} GiB, {m['system']}; {m['rust']}; {m['python']}; {versions}."
        f" Measured on {', '.join(sorted({row['date'] for row in results.values()}))} at {commits}."
    )
    loads = [row["load"] for row in results.values() if "load" in row]
    if loads and max(loads) > 1.5 * m["cores"]:
        text += (
            f"\n\n**Other programs ran at the same time**: the load average was {min(loads):.1f} to {max(loads):.1f}, where these measurements alone make about"
            f" {m['cores']}. Threads that wait for each other suffer most from that, PyTorch's more than ours, so measure again before relying on a ratio."
        )
    if rates:
        text += (
            f"\n\nThe machine is shared and throttled: the same product of two 2048 x 2048 matrices in `f32` by faer"
            f" ran at {min(rates) / 1e9:.0f} to {max(rates) / 1e9:.0f} GFLOP/s between the measurements below. Absolute times would be"
            " shorter on an idle machine; the ratios of alternating runs are what to look at."
        )
    return text


def limit_rates(row):
    """The rates of the machine's limit that were measured in turn with a row."""
    limit = row["series"]["limit"]
    amount = limit["facts"]["rate"] * limit["seconds"][-1]
    return [amount / seconds for seconds in limit["seconds"]]


def spread(values, scale=1.0, digits=3):
    low, middle, high = (scale * value for value in quartiles(values))
    return f"{number(middle, digits)} ({number(low, digits)}–{number(high, digits)})"


def number(value, digits=3):
    """So many significant digits, without exponents where they can be avoided."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e5 or abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def median(series):
    return quartiles(series["seconds"])[1]


def megabytes(size):
    return f"{size / 2**20:.0f}"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join("---" for _ in header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def fastest_peer(row):
    peers = {name: row["series"][name] for name in ("eager", "compile") if "seconds" in row["series"].get(name, {})}
    return min(peers.items(), key=lambda item: median(item[1]))


class Line:
    """A line of the summary."""

    def __init__(self, work, ours, peer, ratio, target, memory):
        self.cells = [work, ours, peer, ratio[0], f"{target:g}" if target else "", self.verdict(ratio, target), memory]

    @staticmethod
    def verdict(ratio, target):
        if not target:
            return ""
        return "met" if ratio[1] <= target else "missed"


def pair(work, ours, peer_name, peer, target, unit="s", scale=1.0):
    low, middle, high = ratios(ours["seconds"], peer["seconds"])
    return Line(
        work,
        f"{spread(ours['seconds'], scale)} {unit}",
        f"{peer_name}: {spread(peer['seconds'], scale)} {unit}",
        (f"**{number(middle, 2)}** ({number(low, 2)}–{number(high, 2)})", middle),
        target,
        f"{megabytes(ours['peak_bytes'])} / {megabytes(peer['peak_bytes'])}",
    )


def unset_line(row, unit, scale):
    """PyTorch as it runs if nobody sets anything."""
    if "unset" not in row["series"]:
        return []
    return [pair("the same", row["series"]["ours"], SIDES["unset"], row["series"]["unset"], None, unit, scale)]


def summary(results):
    lines = []
    for name, work in (("autoencoder-sgd", "autoencoder epoch, SGD"), ("autoencoder-adam", "autoencoder epoch, Adam")):
        if name in results:
            row = results[name]
            mode, peer = fastest_peer(row)
            lines.append(pair(work, row["series"]["ours"], f"PyTorch {mode}", peer, 0.30))
            lines += unset_line(row, "s", 1.0)
    if "convnet" in results:
        row = results["convnet"]
        mode, peer = fastest_peer(row)
        lines.append(pair("convnet step, Adam", row["series"]["ours"], f"PyTorch {mode}", peer, 0.55, "ms", 1e3))
        lines += unset_line(row, "ms", 1e3)
    if "streaming" in results:
        lines += streaming_lines(results["streaming"])
    if "needs" in results:
        lines += [layers_line(results), network_line(results)]
    if "exploration" in results:
        row = results["exploration"]
        series = row["series"]
        work = "exploration, 100 x 60,000 x 180"
        lines.append(pair(work, series["ours"], "float products, SVD", series["peer svd"], 0.02))
        lines.append(pair("the same", series["ours"], "float products, eigenvalues", series["peer gram"], None))
    if "gram" in results:
        row = results["gram"]
        lines.append(pair("its Gram matrices", row["series"]["ours"], "NumKong, two threads", row["series"]["peer"], 1.0, "ms", 1e3))
    if "segments" in results:
        row = results["segments"]
        lines.append(pair("exact kinks, 1,000 segments", row["series"]["ours"], "PyTorch, the same propagation", row["series"]["peer"], 0.1, "ms", 1e3))
        lines.append(sampling_line(row))
    header = ["work", "ours", "peer", "ours / peer", "target", "", "memory, MB"]
    return "## Summary\n\n" + table(header, [line.cells for line in lines])


def streaming_lines(row):
    series = row["series"]
    ours = [a / b for a, b in zip(series["streaming"]["seconds"], series["plain"]["seconds"])]
    memory = f"{megabytes(series['streaming']['peak_bytes'])} / {megabytes(series['peer exact']['peak_bytes'])}"
    lines = []
    for kind, what, target in (("exact", "exact diagonal", 0.5), ("mc", "Monte Carlo diagonal", None)):
        theirs = [a / b for a, b in zip(series[f"peer {kind}"]["seconds"], series["peer plain"]["seconds"])]
        low, middle, high = ratios(ours, theirs)
        work = "overhead of streaming all neurons' regret" if kind == "exact" else "the same"
        ratio = (f"**{number(middle, 2)}** ({number(low, 2)}–{number(high, 2)})", middle)
        lines.append(Line(work, f"{spread(ours)} x", f"BackPACK DiagGGN, {what}: {spread(theirs)} x", ratio, target, memory))
    return lines


def needed(count, seconds):
    """Seconds that a method needs, given those of a product, and whether that is only a lower bound."""
    return count["products"] * seconds, not count["reached"]


def bounded(value, is_bound, unit="s"):
    return f"{'more than ' if is_bound else ''}{number(value)} {unit}"


def conjugate_gradients(results):
    """Per layer the seconds that the peer's conjugate gradients need, each with whether it is a bound."""
    layers, counts = results["layers"], results["needs"]["counts"]
    return [needed(counts[f"{l}..{l + 1}"]["cg"], median(layers["series"][f"product {l}"])) for l in range(6)]


def optimum_line(work, row, theirs, peer, target):
    series = row["series"]
    ours = [a + b for a, b in zip(series["linearize"]["seconds"], series["ours"]["seconds"])]
    total, is_bound = sum(t for t, _ in theirs), any(b for _, b in theirs)
    ratio = quartiles(ours)[1] / total
    text = f"**{'< ' if is_bound else ''}{number(ratio, 2)}**"
    memory = f"{megabytes(series['ours']['peak_bytes'])} / {megabytes(series[peer]['peak_bytes'])}"
    cell = f"`torch.func` CG: {bounded(total, is_bound)}"
    gap = max(found["relative_gap"] for found in series["ours"]["facts"]["found"])
    if gap > 1e-4:
        return Line(work, f"{spread(ours)} s, gap {number(gap, 2)} reached", cell + " for the same gap", (text, math.inf), target, memory)
    return Line(work, f"{spread(ours)} s", cell, (text, ratio), target, memory)


def layers_line(results):
    return optimum_line("Taylor optima of all layers, gap 1e-4", results["layers"], conjugate_gradients(results), "product 0", 0.05)


def network_line(results):
    row = results["network"]
    count = results["needs"]["counts"]["0..6"]["cg"]
    return optimum_line("Taylor optimum of the network, gap 1e-4", row, [needed(count, median(row["series"]["product"]))], "product", 0.2)


def sampling_line(row):
    sampling, ours = row["sampling"], row["series"]["ours"]
    last = sampling["runs"][-1]
    missed = sampling["kinks"] - last["found"]
    seconds = last["seconds"] * sampling["total"]
    ratio = median(ours) / seconds
    what = f"sampling {last['points']:,} points a segment" + (f", {missed} kinks of {sampling['kinks']} missed" if missed else ", all kinks")
    cell = f"{what}: {number(seconds)} s (of {sampling['segments']} segments)"
    memory = f"{megabytes(ours['peak_bytes'])} / {megabytes(row['series']['peer']['peak_bytes'])}"
    return Line("the same", f"{spread(ours['seconds'], 1e3)} ms", cell, (f"**{number(ratio, 2)}**", ratio), 0.1, memory)


def limits(results):
    """What of the machine's limits is reached, by the rate measured in turn with the work."""
    rows = []

    def add(name, work, amount, series, unit, aim):
        reached = [amount / seconds for seconds in series]
        possible = limit_rates(results[name])
        fraction = quartiles([a / b for a, b in zip(reached, possible)])[1]
        cells = [work, f"{spread(reached, 1e-9)} {unit}", f"{spread(possible, 1e-9)} {unit}", f"**{number(100 * fraction, 2)}%**", aim]
        rows.append(cells)

    for name, work in (("autoencoder-sgd", "autoencoder training, SGD"), ("autoencoder-adam", "autoencoder training, Adam")):
        if name in results:
            add(name, work, results[name]["flops"], results[name]["series"]["ours"]["seconds"], "GFLOP/s", "")
    if "convnet" in results:
        add("convnet", "convnet training", results["convnet"]["flops"], results["convnet"]["series"]["ours"]["seconds"], "GFLOP/s", "50%")
    if "layers" in results:
        row = results["layers"]
        add("layers", "layer-scale operator, first layer", row["operator_flops"], row["series"]["operator"]["seconds"], "GFLOP/s", "50%")
    if "gram" in results:
        row = results["gram"]
        add("gram", "co-activation Gram matrices", row["series"]["ours"]["facts"]["bytes"], row["series"]["ours"]["seconds"], "GB/s", "50%")
    header = ["work", "reached", "limit", "fraction", "aim"]
    text = (
        "The limits were measured in turn with the work: a large product in `f32` by faer on two threads; conjunctions of words counted in the"
        " first-level cache, 8 bytes a conjunction."
    )
    return f"## Physical limits\n\n{text}\n\n{table(header, rows)}"


# What the sides of a training row are called.
SIDES = {"eager": "PyTorch eager", "compile": "PyTorch compile", "unset": "PyTorch eager, memory not kept"}


def training(results):
    rows = []
    for name in (name for name in TRAINED if name in results):
        for side in ("ours", *SIDES):
            one = results[name]["series"].get(side, {})
            if "error" in one:
                rows.append([name, SIDES[side], "failed: " + one["error"].splitlines()[0], "", ""])
            elif one:
                label = "ours" if side == "ours" else f"{SIDES[side]}, {one['facts']['implementation']} optimizer"
                rows.append([name, label, f"{spread(one['seconds'], 1e3)} ms", f"{len(one['seconds'])}", megabytes(one["peak_bytes"])])
    return table(["work", "side", "time", "runs", "memory, MB"], rows)


def streaming(results):
    series = results["streaming"]["series"]
    labels = {
        "plain": "ours, plain",
        "streaming": "ours, with the sums of every neuron's regret",
        "solved": "ours, also with certified optima of all neurons at 30 prefixes",
        "peer plain": "PyTorch, plain",
        "peer exact": "BackPACK, exact diagonal every round",
        "peer mc": "BackPACK, Monte Carlo diagonal (one sample) every round",
    }
    rows = []
    for name, label in labels.items():
        plain = series["peer plain" if name.startswith("peer") else "plain"]
        # Ours are epochs, the peer's rounds.
        scale = 1e3 if name.startswith("peer") else 1e3 / 937
        factor = quartiles([a / b for a, b in zip(series[name]["seconds"], plain["seconds"])])[1]
        rows.append([label, f"{spread(series[name]['seconds'], scale)} ms", number(factor), megabytes(series[name]["peak_bytes"])])
    return table(["training of the autoencoder, SGD", "a round", "factor", "memory, MB"], rows)


def optima(results):
    row, counts = results["layers"], results["needs"]["counts"]
    series, rows = row["series"], []
    found = series["ours"]["facts"]
    reached = lambda count: f"{count['products']}" + ("" if count["reached"] else f", gap {number(count['relative_gap'], 2)}")
    for l in range(6):
        cg, adam = counts[f"{l}..{l + 1}"]["cg"], counts[f"{l}..{l + 1}"]["adam"]
        product = series[f"product {l}"]
        passed = row["jacobians"][f"jacobians {l}"] * row["rounds"]
        one = found["found"][l]
        rows.append(
            [
                str(one["layer"]),
                f"{number(found['each'][l])} s",
                f"{one['products']}",
                f"{number(one['relative_gap'], 2)}",
                f"{spread(product['seconds'])} s",
                reached(cg),
                bounded(*needed(cg, median(product))),
                f"{number(passed)} s",
                reached(adam),
                bounded(*needed(adam, passed)),
            ]
        )
    header = ["layer", "ours", "products", "gap", "`torch.func` product", "CG products", "CG", "pass over Jacobians", "Adam passes", "Adam"]
    text = (
        f"One epoch of Adam, {row['rounds']} rounds of 64 datapoints. Our times are those of the last run; to them comes the linearization of all rounds with"
        f" preconditioners, {spread(series['linearize']['seconds'])} s, which all layers share. The products that plain conjugate gradients and Adam need were"
        f" counted with our own products, until the gap that ours reached (or 1e-4), for at most {results['needs']['limit']} s each; where the gap was not reached, the gap that was is given, and the"
        " time is a lower bound. Their times are products of the count and of the peer's measured time of one product or of one pass over recorded Jacobians;"
        " the passes were measured on 3 rounds, since those of all rounds do not fit in memory for the first layer."
    )
    parts = [text, table(header, rows)]
    if "network" in results:
        network, count = results["network"]["series"], counts["0..6"]
        one = network["ours"]["facts"]["found"][0]
        parts.append(
            f"Network scale: ours {spread(network['ours']['seconds'])} s, {one['products']} products, gap {number(one['relative_gap'], 2)};"
            f" a `torch.func` product {spread(network['product']['seconds'])} s, of which conjugate gradients need {reached(count['cg'])}"
            f" ({bounded(*needed(count['cg'], median(network['product'])))}), Adam {reached(count['adam'])} gradients"
            f" ({bounded(*needed(count['adam'], median(network['product'])))})."
        )
    return "\n\n".join(parts)


def exploration(results):
    series = {**results["exploration"]["series"], **{f"gram of {k}": v for k, v in results["gram"]["series"].items()}}
    labels = {
        "ours": "ours: Gram matrices by popcount, eigenvalues",
        "peer svd": "PyTorch: float products, singular values of every neuron's 100 x 60,000 matrix",
        "peer gram": "PyTorch: float products, eigenvalues of every neuron's Gram matrix",
        "gram of ours": "ours, the Gram matrices alone",
        "gram of peer": "NumKong `dots_symmetric` of bits, two threads of Python",
    }
    rows = [[label, f"{spread(series[name]['seconds'], 1e3)} ms", megabytes(series[name]["peak_bytes"])] for name, label in labels.items()]
    return table(["100 rounds, 60,000 datapoints, 180 neurons", "time", "memory, MB"], rows)


def sampling(results):
    row = results["segments"]["sampling"]
    rows = [
        [f"{one['points']:,}", f"{one['found']} of {row['kinks']}", f"{number(one['seconds'] * row['total'])} s"] for one in row["runs"]
    ]
    text = (
        f"Dense sampling on {row['segments']} segments, the time projected to all {row['total']}: a kink is seen as a change of state between neighbouring"
        " points, and located to their distance; ours are exact to rounding."
    )
    return text + "\n\n" + table(["points a segment", "kinks found", "1,000 segments"], rows)


def growth(results):
    rows = []
    for name, series in results["scaling"]["scaling"].items():
        work, size = name.split("/")
        seconds = [median(one) for one in series]
        # The exponent over all doublings, and of the last two, where constant costs weigh least.
        exponent, last = fit(seconds), fit(seconds[-3:])
        memory = [one["peak_bytes"] for one in series]
        limit = results["scaling"]["theory"][work][size]
        verdict = "" if max(exponent, last) <= limit + 0.1 else " (above)"
        rows.append(
            [
                work,
                size,
                " ".join(number(1e3 * s) for s in seconds),
                number(exponent, 2),
                number(last, 2) + verdict,
                f"{limit}",
                " ".join(megabytes(m) for m in memory),
            ]
        )
    text = (
        "Each size doubled, the others fixed; the exponent is the slope of the logarithm of the median time on that of the size, over all sizes and over the"
        " last three. *Streaming*: training with neuron-scale sums. *Recording*: activation configurations. *Exploration*: their metrics. *Operator*: a product"
        " with the curvature of the first layer. The theory's exponent is that of the leading term: in units, the Gram matrices of `m` neurons with `m` inputs"
        " take `m^3`, products of two layers of `m` units `m^2`; in rounds, popcounts take `N^2` and the eigenvalues of a neuron's Gram matrix `N^3`."
    )
    header = ["work", "doubled", "milliseconds", "exponent", "last three", "theory", "memory, MB"]
    return text + "\n\n" + table(header, rows)


def fit(seconds):
    """The least-squares slope of log2 of the times on the number of doublings."""
    logs = [math.log2(s) for s in seconds]
    middle = (len(logs) - 1) / 2
    mean = sum(logs) / len(logs)
    spread_ = sum((k - middle) ** 2 for k in range(len(logs)))
    return sum((k - middle) * (value - mean) for k, value in enumerate(logs)) / spread_


def checks(results):
    rows = []
    for name, row in results.items():
        for check in row["checks"]:
            verdict = "agrees" if check["passed"] else "**differs**"
            rows.append([name, check["what"], number(check["found"], 2), f"{check['tolerance']:g}", verdict])
    text = "Largest difference between the sides while they were timed, relative; whole numbers must be equal."
    return "## Agreement\n\n" + text + "\n\n" + table(["work", "compared", "difference", "tolerance", ""], rows)


# What each section needs, its title and its text.
DETAILS = {
    "convnet": ("Training", training),
    "streaming": ("Regret of every neuron", streaming),
    "layers needs": ("Taylor optima", optima),
    "exploration gram": ("Exploration", exploration),
    "segments": ("Kinks", sampling),
    "scaling": ("Growth", growth),
}
