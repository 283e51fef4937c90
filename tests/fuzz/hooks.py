"""Keeps the fuzzer's world in order: what ends a user or an app gets one of its own to end."""

import itertools
import os

import requests
import schemathesis

BASE = os.environ["FUZZ_BASE"]
ADMINISTRATOR = {"Authorization": os.environ["FUZZ_TOKEN"]}
NUMBERS = itertools.count()
# What ends the caller's token, or the caller.
ENDS_CALLER = {("POST", "/v2/auth/tokens"), ("DELETE", "/v2/auth/cancel"), ("DELETE", "/v2/tokens/{id}")}


def post(path, body, headers=None):
    answer = requests.post(BASE + path, json=body, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer.json()


@schemathesis.hook
def before_call(context, case, kwargs):
    method, path = case.method.upper(), case.operation.path
    # Who follows a log is answered for ever.
    (case.query or {}).pop("follow", None)
    if (method, path) in ENDS_CALLER and "Authorization" in (case.headers or {}):
        user = {"username": f"short-lived-{next(NUMBERS)}", "password": "fuzz"}
        post("/v2/auth/register", user, ADMINISTRATOR)
        case.headers["Authorization"] = "token " + post("/v2/auth/login", user)["token"]
    if (method, path) == ("DELETE", "/v2/admin/perms/{username}") and case.path_parameters["username"] == "fuzz":
        # The fuzzer itself stays what it is.
        case.path_parameters["username"] = "nobody"
    if (method, path) == ("DELETE", "/v2/apps/{app}"):
        app = f"short-lived-{next(NUMBERS)}"
        post("/v2/apps", {"id": app}, ADMINISTRATOR)
        case.path_parameters["app"] = app
