"""Writes ``tierlog/wire/messages/*.py`` from the message definitions inside Apache Kafka's jars.

Usage: python tools/generate_messages.py KAFKA_CLIENTS_JAR GROUP_COORDINATOR_JAR

Only facts are taken over (names, types, versions, defaults, tags): no comment, no description. Run it again
for a new Kafka release, look at the diff, run the tests. The jars are on Maven Central:
org.apache.kafka:kafka-clients and org.apache.kafka:kafka-group-coordinator.
"""

from __future__ import annotations

import argparse
import json
import keyword
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tierlog/wire/messages"
LAST_KEY = 75
NOT_SERVED = {4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 71, 72, 73}
# Module → messages that are data rather than requests.
DATA_MODULES = {
    "consumer_protocol": ("ConsumerProtocolSubscription", "ConsumerProtocolAssignment"),
    "group_records": ("OffsetCommitKey", "OffsetCommitValue", "GroupMetadataKey", "GroupMetadataValue"),
}
INTEGERS = {"int8", "int16", "uint16", "int32", "uint32", "int64"}
PYTHON_TYPES = {
    **dict.fromkeys(INTEGERS, "int"),
    "bool": "bool",
    "float64": "float",
    "string": "str",
    "uuid": "bytes",
    "bytes": "bytes",
    "records": "Records",
}

Json = dict[str, Any]


def load(jar: Path) -> dict[str, Json]:
    """All definitions of a jar by message name; comment lines dropped."""
    found = {}
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"common/message/\w+\.json", name):
                text = re.sub(r"(?m)^\s*//.*$", "", archive.read(name).decode())
                definition = json.loads(text)
                found[definition["name"]] = definition
    return found


def snake(name: str) -> str:
    """Kafka's CamelCase as an attribute or module name."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name))
    text = parts.lower()
    return text + "_" if keyword.iskeyword(text) else text


class Module:
    """Collects the classes of one module, innermost first."""

    def __init__(self, messages: list[Json]) -> None:
        self.messages = messages
        self.classes: list[str] = []
        self.uses: set[str] = {"Message"}
        counts: dict[str, int] = {}
        for message in messages:
            for name in {struct["name"] for struct in structs_of(message)}:
                counts[name] = counts.get(name, 0) + 1
        taken = {message["name"] for message in messages}
        self.ambiguous = {name for name, count in counts.items() if count > 1} | taken

    def class_name(self, message: Json, struct: str) -> str:
        return message["name"] + struct if struct in self.ambiguous else struct

    def render(self, title: str) -> str:
        for message in self.messages:
            self.add_message(message)
        names = ", ".join(sorted(self.uses, key=lambda name: (not name.isupper(), name)))
        return (
            f'"""{title}: written by tools/generate_messages.py, not by hand."""\n\n'
            f"from __future__ import annotations\n\nfrom tierlog.wire.schema import {names}\n\n\n"
            + "\n\n".join(self.classes)
        )

    def add_message(self, message: Json) -> None:
        for struct in structs_of(message):
            name = self.class_name(message, struct["name"])
            self.add_class(message, name, "Struct", struct["fields"], [])
            self.uses.add("Struct")
        first, last = span(message["validVersions"])
        flexible = message.get("flexibleVersions", "none")
        facts = [f"VERSIONS = ({first}, {last})"]
        if "apiKey" in message:
            facts.insert(0, f"API_KEY = {message['apiKey']}")
        if flexible != "none":
            facts.append(f"FLEXIBLE = {span(flexible)[0]}")
        self.add_class(message, message["name"], "Message", message["fields"], facts)

    def add_class(self, message: Json, name: str, base: str, fields: list[Json], facts: list[str]) -> None:
        lines = [f"class {name}({base}):"]
        lines += [f"    {fact}" for fact in facts]
        if facts and fields:
            lines.append("")
        table = []
        for field in fields:
            python_type, default = self.python(message, field)
            lines.append(f"    {snake(field['name'])}: {python_type} = {default}")
            table.append(f'        "{self.declaration(message, field)}",')
        if fields:
            lines += ["", "    FIELDS = (", *table, "    )"]
        elif not facts:
            lines.append("    pass")
        self.classes.append("\n".join(lines) + "\n")

    def kind(self, message: Json, text: str) -> str:
        array, inner = ("[]", text[2:]) if text.startswith("[]") else ("", text)
        return array + (inner if inner in PYTHON_TYPES else self.class_name(message, inner))

    def declaration(self, message: Json, field: Json) -> str:
        words = [f"{snake(field['name'])}:", self.kind(message, field["type"])]
        words.append(field.get("versions") or field["taggedVersions"])
        if field.get("nullableVersions", "none") != "none":
            words.append(f"nullable={field['nullableVersions']}")
        if "tag" in field:
            words += [f"tag={field['tag']}", f"tagged={field['taggedVersions']}"]
        if field.get("ignorable"):
            words.append("ignorable")
        return " ".join(words)

    def python(self, message: Json, field: Json) -> tuple[str, str]:
        """Annotation and default of an attribute, as source."""
        kind = field["type"]
        given = field.get("default")
        nullable = field.get("nullableVersions", "none") != "none"
        if kind == "records":
            self.uses.add("Records")
            return "Records", "None"
        if kind.startswith("[]"):
            inner = kind[2:]
            annotation = f"list[{PYTHON_TYPES.get(inner) or self.class_name(message, inner)}]"
            default = "NEW"
        elif kind not in PYTHON_TYPES:
            annotation, default = self.class_name(message, kind), "NEW"
        else:
            annotation, default = PYTHON_TYPES[kind], scalar_default(kind, given)
        if nullable:
            annotation += " | None"
            if given == "null":
                default = "None"
        self.uses.update({default} & {"NEW", "ZERO_UUID"})
        return annotation, default


def scalar_default(kind: str, given: Any) -> str:
    if kind == "bool":
        return str(str(given).lower() == "true")
    if kind in INTEGERS:
        return str(int(str(given), 0)) if given not in (None, "") else "0"
    if kind == "float64":
        return repr(float(given or 0))
    if kind == "uuid":
        return "ZERO_UUID"
    if kind == "bytes":
        return 'b""'
    return json.dumps(given if given not in (None, "null") else "")


def structs_of(message: Json) -> list[Json]:
    """Every struct of a message, each before the one that holds it."""
    found: dict[str, Json] = {}

    def walk(fields: list[Json]) -> None:
        for field in fields:
            if "fields" in field:
                walk(field["fields"])
                name = field["type"].removeprefix("[]")
                found.setdefault(name, {"name": name, "fields": field["fields"]})

    for struct in message.get("commonStructs", []):
        walk(struct["fields"])
        found.setdefault(struct["name"], {"name": struct["name"], "fields": struct["fields"]})
    walk(message["fields"])
    return list(found.values())


def span(versions: str) -> tuple[int, int]:
    first, _, last = versions.rstrip("+").partition("-")
    return int(first), int(last or first)


def write(path: Path, text: str) -> None:
    lines = text.count("\n")
    assert lines < 500, f"{path.name} would have {lines} lines"
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("clients_jar", type=Path)
    parser.add_argument("coordinator_jar", type=Path)
    arguments = parser.parse_args()
    definitions = load(arguments.clients_jar) | load(arguments.coordinator_jar)
    written = []
    requests = {d["apiKey"]: d for d in definitions.values() if d["type"] == "request"}
    for key in sorted(requests):
        if key > LAST_KEY or key in NOT_SERVED:
            continue
        request = requests[key]
        name = request["name"].removesuffix("Request")
        path = TARGET / f"{snake(name)}.py"
        write(path, Module([request, definitions[name + "Response"]]).render(f"{name}, API key {key}"))
        written.append(path)
    for module, names in DATA_MODULES.items():
        path = TARGET / f"{module}.py"
        write(path, Module([definitions[name] for name in names]).render("Data messages"))
        written.append(path)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", *map(str, written)], check=True)
    sys.stdout.write(f"{len(written)} modules\n")


if __name__ == "__main__":
    main()
