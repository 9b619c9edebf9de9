"""Replays the scenario with a published Python client: `python_client.py segment|rudder`, scenario on stdin.

Prints the ids that were used as JSON. Exits with 1 when the client reports a failed delivery.
"""

import json
import os
import sys


def make_client(flavour, failures):
    settings = {
        "host": os.environ["SEGUE_URL"],
        "on_error": lambda error, batch: failures.append(f"{error} ({len(batch)} calls)"),
        "max_retries": 3,
    }
    if flavour == "segment":
        from segment.analytics.client import Client
    elif flavour == "segment-gzip":
        from segment.analytics.client import Client

        settings["gzip"] = True
    else:
        from rudderstack.analytics.client import Client
    return Client(os.environ["SEGUE_WRITE_KEY"], **settings)


def send(client, step, who):
    """One call in the client's own terms; `who` are the ids that the caller knows at this point."""
    kind = step["type"]
    if kind == "track":
        client.track(event=step["event"], properties=step["properties"], **who)
    elif kind == "page":
        client.page(name=step["name"], properties=step["properties"], **who)
    elif kind == "identify":
        client.identify(traits=step["traits"], **who)
    elif kind == "group":
        client.group(group_id=step["groupId"], traits=step["traits"], **who)
    elif kind == "alias":
        client.alias(previous_id=step["previous_id"], user_id=who["user_id"])
    else:
        raise ValueError(f"the scenario has a call that this client does not know: {kind}")


def main():
    given = json.load(sys.stdin)
    names = given["names"]
    failures = []
    client = make_client(sys.argv[1], failures)
    logged_in = False
    for step in given["steps"]:
        who = {"anonymous_id": names[step["who"]]}
        if step["who"] == "main":
            logged_in = logged_in or step.get("login", False)
            if logged_in:
                who["user_id"] = names["user"]
        if step["type"] == "alias":
            step["previous_id"] = names[step["previous"]]
        send(client, step, who)
    client.flush()
    client.join()
    if failures:
        sys.exit("delivery failed: " + "; ".join(failures))
    json.dump({"names": names}, sys.stdout)


main()
