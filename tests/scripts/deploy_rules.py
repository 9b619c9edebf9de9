"""What the schemas cannot know: rules that every workload of the rendered base keeps.

Usage: deploy_rules.py RENDERED.yaml COMPOSE.yaml SERVICE…   Prints each fault; exits with 1 when there are any.
"""

import sys

import yaml


def faults_of_container(name, pod, container):
    security = container.get("securityContext", {})
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{name}: capabilities are not dropped"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: its root file system is not read-only"
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: it may escalate privileges"
    if pod.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield f"{name}: it may run as root"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        ports = [port["containerPort"] for port in container.get("ports", [])]
        if container.get(probe, {}).get("grpc", {}).get("port") not in ports:
            yield f"{name}: {probe} does not ask one of its own ports over gRPC"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
        yield f"{name}: it needs requests for CPU and memory and a limit for memory"


def faults_of_workload(workload, documents):
    name = workload["metadata"]["name"]
    pod = workload["spec"]["template"]["spec"]
    labels = workload["spec"]["template"]["metadata"]["labels"].items()
    for container in pod["containers"]:
        yield from faults_of_container(name, pod, container)
    mounts = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    for volume in sorted(mounts - volumes):
        yield f"{name}: the volume {volume} is mounted but not there"

    def selected(kind, path):
        for document in documents:
            if document["kind"] == kind:
                selector = document["spec"]
                for key in path:
                    selector = selector.get(key, {})
                if selector and selector.items() <= labels:
                    yield document

    if not list(selected("PodDisruptionBudget", ["selector", "matchLabels"])):
        yield f"{name}: it has no PodDisruptionBudget"
    if not list(selected("NetworkPolicy", ["podSelector", "matchLabels"])):
        yield f"{name}: no NetworkPolicy concerns it"
    services = list(selected("Service", ["selector"]))
    if not any(service["spec"].get("clusterIP") == "None" for service in services):
        yield f"{name}: it has no headless Service for its peers"


def faults(rendered, compose, services):
    documents = [document for document in yaml.safe_load_all(rendered) if document]
    workloads = {d["metadata"]["name"]: d for d in documents if d["kind"] in ("Deployment", "StatefulSet")}
    expected = {f"segue-{service}" for service in services}
    for name in sorted(expected ^ workloads.keys()):
        yield f"{name}: {'not in the base' if name in expected else 'not among the services that are checked'}"
    for workload in workloads.values():
        yield from faults_of_workload(workload, documents)
    # Peers are called by the names of Services.
    config = next(d["data"]["segue.toml"] for d in documents if d["kind"] == "ConfigMap")
    known = {d["metadata"]["name"] for d in documents if d["kind"] == "Service"}
    for line in config.splitlines():
        if "http://" in line:
            host = line.split("http://", 1)[1].split(":", 1)[0]
            if host not in known:
                yield f"segue.toml calls {host}, which is no Service of the base"
    if set(yaml.safe_load(compose)["services"]) != {"segue", "postgres", "nats"}:
        yield "compose.yaml: expected segue, postgres and nats"


def main():
    with open(sys.argv[1], encoding="utf-8") as rendered, open(sys.argv[2], encoding="utf-8") as compose:
        found = list(faults(rendered, compose.read(), sys.argv[3:]))
    for fault in found:
        print(f"deploy/: {fault}", file=sys.stderr)
    sys.exit(1 if found else 0)


main()
