"""The scenario's steps by the Python client from PyPI: one step a line in, one outcome a line out."""
import json
import sys

from kubernetes import client, config, dynamic
from kubernetes.client.rest import ApiException

config.load_kube_config(sys.argv[1])
namespace = sys.argv[2]
api = client.ApiClient()
objects = dynamic.DynamicClient(api)
core = client.CoreV1Api(api)
MEDIA = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


def resource(name):
    version, kind = name.rsplit("/", 1)
    return objects.resources.get(api_version=version, kind=kind)


def tried(step):
    return {"dry_run": "All"} if step.get("dryRun") else {}


def create(step):
    body = step["object"]
    found = resource(f"{body['apiVersion']}/{body['kind']}")
    return found.create(body=body, namespace=namespace, **tried(step)).to_dict()


def replace(step):
    body = step["object"]
    found = resource(f"{body['apiVersion']}/{body['kind']}")
    return found.replace(body=body, namespace=namespace).to_dict()


def get(step):
    return resource(step["type"]).get(name=step["name"], namespace=namespace).to_dict()


def patch(step):
    found = resource(step["type"])
    arguments = {"namespace": namespace, "content_type": MEDIA[step["by"]], **tried(step)}
    return found.patch(name=step["name"], body=step["patch"], **arguments).to_dict()


def list_(step):
    found = resource(step["type"])
    query = {"label_selector": step.get("labels"), "field_selector": step.get("fields"), "limit": step.get("limit")}
    query = {key: value for key, value in query.items() if value is not None}
    names, token = [], None
    while True:
        page = found.get(namespace=namespace, **query, **({"_continue": token} if token else {})).to_dict()
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            return names


def watch(step):
    found = resource(step["type"])
    events = found.watch(namespace=namespace, resource_version=step["from"], timeout=1)
    return [f"{event['type']} {event['object'].metadata.name}" for event in events]


def scale(step):
    body = {"spec": {"replicas": step["replicas"]}}
    return client.AppsV1Api(api).patch_namespaced_deployment_scale(step["name"], namespace, body).spec.replicas


def logs(step):
    return core.read_namespaced_pod_log(step["name"], namespace)


def evict(step):
    metadata = client.V1ObjectMeta(name=step["name"], namespace=namespace)
    core.create_namespaced_pod_eviction(step["name"], namespace, client.V1Eviction(metadata=metadata))
    return True


def token(step):
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    answer = core.create_namespaced_service_account_token(step["name"], namespace, request)
    return answer.status.token.count(".") == 2


def may(step):
    wanted = client.V1ResourceAttributes(verb=step["verb"], resource=step["resource"], namespace=namespace)
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=wanted))
    return client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed


def delete(step):
    options = {"propagationPolicy": step["propagation"]} if "propagation" in step else {}
    resource(step["type"]).delete(name=step["name"], namespace=namespace, body=options)
    return True


VERBS = {"list": list_}


def outcome(step):
    try:
        return {"value": VERBS.get(step["do"], globals().get(step["do"]))(step)}
    except ApiException as error:
        status = json.loads(error.body)
        return {"reason": status["reason"], "message": status["message"]}


for line in sys.stdin:
    print(json.dumps(outcome(json.loads(line))), flush=True)
