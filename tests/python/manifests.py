"""Holds manifests of Kubernetes against its published schemas, and their pods against what serin's pods promise.

manifests.py VERSION... -- FILE...: prints `FILE: Kind` for each document; exit 1 with every fault.
"""

import sys

import kubernetes_validate
import yaml

ASKED = ("startupProbe", "readinessProbe", "livenessProbe")


def documents(files):
    for file in files:
        with open(file, encoding="utf-8") as text:
            for document in yaml.safe_load_all(text):
                yield file, document


def schema_faults(document, versions):
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as fault:
            path = ".".join(str(part) for part in fault.path)
            yield f"{version}: {path}: {fault.message}"


def pod_faults(document):
    template = document.get("spec", {}).get("template")
    if template is None:
        return
    pod = template["spec"]
    rights = pod.get("securityContext", {})
    if rights.get("runAsNonRoot") is not True or not rights.get("runAsUser"):
        yield "its user may be root"
    if rights.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "system calls are not filtered"
    if pod.get("automountServiceAccountToken") is not False:
        yield "it has a token of the cluster"
    if pod.get("terminationGracePeriodSeconds", 30) < 40:
        yield "it is killed before it is drained"
    inits, mains = pod.get("initContainers", []), pod["containers"]
    if any(container.get("restartPolicy") != "Always" for container in inits):
        yield "an init container is no sidecar"
    for container in inits + mains:
        yield from (f"{container['name']}: {fault}" for fault in container_faults(container))


def container_faults(container):
    rights = container.get("securityContext", {})
    if rights.get("readOnlyRootFilesystem") is not True:
        yield "its file system can be written"
    if rights.get("allowPrivilegeEscalation") is not False:
        yield "it may gain rights"
    if "ALL" not in rights.get("capabilities", {}).get("drop", []):
        yield "it keeps capabilities"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield "its memory has no limit"
    if container["args"][0] == "run":
        yield from (f"no {probe}" for probe in ASKED if probe not in container)


def main(arguments):
    versions, files = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    faults = []
    for file, document in documents(files):
        print(f"{file}: {document['kind']}")
        found = list(schema_faults(document, versions)) + list(pod_faults(document))
        faults += [f"{file}: {document['kind']}: {fault}" for fault in found]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
