"""Lines of the result: collected as numbers, printed as one Markdown table and as JSON."""
import json
import statistics


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(round(share * (len(ordered) - 1))))]


def shown(value):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if value else "0"


class Report:
    def __init__(self):
        self.lines, self.facts = [], {}

    def add(self, section, what, unit, values, note=""):
        """values: one number a round."""
        values = [v for v in values if v is not None]
        if not values:
            return self.skip(section, what, note or "no result")
        line = {"section": section, "what": what, "unit": unit, "median": statistics.median(values),
                "min": min(values), "max": max(values), "rounds": values, "note": note}
        self.lines.append(line)
        print(f"  {section}: {what}: {shown(line['median'])} {unit} ({shown(line['min'])} … {shown(line['max'])}) {note}", flush=True)
        return line["median"]

    def skip(self, section, what, note):
        self.lines.append({"section": section, "what": what, "unit": "", "median": None, "min": None, "max": None,
                           "rounds": [], "note": note})
        print(f"  {section}: {what}: – {note}", flush=True)

    def median(self, section, what):
        for line in self.lines:
            if line["section"] == section and line["what"] == what:
                return line["median"]
        return None

    def markdown(self):
        out = ["| section | what | median | min | max | unit | rounds | note |", "|---|---|--:|--:|--:|---|--:|---|"]
        for n in self.lines:
            out.append(f"| {n['section']} | {n['what']} | {shown(n['median'])} | {shown(n['min'])} | {shown(n['max'])} | "
                       f"{n['unit']} | {len(n['rounds'])} | {n['note']} |")
        facts = [f"- {key}: {value}" for key, value in self.facts.items()]
        return "\n".join(facts + [""] + out) + "\n"

    def json(self):
        return json.dumps({"facts": self.facts, "lines": self.lines}, indent=1) + "\n"
